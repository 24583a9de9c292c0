"""Writing that holds up nobody: a bounded queue, and a thread that writes what waits in it, many at once."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar
from weakref import WeakSet

CLOSING_S = 10.0
"""How long closing waits for what is slow."""
INSISTING_S = 0.2

Fate = Literal["written", "shed"]
OnFate = Callable[[Fate, int], None]
T = TypeVar("T")

log = logging.getLogger("escalade")
_at_work: WeakSet[Background[Any]] = WeakSet()


def flush_all(timeout: float = 10.0, *, records_only: bool = False, insist: bool = False) -> None:
    """Write what waits anywhere in this process, all of it at once and in at most so many seconds: for who knows that a
    signal is about to end it, of which the hooks for its end do not hear. records_only: leave out what only has work
    to do. insist: try again, all that time, to write what a disk refuses."""
    until = time.monotonic() + timeout
    chosen = [background for background in list(_at_work) if background.records or not records_only]
    while waiting := [background for background in chosen if background.hurry()]:
        for background in waiting:
            background.flush(max(0.0, until - time.monotonic()))
        if not insist or time.monotonic() + INSISTING_S > until:
            return
        time.sleep(INSISTING_S)


class Background(Generic[T]):
    """write: is given 1 to `batch` things in the order they came, and returns how many of them it wrote; the rest it
        could not use. After an OSError (a full disk) it gets the same again, `retry_seconds` later; after any other
        error they are lost.
    what: they are called in the log. on_fate: hears how many were written and how many shed, from whichever thread.
    batch, seconds: written as soon as so many wait, or the first of them has waited so long.
    records: whether the things are records that only have to be written, and not work that takes long, such as audits.
    most: room for so many; what comes when it is full is shed. Waiting things are written when it is closed, and at the
    end of the process, whichever is first; a killed process loses them.
    """

    def __init__(
        self,
        write: Callable[[list[T]], int],
        *,
        what: str,
        on_fate: OnFate | None = None,
        batch: int = 4096,
        seconds: float = 30.0,
        retry_seconds: float = 5.0,
        most: int = 16_384,
        records: bool = True,
    ) -> None:
        self.written = self.shed = 0
        self.records = records
        self._write, self._what, self._on_fate = write, what, on_fate
        self._batch, self._seconds, self._retry_seconds, self._most = batch, seconds, retry_seconds, most
        self._waiting: deque[tuple[float, T]] = deque()
        self._in_hand = 0
        self._not_before = 0.0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = self._hurry = self._given_up = False
        self._next_logged = 1

    def offer(self, thing: T) -> bool:
        """Whether there is room for it; if not, it is counted as shed. Never blocks, never raises."""
        with self._changed:
            room = not self._closed and len(self._waiting) + self._in_hand < self._most
            if room:
                self._waiting.append((time.monotonic(), thing))
                if len(self._waiting) in (1, self._batch):
                    self._changed.notify()
                if self._thread is None:
                    self._begin()
        if not room:
            self._count("shed", 1)
        return room

    @property
    def waiting(self) -> int:
        """Things that are not written yet."""
        with self._changed:
            return len(self._waiting) + self._in_hand

    def hurry(self) -> bool:
        """Begin to write what waits now. Whether there is anything."""
        with self._changed:
            self._hurry = bool(self._waiting) or self._in_hand > 0
            self._changed.notify_all()
            return self._hurry

    def flush(self, timeout: float = 10.0) -> None:
        """Write what waits now; what a disk refuses waits on."""
        with self._changed:
            self.hurry()
            self._changed.wait_for(lambda: not self._hurry, timeout)

    def close(self, timeout: float = CLOSING_S) -> None:
        """Write what waits, or shed it if that fails or takes longer than so many seconds. May be called again."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)
            atexit.unregister(self.close)
            with self._changed:
                # What is in hand may be written yet, if the process lives so long; nobody will hear of it.
                lost = len(self._waiting) + (0 if self._given_up else self._in_hand)
                self._waiting.clear()
                self._given_up = True
            self._count("shed", lost)
            if self._next_logged != max(1, 2 * self.shed):  # the last of them were not logged yet
                self._next_logged = 2 * self.shed
                log.error("%d of %s were shed in all", self.shed, self._what)

    def _begin(self) -> None:
        # A daemon, since the interpreter waits for other threads before it calls who registered for its end.
        self._thread = threading.Thread(target=self._work, name=f"escalade-{self._what}", daemon=True)
        self._thread.start()
        atexit.register(self.close)
        _at_work.add(self)

    def _work(self) -> None:
        while True:
            with self._changed:
                while (pause := self._pause()) is None or pause > 0:
                    self._changed.wait(pause)
                taken = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
                self._in_hand, last = len(taken), self._closed
            if not taken and last:
                return
            refused = bool(taken) and self._try([thing for _, thing in taken])
            with self._changed:
                self._in_hand = 0
                self._hurry = self._hurry and bool(self._waiting) and not refused
                self._changed.notify_all()
                if refused and not last:
                    self._waiting.extendleft(reversed(taken))
                    self._not_before = time.monotonic() + self._retry_seconds
                elif refused:
                    lost = 0 if self._given_up else len(taken) + len(self._waiting)
                    self._waiting.clear()
            if refused and last:
                self._count("shed", lost)

    def _pause(self) -> float | None:
        """Seconds until there is something to do; None: until something changes."""
        if self._closed or self._hurry:
            return 0
        if not self._waiting:
            return None
        now = time.monotonic()
        due = now if len(self._waiting) >= self._batch else self._waiting[0][0] + self._seconds
        return max(due, self._not_before) - now

    def _try(self, things: list[T]) -> bool:
        """Whether the disk refused them."""
        try:
            written = self._write(things)
        except OSError as error:
            if not self._not_before:
                log.error("%s cannot be written, and will be tried again: %s", self._what, error)
            return True
        except Exception as error:  # noqa: BLE001 -- the next ones may be sound
            log.error("%d of %s cannot be written: %s", len(things), self._what, error)
            written = 0
        self._not_before = 0.0
        self._count("written", written)
        self._count("shed", len(things) - written)
        return False

    def _count(self, fate: Fate, things: int) -> None:
        if not things:
            return
        with self._changed:
            setattr(self, fate, getattr(self, fate) + things)
            in_all = self.shed
            # Each time that they have doubled, so that a flood of them is no flood of lines.
            logged = fate == "shed" and in_all >= self._next_logged
            self._next_logged = 2 * in_all if logged else self._next_logged
        if logged:
            why = "there was no time left for them at the end" if self._closed else "their queue is full, or they fail"
            log.error("%d of %s are shed so far: %s", in_all, self._what, why)
        if self._on_fate is not None:
            self._on_fate(fate, things)
