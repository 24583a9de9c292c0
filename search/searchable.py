"""What can be searched, and what is said of the rest: the checks at the door, so that only what is sound gets to the
kernels, and to the waves that others share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from escalade.domains.base import ArrayDomain, Domain, IntArray
from escalade.domains.errors import EscaladeError, NoSimulatorError, SettingsError, StateError
from escalade.search.config import SearchConfig


def check_domain_and_evaluator(domain: Any, evaluator: Any) -> None:
    """Raises NoSimulatorError for a domain that cannot look ahead, SettingsError for what is no domain or evaluator."""
    if isinstance(domain, str | type) or not hasattr(domain, "has_simulator"):
        raise SettingsError(f"domain must be a Domain, such as load_domain(name) gives, not {domain!r}")
    check_simulator(domain)
    if isinstance(evaluator, type) or not (hasattr(evaluator, "evaluate") or hasattr(evaluator, "evaluate_states")):
        raise SettingsError(f"evaluator must have a method evaluate or evaluate_states, which {evaluator!r} has not")


def check_simulator(domain: Domain[Any]) -> None:
    """Raises NoSimulatorError for a domain that cannot look ahead."""
    if not domain.has_simulator:
        raise NoSimulatorError(f"domain '{domain.name}' has no simulator, so it cannot be searched")


def check_config(config: Any) -> None:
    """Raises SettingsError for what is no SearchConfig."""
    if not isinstance(config, SearchConfig):
        raise SettingsError(f"config must be a SearchConfig, not {config!r}")


def checked_deadline(deadline: Any) -> float | None:
    """A time of some clock as a plain number. Raises SettingsError for anything else."""
    if deadline is None:
        return None
    try:
        if not isinstance(deadline, int | float | np.integer | np.floating) or np.isnan(float(deadline)):
            raise TypeError
        return float(deadline)
    except (TypeError, OverflowError):
        raise SettingsError(f"deadline must be a time of the clock in seconds, not {str(deadline)[:40]!r}") from None


def check_states(domain: Domain[Any], states: Iterable[Any]) -> list[Any]:
    """The states as a list. Raises StateError for the text of a state in place of the state."""
    if isinstance(states, str) or not isinstance(states, Iterable):
        raise StateError(f"states must be a list of states, not {states!r}")
    states = list(states)
    for state in states:
        if isinstance(state, str) and not isinstance(domain.initial_state(), str):
            raise StateError(f"'{state[:40]}' is the text of a state: give domain.parse(text)")
    return states


def check_unfinished(domain: Domain[Any], state: Any) -> None:
    """Raises StateError for a state that cannot be searched."""
    check_states(domain, [state])
    try:
        over = domain.is_terminal(state)
    except EscaladeError:
        raise
    except Exception as error:
        raise StateError(f"{state!r:.80} is not a state of domain '{domain.name}': {error!r}") from error
    if over:
        raise finished(domain, state)


def finished(domain: Domain[Any], state: Any) -> StateError:
    return StateError(f"the state '{domain.format(state)}' is finished: there is nothing to search")


def rows_of(domain: ArrayDomain[Any], states: Sequence[Any]) -> IntArray:
    """`domain.to_rows`. Raises StateError for what is no state."""
    try:
        return domain.to_rows(states)
    except EscaladeError:
        raise
    except Exception as error:
        what = f"{states[0]!r:.80} is not a state" if len(states) == 1 else "one of them is not a state"
        raise StateError(f"{what} of domain '{domain.name}': {error!r}") from error
