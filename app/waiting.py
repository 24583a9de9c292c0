"""How commands that ask a language model about many states wait for its endpoint, and say so."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.progress import Progress, TaskID

from escalade.domains.errors import EscaladeError, SettingsError

if TYPE_CHECKING:
    from escalade.nodes.language_model import LanguageModel
    from escalade.nodes.patience import Patience

T = TypeVar("T")

PATIENCE_S = 600.0
TEMPORARY_FAILURE = 75
"""The exit code of a command of which something is left that may succeed later (EX_TEMPFAIL of sysexits.h)."""
NOTICED_S = 1.0
"""A shorter wait is not shown."""


class LeftOver(EscaladeError):
    """Something is left that may succeed later."""


PatienceOption = Annotated[
    float | None,
    typer.Option(
        "--patience",
        metavar="SECONDS",
        min=0,
        help="How long to wait for the language model's endpoint while it is down or limits calls; 0: not at all.",
        show_default=f"{PATIENCE_S:g}",
    ),
]


def run_asking(work: Coroutine[Any, Any, T], model: LanguageModel | None) -> T:
    """What `work` returns, on an event loop of its own, with the connections to the model closed before that ends."""

    async def whole() -> T:
        try:
            return await work
        finally:
            if model is not None:
                await model.close_here()

    return asyncio.run(whole())


def patience_with(model: LanguageModel | None, seconds: float | None) -> Patience | None:
    """That of all calls to this model from now on, None where there is nothing to wait for. seconds: None for the
    default."""
    from escalade.nodes.patience import Patience

    chosen = PATIENCE_S if seconds is None else seconds
    if not math.isfinite(chosen):
        raise SettingsError(f"--patience must be a number of seconds, not {chosen}")
    if model is None or not chosen:
        return None
    model.endpoint.patience = Patience(chosen)
    return model.endpoint.patience


def shown_waiting(progress: Progress, bar: TaskID, doing: str, patience: Patience | None) -> Callable[[float], None]:
    """What tells the seconds waited so far in a bar's description, and once a wait in a line of its own."""
    waits = False

    def tell(seconds: float) -> None:
        nonlocal waits
        if seconds < NOTICED_S:
            waits = False
            progress.update(bar, description=doing)
            return
        progress.update(bar, description=f"waiting for the endpoint, {seconds:.0f} s")
        if not waits and patience is not None:
            waits = True
            told = f"waiting for the endpoint ({patience.reason}), up to {patience.seconds:g} s"
            progress.console.print(told, highlight=False, soft_wrap=True)

    return tell


def what_is_left(left: Counter[str], total: int, what: str, model: LanguageModel | None = None) -> str:
    """One sentence on what was not done for reasons that may pass. model: who was asked; what its endpoint last failed
    with, and the setting to look at, are added."""
    from escalade.nodes.endings import SETTINGS

    reasons = ", ".join(f"{reason} {count}" for reason, count in left.most_common())
    status = model.endpoint.last_status if model is not None else None
    setting = next((SETTINGS[reason] for reason, _ in left.most_common() if reason in SETTINGS), None)
    setting = setting or (model.endpoint.last_setting if model is not None else None)
    told = [f"the endpoint said HTTP {status}"] if status else []
    told += [f"look at {setting}"] if setting else []
    more = f"; {': '.join(told)}" if told else ""
    return f"{left.total()} of {total} {what} are left ({reasons}); the same command goes on with those{more}"
