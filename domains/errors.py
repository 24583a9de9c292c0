"""Every error Escalade raises on purpose.

EscaladeError          (RuntimeError)
├── StateError         a text or JSON value is not a state of the domain (ValueError)
├── ActionError        a name or number is not an action, or not a legal one (ValueError)
├── CatalogError       no such domain, or its options are wrong (ValueError)
├── DomainFault        a domain broke one of its own laws while it was used (RuntimeError)
├── FileError          a user's file is no text, or not the table that it should be (ValueError)
├── SettingsError      a setting or a run option is wrong (ValueError)
├── NoSimulatorError   the domain cannot look ahead (TypeError)
├── BundleError        a model bundle is damaged, foreign or unreadable (ValueError)
├── RegistryError      the model registry is missing, damaged, or has no such model, version or alias (ValueError)
├── OverloadedError    a bounded queue is full; try again later
├── DeadlineError      the time a caller allowed had passed (TimeoutError)
├── CancelledSearch    a search was told to stop before it had an answer
└── NoDecisionError    no rung gave a legal action; carries the report of every rung

Messages are one sentence that names the field at fault and what to do about it.

All of them are of a builtin kind too: the LangGraph API server passes on the text of builtin kinds only, and shows "An
internal error occurred" in place of any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from escalade.domains.decision import FailedDecision


class EscaladeError(RuntimeError):
    """Base of all of them. `failed`: the record of the decision that it ended, None where it ended none."""

    failed: FailedDecision | None = None


class StateError(EscaladeError, ValueError):
    """A state is refused. `position` is the 1-based place of the fault in the text, None where there is none."""

    def __init__(self, message: str, *, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class ActionError(EscaladeError, ValueError):
    pass


class CatalogError(EscaladeError, ValueError):
    pass


class DomainFault(EscaladeError, RuntimeError):
    pass


class FileError(EscaladeError, ValueError):
    pass


class SettingsError(EscaladeError, ValueError):
    """A setting or a run option is refused. `option` is the run option at fault, None where it is none."""

    def __init__(self, message: str, *, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


class NoSimulatorError(EscaladeError, TypeError):
    pass


class BundleError(EscaladeError, ValueError):
    pass


class RegistryError(EscaladeError, ValueError):
    pass


class OverloadedError(EscaladeError):
    pass


class DeadlineError(EscaladeError, TimeoutError):
    pass


class CancelledSearch(EscaladeError):
    pass


class NoDecisionError(EscaladeError):
    """No rung gave an action. `reports` are the rung reports as plain dicts, in ladder order."""

    def __init__(self, message: str, *, reports: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message)
        self.reports = list(reports)
