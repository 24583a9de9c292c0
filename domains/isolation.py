"""One bad row in a batch: found by evaluating parts of the batch again, so that it alone fails.

Used wherever rows of different callers share one call: the waves of a search service, the passes of a batcher.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR

from escalade.domains.errors import EscaladeError

GIVE_UP_AFTER = 16
"""So many rows in a row that failed by themselves, and the evaluator itself counts as broken."""


def failures_by_row(ask: Callable[[int, int], None], rows: int) -> dict[int, Exception]:
    """Evaluate all rows, and return the error of each row that cannot be evaluated.

    ask: evaluates the rows `first` to `last`, exclusive, and keeps their answers; raises if any of them is bad.

    A row fails by an error that was raised for it alone. One bad row of B takes at most ceil(log2 B) + 2 calls more
    than none. Where nothing can be evaluated (an endpoint that is down, or goes down meanwhile), the search for a good
    row ends after `GIVE_UP_AFTER` bad ones in a row, and the rows that are left share the last error.
    """
    failures: dict[int, Exception] = {}
    first, last, suspect = 0, rows, rows  # the next call is first..last; first..suspect are known to hold a bad row
    in_a_row = 0
    while first < rows:
        try:
            ask(first, last)
        except BaseException as raised:  # noqa: BLE001 - whatever an evaluator raises belongs to its callers
            error = passed_on(raised)
            if last - first > 1:
                suspect = last
                last = (first + last) // 2
                continue
            failures[first] = error
            in_a_row += 1
            if in_a_row == GIVE_UP_AFTER:
                return failures | dict.fromkeys(range(first + 1, rows), error)
            first, last, suspect = first + 1, rows, rows
        else:
            in_a_row, first = 0, last
            if first == suspect:  # nothing is wrong with them any more
                suspect = rows
                last = rows
            else:
                last = (first + suspect + 1) // 2
    return failures


def passed_on(error: BaseException) -> Exception:
    """The error as a future can carry it: an exit or a cancellation inside an evaluator is no caller's own, and a
    StopIteration cannot cross into a task at all."""
    if isinstance(error, Exception) and not isinstance(error, CancelledError | StopIteration):
        return error
    wrapped = EscaladeError(f"the evaluator stopped with {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def without_locals(error: BaseException) -> BaseException:
    """The error without the local variables of the functions that it came through and that have returned since: whoever
    keeps the error would otherwise keep the arrays of everyone whose row was in the same call."""
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        seen.append(one)
        step, frames = one.__traceback__, []
        frame = step.tb_frame.f_back if step is not None else None
        while frame is not None:
            frames.append(frame)
            frame = frame.f_back
        while step is not None:
            frames.append(step.tb_frame)
            step = step.tb_next
        for frame in frames:
            # An error that is raised more than once may have been through a task that still goes on: that is not ended.
            if not frame.f_code.co_flags & (CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR):
                with suppress(RuntimeError):  # it has not returned
                    frame.clear()
        one = one.__cause__ or one.__context__
    return error
