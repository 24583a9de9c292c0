"""`escalade play`: a game in the terminal against the graph, with every rung's report."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from escalade.app.cli_options import (
    AlphaOption,
    BundleOption,
    DeadlineOption,
    DomainArgument,
    DomainOptions,
    LadderOption,
    ModeOption,
    SeedOption,
    SimulationsOption,
    ThresholdOption,
    decider_for,
    run_context,
)
from escalade.app.render import decision_view
from escalade.app.settings import read_settings
from escalade.app.tracing import sampled
from escalade.domains.base import Domain
from escalade.domains.decision import Decision
from escalade.domains.errors import ActionError, NoSimulatorError


def play(
    domain: DomainArgument,
    state: Annotated[str | None, typer.Option(help="State to start from.")] = None,
    second: Annotated[bool, typer.Option("--second", help="Let the graph move first.")] = False,
    mode: ModeOption = None,
    ladder: LadderOption = None,
    alpha: AlphaOption = None,
    threshold: ThresholdOption = None,
    simulations: SimulationsOption = None,
    seed: SeedOption = None,
    deadline_ms: DeadlineOption = None,
    bundle: BundleOption = None,
    option: DomainOptions = None,
) -> None:
    """Play against the graph in the terminal. Enter a move, or q to quit."""
    from escalade.graph.decision import decided  # brings LangGraph, which takes a second to load

    context = run_context(
        ladder=ladder,
        thresholds=threshold,
        mode=mode,
        alpha=alpha,
        simulations=simulations,
        seed=seed,
        deadline_ms=deadline_ms,
    )
    decider = decider_for(read_settings(), domain, option, bundle)
    game, console = decider.domain, Console()
    if not game.has_simulator:
        raise NoSimulatorError(f"domain '{game.name}' has no simulator, so it cannot be played")
    current = game.parse(state) if state is not None else game.initial_state()
    me = game.to_move(current) if not second else None
    while not game.is_terminal(current):
        if me is None or game.to_move(current) != me:
            with sampled(decider.trace_share):
                result = decider.graph.invoke({"state": game.format(current)}, context=context)
            decision = Decision.model_validate(decided(result))
            console.print(decision_view(game, decision))
            current = game.step(current, decision.action)
            if me is None:
                me = game.to_move(current)
            continue
        console.print(f"\n{escape(game.describe(current))}")
        action = _ask(game, current, console)
        if action is None:
            return
        current = game.step(current, action)
    outcome = game.outcome(current)
    mine = outcome if game.to_move(current) == me else -outcome
    told = "You win." if mine > 0 else "You lose." if mine < 0 else "A draw."
    console.print(f"\nFinal state: {escape(game.format(current))}. {told}")


def _ask(game: Domain[Any], state: Any, console: Console) -> int | None:
    """A legal action from the person, None to stop."""
    names = [game.action_name(action) for action in game.legal_actions(state)]
    while True:
        try:
            typed = console.input("your move: ").strip()
        except (EOFError, KeyboardInterrupt):
            console.print()
            return None
        if typed.lower() in ("q", "quit"):
            return None
        try:
            action = game.parse_action(typed)
        except ActionError as error:
            console.print(f"[red]{escape(str(error))}[/]")
            continue
        if action in game.legal_actions(state):
            return action
        console.print(f"[red]{escape(typed)} is not legal now; choose one of {', '.join(names)}[/]")
