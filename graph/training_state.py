"""What the training graph is told, keeps between its steps, and tells; all of it plain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypedDict

from escalade.domains.errors import SettingsError


def _gathered(old: list[dict[str, Any]], new: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """What the collectors of an iteration report; None begins a new list."""
    return [] if new is None else [*old, *new]


class TrainingInput(TypedDict, total=False):
    """What a run may be told. Everything but the domain has a default; a run that exists goes on with its own."""

    domain: str
    run: str
    """Name of the run, a folder under the graph's root; one made from the thread or the time if left out."""
    recipe: str | dict[str, Any]
    """Name of a recipe, or one in full (`Recipe.plain`)."""
    iterations: int | None
    """How many in all; the recipe's if neither this nor minutes is given."""
    minutes: float | None
    """How long it may take, about; what was stopped in between does not count."""
    seed: int
    options: dict[str, Any]
    """Of the domain."""
    experience: list[str]
    exclude: list[str]
    start: str | None
    """As in `escalade.training.run.RunConfig`."""


class TrainingState(TrainingInput, total=False):
    """Between the steps: where the run is. spent: the budget, so that nothing is left to do. ends_at: the minutes for
    which this iteration is the last. seconds: of work so far. span: how far the run is when a fit begins and ends.
    history: a line of figures an iteration."""

    iteration: int
    spent: bool
    last: bool
    ends_at: float | None
    seconds: float
    iteration_seconds: float
    tasks: list[dict[str, Any]]
    collected: Annotated[list[dict[str, Any]], _gathered]
    span: list[float]
    history: list[dict[str, Any]]
    champion: dict[str, Any] | None


class TrainingOutput(TypedDict, total=False):
    """What a finished run tells."""

    run: str
    iteration: int
    seconds: float
    history: list[dict[str, Any]]
    champion: dict[str, Any] | None
    bundle: str


class CollectState(TypedDict):
    """What one collector is sent."""

    run: str
    task: dict[str, Any]


def check_input(state: TrainingInput) -> None:
    """Raises SettingsError naming the field that is not as `TrainingInput` says."""
    if not isinstance(state.get("domain"), str) and not state.get("run"):
        raise SettingsError("domain: name what is to be learned, such as 'tic_tac_toe'")
    name = state.get("run")
    if name is not None and (not isinstance(name, str) or not name or Path(name).name != name or name.startswith(".")):
        raise SettingsError(f"run: the name of a folder, without '/', not {name!r}")
    for field_name, least in (("iterations", 1), ("minutes", 0)):
        number: Any = state.get(field_name)
        kinds = (int,) if field_name == "iterations" else (int, float)
        if number is not None and (isinstance(number, bool) or not isinstance(number, kinds) or not number >= least):
            raise SettingsError(f"{field_name}: a number, at least {least}, not {number!r}")
    seed: Any = state.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise SettingsError(f"seed: a whole number from 0 to 2^63 - 1, not {seed!r}")
    begin: Any = state.get("start")
    if begin is not None and not isinstance(begin, str):
        raise SettingsError(f"start: the name of a bundle, such as 'builtin:connect_four', not {begin!r}")
    for field_name in ("experience", "exclude"):
        paths: Any = state.get(field_name) or []
        if not isinstance(paths, list | tuple) or not all(isinstance(path, str) for path in paths):
            raise SettingsError(f"{field_name}: a list of paths, not {paths!r}")
