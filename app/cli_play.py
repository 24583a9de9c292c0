"""`escalade play`: a game in the terminal against the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

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
from escalade.app.render import decision_headline, rung_table
from escalade.app.settings import read_settings
from escalade.app.tracing import sampled
from escalade.domains.base import Domain
from escalade.domains.decision import Decision
from escalade.domains.errors import ActionError, NoSimulatorError
from escalade.nodes.context import DecisionContext

if TYPE_CHECKING:
    from escalade.app.wiring import Decider

MOST_NAMES = 60
"""Legal moves that are listed by name."""
COMMANDS = "moves (list the legal moves), hint, undo, rungs (how the last move was decided), q (quit)"


def play(
    domain: DomainArgument,
    state: Annotated[str | None, typer.Option(help="State to start from.")] = None,
    second: Annotated[bool, typer.Option("--second", help="Let the graph move first.")] = False,
    rungs: Annotated[
        bool, typer.Option("--rungs", help="Show the table of rungs after every move of the graph.")
    ] = False,
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
    """Play against the graph in the terminal.

    Enter a move, or a command: moves lists the legal moves, hint asks the graph for yours, undo takes back your last
    move, rungs shows how the last move was decided, q quits. Where a move is named like one, /undo is the command.
    """
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
    game = decider.domain
    if not game.has_simulator:
        raise NoSimulatorError(f"domain '{game.name}' has no simulator, so it cannot be played")
    start = game.parse(state) if state is not None else game.initial_state()
    _Match(decider, context, Console(), start, second=second, rungs=rungs).play()


class _Match:
    """One game. The person is whoever moves first, or, with `second`, whoever moves when the graph has moved."""

    def __init__(
        self, decider: Decider, context: DecisionContext, console: Console, start: Any, *, second: bool, rungs: bool
    ) -> None:
        self.decider, self.context, self.console = decider, context, console
        self.game: Domain[Any] = decider.domain
        self.state = start
        self.me = None if second else self.game.to_move(start)
        self.rungs = rungs
        self.choices: list[Any] = []
        """States in which the person had a choice and moved, to go back to."""
        self.last: Decision | None = None
        """The last decision of the graph, hints included."""

    def play(self) -> None:
        """Play to the end, or until the person quits."""
        game = self.game
        self.console.print(f"[dim]enter a move, or {COMMANDS}[/]", highlight=False, soft_wrap=True)
        mover: int | None = None
        seen: set[int] = set()
        while not game.is_terminal(self.state):
            before, mover = mover, game.to_move(self.state)
            if self.me is None and before is not None and mover != before:
                self.me = mover  # the graph has moved first
            mine = mover == self.me
            seen.add(mover)
            if mover == before and len(seen) == 2:  # not so of one who plays alone
                who = "it is your turn again" if mine else "the graph moves again"
                self.console.print(f"[yellow]{who}: the other side has no turn here[/]")
            if not mine:
                self._graph_moves()
                continue
            made = len(self.choices)
            if not self._person_moves():
                return
            if len(self.choices) < made:
                mover = None  # back at an earlier turn: nobody moves twice
        outcome = game.outcome(self.state)
        for_me = outcome if game.to_move(self.state) == self._person(mover) else -outcome
        told = "You win." if for_me > 0 else "You lose." if for_me < 0 else "A draw."
        self.console.print(f"\nFinal state: {escape(game.format(self.state))}. {told}")

    def _person(self, mover: int | None) -> int:
        """Which player the person is; in a game that ended before their turn, the one who did not move."""
        if self.me is not None:
            return self.me
        return self.game.to_move(self.state) if mover is None else 1 - mover

    def _decided(self) -> Decision:
        from escalade.graph.decision import decided  # brings LangGraph, which takes a second to load

        with sampled(self.decider.trace_share):
            result = self.decider.graph.invoke({"state": self.game.format(self.state)}, context=self.context)
        self.last = Decision.model_validate(decided(result))
        return self.last

    def _graph_moves(self) -> None:
        forced = len(self.game.legal_actions(self.state)) == 1
        decision = self._decided()
        self.console.print(decision_headline(decision))
        if forced:
            self.console.print(f"[yellow]{escape(decision.action_name)} was its only legal move[/]", highlight=False)
        if self.rungs:
            self.console.print(rung_table(self.game, decision))
        self.state = self.game.step(self.state, decision.action)

    def _person_moves(self) -> bool:
        """The person's turn, undone or moved; False if they quit."""
        self.console.print(f"\n{escape(self.game.describe(self.state))}", highlight=False)
        legal = list(self.game.legal_actions(self.state))
        if len(legal) == 1:
            name = self.game.action_name(legal[0])
            self.console.print(f"[yellow]{escape(name)} is your only legal move, so it is made[/]", highlight=False)
            self.state = self.game.step(self.state, legal[0])
            return True
        while True:
            try:
                typed = self.console.input("your move: ").strip()
            except (EOFError, KeyboardInterrupt):
                self.console.print()
                return False
            action = self._action(typed, legal)
            if action is not None:
                self.choices.append(self.state)
                self.state = self.game.step(self.state, action)
                return True
            command = typed.lower().removeprefix("/")
            if command in ("q", "quit"):
                return False
            if command == "undo" and self.choices:
                self.state = self.choices.pop()
                return True
            self._answer(command, typed, legal)

    def _action(self, typed: str, legal: Sequence[int]) -> int | None:
        """The legal action that was named; None for anything else."""
        try:
            action = self.game.parse_action(typed)
        except ActionError:
            return None
        return action if action in legal else None

    def _answer(self, command: str, typed: str, legal: Sequence[int]) -> None:
        """What there is to say to a command that moves nothing, or to what is no legal move."""
        if command == "undo":
            self.console.print("there is no move of yours to take back")
        elif command == "hint":
            self.console.print(Text("hint: ").append_text(decision_headline(self._decided())))
        elif command == "rungs":
            if self.last is None:
                self.console.print("the graph has decided nothing yet")
            else:
                self.console.print(rung_table(self.game, self.last))
        elif command in ("moves", "help", "?"):
            self.console.print(f"legal moves: {escape(self._names(legal))}", highlight=False, soft_wrap=True)
            if command != "moves":
                self.console.print(f"commands: {COMMANDS}", highlight=False, soft_wrap=True)
        else:
            try:
                self.game.parse_action(typed)
                fault = f"'{typed}' is not legal now"
            except ActionError as error:
                fault = str(error)
            told = f"{fault}; legal moves: {self._names(legal)}"
            self.console.print(f"[red]{escape(told)}[/]", highlight=False, soft_wrap=True)

    def _names(self, legal: Sequence[int]) -> str:
        names = [self.game.action_name(action) for action in legal]
        more = f", and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        return ", ".join(names[:MOST_NAMES]) + more
