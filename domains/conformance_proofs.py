"""The law of what a domain proves without a search. Written as those of `domains/conformance_laws.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from escalade.domains.conformance_probe import Cases, LawBroken, LawSkipped, Probe, fresh, kind_of, short

MAX_PROOFS = 1024
"""States checked. All that follow them are looked at too, so there are fewer than elsewhere."""


def proofs_hold(probe: Probe) -> Cases:
    """What is proven is compared with what is known one ply on: that the game is over, or how it can be ended, or what
    is proven there in turn."""
    probe.needs_simulator()
    told = False
    for state in probe.open_states(MAX_PROOFS):
        for action, value in _proven(probe, state).items():
            told = True
            low, high = _worth(probe, state, action)
            # Values that come from a kernel were rounded to float32.
            if not np.float32(low) <= np.float32(value) <= np.float32(high):
                found = f"it is worth {low}" if low == high else f"it is worth {low} to {high}"
                raise LawBroken(
                    f"{probe.call('proven_actions', state)} says that action {action} is worth {value}, and by what "
                    f"follows {found}; give only what is sure, from the view of the player to move before the action"
                )
        yield
    if not told:
        raise LawSkipped("proven_actions proves nothing, so search finds all out by itself")
    return None


def _proven(probe: Probe, state: Any) -> Mapping[int, float]:
    """What `proven_actions` says of a state. Raises LawBroken if that cannot be, whatever follows."""
    proven = probe.ask("proven_actions", fresh(state))
    if proven is None:
        return {}
    call = probe.call("proven_actions", state)
    if not isinstance(proven, Mapping):
        raise LawBroken(f"{call} is a {kind_of(proven)}; give a dict from actions to values, or None")
    legal = probe.legal(state)
    for action, value in proven.items():
        if type(action) is not int or type(value) not in (int, float):
            raise LawBroken(f"{call} holds {kind_of(action)}: {kind_of(value)}; give plain ints to plain numbers")
        if action not in legal:
            raise LawBroken(f"{call} holds {short(action)}, which is not legal there; name legal actions only")
        if not -1.0 <= value <= 1.0:
            raise LawBroken(f"{call} says that action {action} is worth {short(value)}; values are in [-1, 1]")
    return proven


def _worth(probe: Probe, state: Any, action: int) -> tuple[float, float]:
    """Between what an action is worth to the one who takes it, as far as is known one ply on."""
    after = probe.ask("step", fresh(state), action)
    if probe.ask("is_terminal", fresh(after)):
        low = high = float(probe.ask("outcome", fresh(after)))
    else:
        known = {**(probe.ask("ending_actions", fresh(after)) or {}), **_proven(probe, after)}
        low = max(known.values(), default=-1.0)
        high = low if set(known) == set(probe.legal(after)) else 1.0
    same = probe.ask("to_move", fresh(after)) == probe.ask("to_move", fresh(state))
    return (low, high) if same else (0.0 - high, 0.0 - low)
