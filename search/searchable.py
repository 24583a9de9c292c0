"""What can be searched, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from escalade.domains.base import Domain
from escalade.domains.errors import NoSimulatorError, StateError


def check_simulator(domain: Domain[Any]) -> None:
    """Raises NoSimulatorError for a domain that cannot look ahead."""
    if not domain.has_simulator:
        raise NoSimulatorError(f"domain '{domain.name}' has no simulator, so it cannot be searched")


def check_states(domain: Domain[Any], states: Sequence[Any]) -> None:
    """Raises StateError for the text of a state in place of the state."""
    for state in states:
        if isinstance(state, str) and not isinstance(domain.initial_state(), str):
            raise StateError(f"'{state[:40]}' is the text of a state: give domain.parse(text)")


def check_unfinished(domain: Domain[Any], state: Any) -> None:
    """Raises StateError for a state that cannot be searched."""
    check_states(domain, [state])
    if domain.is_terminal(state):
        raise finished(domain, state)


def finished(domain: Domain[Any], state: Any) -> StateError:
    return StateError(f"the state '{domain.format(state)}' is finished: there is nothing to search")
