"""The law of a domain's own exact solver. Written as those of `domains/conformance_laws.py`."""

from __future__ import annotations

from typing import Any

from escalade.domains.conformance_probe import Cases, LawBroken, LawSkipped, Probe, fresh, kind_of, short, told

MAX_STEPS = 20_000
"""Steps taken, over all positions, to play them out."""
MAX_STEPS_EACH = 2_000
"""Steps for one position: one that takes more is left out, and with it all earlier ones of its game."""


def solver_is_exact(probe: Probe) -> Cases:
    """The positions of the games, from the last back, are played out as far as that is quick."""
    probe.needs_simulator()
    solver = probe.ask("solver")
    if solver is None:
        raise LawSkipped("the domain brings no exact solver")
    for method in ("scores", "value"):
        if not callable(getattr(solver, method, None)):
            raise LawBroken(f"solver() is a {kind_of(solver)} without a method {method}; see domains/solver.py")
    worth = _Worth(probe)
    seen: set[str] = set()
    checked = 0
    for game in probe.games:
        if not game.over:
            continue
        for state in reversed(game.states):
            name = probe.show(state)
            if name in seen:
                continue
            seen.add(name)
            if worth.steps >= MAX_STEPS:
                return f"{checked} positions were played out to their ends"
            exact = worth.of(fresh(state), worth.steps + MAX_STEPS_EACH)
            if exact is None:
                break
            _compare(probe, solver, state, exact, worth)
            checked += 1
            yield
    _lists_all(probe, solver)
    if not checked:
        raise LawSkipped("no position could be played out in a reasonable number of steps")
    return f"{checked} positions were played out to their ends"


class _Worth:
    """What positions are worth under perfect play, found by playing them out."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.steps = 0
        self._known: dict[str, int] = {}

    def of(self, state: Any, most: int) -> int | None:
        """1, 0 or -1 for the player to move; None if that takes more steps than `most`, all told."""
        probe = self.probe
        key = str(probe.ask("format", fresh(state)))
        if key in self._known:
            return self._known[key]
        if probe.ask("is_terminal", fresh(state)):
            best = _sign(probe.ask("outcome", fresh(state)))
        else:
            best = -2
            for action in probe.legal(state):
                worth = self.after(state, action, most)
                if worth is None:
                    return None
                best = max(best, worth)
        self._known[key] = best
        return best

    def after(self, state: Any, action: int, most: int) -> int | None:
        """What an action is worth to the player who takes it."""
        if self.steps >= most:
            return None
        self.steps += 1
        after = self.probe.ask("step", fresh(state), action)
        same = self.probe.ask("to_move", fresh(after)) == self.probe.ask("to_move", fresh(state))
        try:
            worth = self.of(after, most)
        except RecursionError:
            return None
        return worth if worth is None or same else -worth


def _compare(probe: Probe, solver: Any, state: Any, exact: int, worth: _Worth) -> None:
    name = probe.show(state)
    value = _asked(solver.value, "value", name, state)
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in (-1, 0, 1):
        raise LawBroken(f"solver().value({name}) is {short(value)}; give 1, 0 or -1")
    if value != exact:
        raise LawBroken(
            f"solver().value({name}) is {value:g}, and by playing it out it is {exact}; give 1 where the player to "
            "move wins, -1 where that player loses, 0 for a draw"
        )
    if probe.ask("is_terminal", fresh(state)):
        return
    scores = _asked(solver.scores, "scores", name, state)
    if not isinstance(scores, list) or len(scores) != probe.domain.num_actions:
        raise LawBroken(
            f"solver().scores({name}) is {short(scores)}; give a list of {probe.domain.num_actions}, a score or None "
            "for each action"
        )
    legal = probe.legal(state)
    for action, score in enumerate(scores):
        if (score is None) != (action not in legal):
            raise LawBroken(
                f"solver().scores({name}) gives action {action} the score {short(score)}, but that action is "
                f"{'legal' if action in legal else 'illegal'} there; give None to illegal actions, and to no other"
            )
        if score is None:
            continue
        if isinstance(score, bool) or not isinstance(score, int | float) or score != score:
            raise LawBroken(f"solver().scores({name}) gives action {action} the score {short(score)}; give a number")
        found = worth.after(state, action, worth.steps + MAX_STEPS_EACH)
        if found is not None and _sign(score) != found:
            raise LawBroken(
                f"solver().scores({name}) gives action {action} the score {score:g}, and by playing it out it is worth "
                f"{found} to the player who takes it; give a positive score to a win, a negative one to a loss, 0 to a "
                "draw, from the view of the player to move before the action"
            )


def _lists_all(probe: Probe, solver: Any) -> None:
    """A list of all positions holds those of the games."""
    listed = getattr(solver, "reachable_positions", None)
    if not callable(listed):
        return
    states = [state for state in listed() if not probe.ask("is_terminal", fresh(state))]
    known = {row.tobytes() for row in probe.encoded(states)} if states else set()
    met = probe.open_states()
    for state, row in zip(met, probe.encoded(met), strict=True):
        if row.tobytes() not in known:
            raise LawBroken(
                f"solver().reachable_positions() lacks {probe.show(state)}, which a random game reached; list every "
                "position, or leave that method out"
            )


def _asked(method: Any, name: str, shown: str, state: Any) -> Any:
    try:
        return method(fresh(state))
    except KeyboardInterrupt:
        raise
    except Exception as error:
        raise LawBroken(f"solver().{name}({shown}) raised {told(error)}; it must answer here") from error


def _sign(value: float) -> int:
    return int(value > 0) - int(value < 0)
