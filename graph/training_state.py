"""Input, state and output of the training graph; all of it plain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from escalade.domains.errors import SettingsError


def _gathered(old: list[dict[str, Any]], new: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """What the collectors of an iteration report; None begins a new list."""
    return [] if new is None else [*old, *new]


class TrainingInput(TypedDict, total=False):
    """What to train. Everything but the domain has a default; a run that exists goes on with its own."""

    domain: Annotated[str, Field(description="The domain to train for, such as tic_tac_toe.")]
    run: Annotated[
        str,
        Field(
            description="Name of the run, a folder under the graph's root; one made from the thread or the time if "
            "left out. A run that exists is continued."
        ),
    ]
    recipe: Annotated[
        str | dict[str, Any],
        Field(description="Name of a recipe, or one as JSON, which may name as `base` the recipe that it changes."),
    ]
    iterations: Annotated[
        int | None,
        Field(description="How many iterations in all; the recipe's if neither this nor minutes is given."),
    ]
    minutes: Annotated[
        float | None,
        Field(description="Minutes of work in all; time while the run was stopped does not count."),
    ]
    seed: Annotated[int, Field(description="Random seed, from 0 to 2^63 - 1.")]
    options: Annotated[dict[str, Any], Field(description="Options of the domain.")]
    experience: Annotated[
        list[str], Field(description="Folders of other experience stores of the domain to learn from too.")
    ]
    exclude: Annotated[list[str], Field(description="Files of test positions that are never learned from.")]
    start: Annotated[
        str | None,
        Field(description="The bundle to start from, a folder or builtin:NAME; random weights if left out."),
    ]


class TrainingState(TrainingInput, total=False):
    """The state of the graph between its nodes: where the run is."""

    iteration: Annotated[int, Field(description="The iteration under way, from 1.")]
    spent: Annotated[bool, Field(description="Whether the budget is spent, so that nothing is left to do.")]
    last: Annotated[bool, Field(description="Whether this iteration is the last.")]
    ends_at: Annotated[float | None, Field(description="The minutes for which this iteration is the last.")]
    ended: Annotated[
        dict[str, Any] | None,
        Field(
            description="Why the run is over: `reason` is 'budget' or 'patience'; after which `iteration`, and with "
            "which budget of `minutes` and `iterations`. Null: it never was."
        ),
    ]
    seconds: Annotated[float, Field(description="Seconds of work so far.")]
    fit_seconds: Annotated[float, Field(description="Seconds that the fit of this iteration has, in a run by minutes.")]
    collect_ends: Annotated[
        float | None, Field(description="Seconds of work after which collecting ends, in a run by minutes.")
    ]
    pace: Annotated[dict[str, float], Field(description="Seconds a game or a family, by source.")]
    tasks: Annotated[list[dict[str, Any]], Field(description="What the collectors are to do.")]
    collected: Annotated[
        list[dict[str, Any]], Field(description="What the collectors of this iteration report."), _gathered
    ]
    span: Annotated[list[float], Field(description="How far the run is when this fit begins and ends, each in [0, 1].")]
    history: Annotated[list[dict[str, Any]], Field(description="Figures of every iteration.")]
    champion: Annotated[dict[str, Any] | None, Field(description="The best network so far; null: none yet.")]


class TrainingOutput(TypedDict, total=False):
    """What a finished run returns."""

    run: Annotated[str, Field(description="Name of the run.")]
    iteration: Annotated[int, Field(description="The last iteration.")]
    seconds: Annotated[float, Field(description="Seconds of work in all.")]
    history: Annotated[list[dict[str, Any]], Field(description="Figures of every iteration.")]
    ended: Annotated[dict[str, Any] | None, Field(description="Why it is over: `reason` is 'budget' or 'patience'.")]
    champion: Annotated[dict[str, Any] | None, Field(description="The best network; null: none is better than before.")]
    bundle: Annotated[str, Field(description="The champion's bundle folder; empty if there is none.")]


class CollectState(TypedDict):
    """What one collector is sent."""

    run: Annotated[str, Field(description="Name of the run.")]
    task: Annotated[dict[str, Any], Field(description="What to collect.")]
    ends: Annotated[float | None, Field(description="Seconds of work of the run after which it ends; null: never.")]


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
