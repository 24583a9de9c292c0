"""Options that several commands share, and how they become a run's context."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from escalade.app.settings import Settings
from escalade.domains.errors import SettingsError
from escalade.nodes.context import DecisionContext, make_context

if TYPE_CHECKING:
    from escalade.app.wiring import Decider

DomainArgument = Annotated[
    str, typer.Argument(metavar="DOMAIN", help="Name of a domain (see `escalade domains`), or module:Class.")
]
DomainOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option", "-o", metavar="KEY=VALUE", help="Option of the domain, such as labels=FILE; may be repeated."
    ),
]
BundleOption = Annotated[
    str | None,
    typer.Option(
        "--bundle",
        metavar="BUNDLE",
        help="Model bundle: a folder, builtin:NAME, models:/NAME@ALIAS or models:/NAME/VERSION; `none` for no network.",
        show_default="builtin:DOMAIN, if there is one",
    ),
]
MeasuredBundleOption = Annotated[
    str | None,
    typer.Option(
        "--bundle",
        metavar="BUNDLE",
        help="Model bundle: a folder, builtin:NAME, models:/NAME@ALIAS or models:/NAME/VERSION.",
        show_default="builtin:DOMAIN, if there is one",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the output as JSON.")]
ModeOption = Annotated[
    str | None, typer.Option(help="Rungs to use: auto, neural_only, llm_only or search_only.", show_default=False)
]
LadderOption = Annotated[
    str | None, typer.Option(help="Rungs to try, in order, such as policy,value,search.", show_default=False)
]
ThresholdOption = Annotated[
    list[str] | None,
    typer.Option(
        "--threshold",
        metavar="RUNG=P",
        help="Accept this rung at confidence P or above, without a certificate; may be repeated.",
    ),
]
AlphaOption = Annotated[
    float | None,
    typer.Option(
        "--alpha",
        help="Largest share of the networks' decisions that may be worse than the reference's, by their certificate.",
        show_default="0.05",
    ),
]
SimulationsOption = Annotated[int | None, typer.Option(help="MCTS simulations per search.", show_default="400")]
SamplesOption = Annotated[
    int | None,
    typer.Option(
        "--samples",
        help="Answers sampled from the language model; the share that agree is its confidence.",
        show_default="1",
    ),
]
ReasoningOption = Annotated[
    str | None,
    typer.Option(
        "--reasoning",
        help="Reasoning of the language model: short (one call) or full (three to five calls).",
        show_default="short",
    ),
]
SeedOption = Annotated[int | None, typer.Option(help="Random seed.", show_default="0")]
DeadlineOption = Annotated[
    float | None, typer.Option("--deadline-ms", help="Time limit of one decision, in milliseconds.")
]
BudgetOption = Annotated[float | None, typer.Option("--budget-usd", help="Cost limit of one decision, in USD.")]


def domain_options(pairs: list[str] | None) -> dict[str, Any]:
    """`KEY=VALUE` pairs as keyword arguments; values that are JSON are read as such."""
    options: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise SettingsError(f"--option '{pair}' must be KEY=VALUE")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return options


def run_context(
    *, ladder: str | None = None, thresholds: list[str] | None = None, human: bool = False, **options: Any
) -> DecisionContext:
    """The options that were given, checked. options: fields of a context, None where not given."""
    given: dict[str, Any] = {**options, "human": human or None}
    if ladder is not None:
        given["ladder"] = [rung.strip() for rung in ladder.split(",")]
        if "human" in given["ladder"] and not human:
            raise SettingsError("--ladder: a person is asked from here only by `escalade decide DOMAIN STATE --human`")
    for threshold in thresholds or []:
        rung, equals, value = threshold.partition("=")
        if not equals or rung not in ("policy", "value", "reason", "search"):
            raise SettingsError(f"--threshold '{threshold}' must be RUNG=P, RUNG one of policy, value, reason, search")
        given[f"{rung}_threshold"] = value
    return make_context({key: value for key, value in given.items() if value is not None})


def decider_for(settings: Settings, domain: str, options: list[str] | None, bundle: str | None) -> Decider:
    from escalade.app.compiling import announce_compiling

    announce_compiling()
    from escalade.app.wiring import open_decider  # brings LangGraph, which takes a second to load

    return open_decider(settings, domain, options=domain_options(options), bundle=bundle)
