"""What a person may choose per run: the graph's context."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from escalade.domains.decision import Rung
from escalade.domains.errors import SettingsError

Mode = Literal["auto", "neural_only", "llm_only", "search_only"]

MODE_RUNGS: dict[Mode, tuple[Rung, ...]] = {
    "auto": ("policy", "value", "reason", "search", "human"),
    "neural_only": ("policy", "value"),
    "llm_only": ("reason",),
    "search_only": ("search",),
}
"""The rungs each mode may use. The `_only` modes take the first answer these give, whatever its confidence."""

Threshold = Field(
    default=None,
    ge=0,
    le=1,
    description="Minimum confidence at which this rung's answer is accepted, reported as uncertified; if not set, the "
    "certified threshold.",
)


class DecisionContext(BaseModel):
    """Options of one run. Empty fields keep what the graph was built with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Mode = Field(
        default="auto",
        description="auto climbs the ladder; the other modes use only the networks, the language model or the search, "
        "and accept any confidence.",
    )
    ladder: tuple[Rung, ...] | None = Field(
        default=None,
        description="Rungs to try, in order, instead of the default ladder of the domain. With 'human' in it, a person "
        "may be asked.",
    )
    alpha: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="Largest share of the networks' decisions that may be worse than the reference's; the certificate "
        "with the largest alpha up to this one is used.",
    )
    delta: float = Field(default=0.05, gt=0, lt=1, description="Largest probability that a certificate does not hold.")
    policy_threshold: float | None = Threshold
    value_threshold: float | None = Threshold
    reason_threshold: float | None = Threshold
    search_threshold: float | None = Threshold
    simulations: int = Field(default=400, strict=True, ge=1, le=1_000_000, description="MCTS simulations per search.")
    seed: int = Field(
        default=0, strict=True, ge=0, lt=2**63, description="Random seed: equal seeds give equal searches."
    )
    deadline_ms: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Time limit of the whole decision, in milliseconds; rungs that would exceed it are skipped. "
        "Waiting for a person does not count.",
    )
    budget_usd: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Cost limit of the whole decision, in USD; rungs that would exceed it, or have no known price, are "
        "skipped.",
    )
    network_weight: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="Weight of the network's value, against the language model's own, for states that the networks "
        "passed on to the language model.",
    )
    samples: int = Field(
        default=1,
        strict=True,
        ge=1,
        le=64,
        description="Answers sampled from the language model; the share that agree is its confidence.",
    )
    reasoning: Literal["short", "full"] = Field(
        default="short",
        description="short: the language model chooses in one call. full: it plans, uses the networks and the search "
        "as tools, revises, and a lookahead refutes blunders; three to five calls.",
    )
    human: bool = Field(default=False, description="Whether a person may be asked as the last rung.")

    @field_validator("ladder")
    @classmethod
    def _distinct(cls, ladder: tuple[Rung, ...] | None) -> tuple[Rung, ...] | None:
        if ladder is not None and (not ladder or len(set(ladder)) < len(ladder)):
            raise ValueError("name at least one rung, and each only once")
        return ladder

    def threshold(self, rung: str) -> float | None:
        """The threshold given by hand for a rung, if any."""
        value: float | None = getattr(self, f"{rung}_threshold", None)
        return value


@dataclass(frozen=True)
class Limits:
    """What a server allows a client to ask for. None: anything."""

    simulations: int | None = None
    """Most MCTS simulations of one decision."""
    samples: int | None = None
    """Most samples of the language model for one decision."""
    deadline_ms: float | None = None
    """Longest deadline."""
    default_deadline_ms: float | None = None
    """Deadline of a run that has none, nor have the graph's defaults."""

    def applied(self, context: DecisionContext, defaults: DecisionContext) -> DecisionContext:
        """The options of a run, with the default deadline if they have none. Raises SettingsError for an option that
        was given above its limit, naming both; what was not given is lowered to the limit."""
        changed: dict[str, Any] = {}
        for option in ("simulations", "samples", "deadline_ms"):
            given, most = getattr(context, option), getattr(self, option)
            if given is None or most is None or given <= most:
                continue
            if option in context.model_fields_set and given != getattr(defaults, option):
                raise SettingsError(
                    f"option {option}: at most {most:.10g} on this server, not {given:.10g}", option=option
                )
            changed[option] = most
        if context.deadline_ms is None and self.default_deadline_ms is not None:
            own = defaults.deadline_ms
            changed["deadline_ms"] = self.default_deadline_ms if own is None else own
        return context.model_copy(update=changed) if changed else context


NO_LIMITS = Limits()


class CheckedContext(DecisionContext):
    """Options as LangGraph makes them of a dict: what is wrong with them is one sentence, not pydantic's page."""

    model_config = ConfigDict(title="DecisionContext")

    def __init__(self, **values: Any) -> None:
        """Raises SettingsError naming the first field at fault."""
        with refused():
            super().__init__(**values)


def make_context(values: dict[str, Any]) -> DecisionContext:
    """Options from untyped values. Raises SettingsError naming the first field at fault."""
    with refused():
        return DecisionContext.model_validate(values)


@contextmanager
def refused() -> Iterator[None]:
    """Raises SettingsError in place of pydantic's error."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "options"
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            near = difflib.get_close_matches(field, OPTIONS, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(sorted(OPTIONS))}"
            raise SettingsError(f"option {field[:40]}: there is none of this name; {hint}", option=field) from None
        raise SettingsError(f"option {field}: {first['msg'].removeprefix('Value error, ')}", option=field) from None


def _are_options(given: Mapping[str, Any]) -> bool:
    try:
        make_context(dict(given))
    except SettingsError:
        return False
    return True


def read_context(given: Any, defaults: DecisionContext) -> DecisionContext:
    """This run's options, whatever the runtime holds.

    `runtime.context` is ours when our graph is run by itself, None when nothing was given, and the parent's own when
    we are a subgraph: then our part is what the parent keeps under `escalade` (a dict key or an attribute), if any.
    Fields not set keep the graph's defaults. Raises SettingsError for what are no options, and for options that stand
    where nobody would read them.
    """
    if given is None:
        return defaults
    if isinstance(given, str | int | float | list | tuple):
        raise SettingsError(f"context: give options by name, as in {{'simulations': 100}}, not {type(given).__name__}")
    if not isinstance(given, DecisionContext):
        ours = given.get("escalade") if isinstance(given, Mapping) else getattr(given, "escalade", None)
        if ours is None:
            # A host's own key may be named as an option is; what it holds is then rarely one.
            if isinstance(given, Mapping) and given and OPTIONS.issuperset(given) and _are_options(given):
                raise SettingsError(
                    f"context: options of a decision inside another graph belong under 'escalade', as in "
                    f"{{'escalade': {{'{next(iter(given))}': …}}}}; here nobody reads them"
                )
            return defaults
        if not isinstance(ours, DecisionContext | Mapping):
            raise SettingsError(f"the context's 'escalade' must hold options by name, not {type(ours).__name__}")
        given = ours if isinstance(ours, DecisionContext) else make_context(dict(ours))
    if not given.model_fields_set:
        return defaults
    return defaults.model_copy(update={field: getattr(given, field) for field in given.model_fields_set})


def check_place(configurable: Mapping[str, Any], given: Any) -> None:
    """Refuse options in `config["configurable"]` of a run by itself that has no context, where nobody reads them.
    given: the run's context. Raises SettingsError."""
    misplaced = OPTIONS.intersection(configurable) if given is None else ()
    if misplaced and "|" not in configurable.get("checkpoint_ns", ""):  # a host's own may have the same names
        name = min(misplaced)
        raise SettingsError(
            f"config: nobody reads the option '{name}' under 'configurable'; give context={{'{name}': …}} beside config"
        )


def check_input(given: Any) -> None:
    """Refuse options beside the state in the input of a run by itself, where LangGraph drops them. Raises
    SettingsError."""
    misplaced = OPTIONS.intersection(given) if isinstance(given, dict) else ()
    if misplaced:
        name = min(misplaced)
        raise SettingsError(f"input: nobody reads the option '{name}' there; give context={{'{name}': …}} beside it")


OPTIONS = frozenset(DecisionContext.model_fields)
"""The names of all options."""
