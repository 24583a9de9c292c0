"""Things given to a background writer are written in order, or counted as shed; who gives them never waits."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from escalade.training.background import Background, flush_all


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_batch_is_written_when_it_is_full_or_old() -> None:
    batches: list[list[int]] = []

    def write(things: list[int]) -> int:
        batches.append(things)
        return len(things)

    background = Background(write, what="numbers", batch=3, seconds=0.2)
    for number in range(7):
        assert background.offer(number)
    until(lambda: background.written == 7)
    assert batches == [[0, 1, 2], [3, 4, 5], [6]]
    background.offer(7)
    background.close()
    background.close()
    assert batches[-1] == [7]
    assert not background.offer(8)
    assert (background.written, background.shed) == (8, 1)


def test_what_comes_when_it_is_full_is_shed_at_once() -> None:
    go, fates = threading.Event(), []

    def write(things: list[int]) -> int:
        go.wait(20)
        return len(things) - 1  # one of them is of no use

    background = Background(
        write, what="numbers", batch=2, seconds=0, most=5, on_fate=lambda fate, count: fates.append((fate, count))
    )
    started = time.monotonic()
    taken = [background.offer(number) for number in range(20)]
    assert time.monotonic() - started < 5
    assert sum(taken) == 5
    go.set()
    background.close()
    assert background.written + background.shed == 20
    assert background.shed >= 15 + 3 - 1
    assert sum(count for fate, count in fates if fate == "shed") == background.shed


def test_what_a_disk_refuses_is_kept_and_written_later_in_order() -> None:
    full, seen = threading.Event(), []
    full.set()

    def write(things: list[int]) -> int:
        if full.is_set():
            raise OSError(errno.ENOSPC, "no space left on device")
        seen.extend(things)
        return len(things)

    background = Background(write, what="numbers", batch=4, seconds=0.01, retry_seconds=0.02, most=10)
    taken = [background.offer(number) for number in range(15)]
    time.sleep(0.2)
    assert background.written == 0
    full.clear()
    until(lambda: background.written == 10)
    assert seen == [number for number, room in enumerate(taken) if room]
    assert background.shed == 5
    full.set()
    background.offer(99)
    background.close()
    assert (background.written, background.shed) == (10, 6)


def test_a_flush_writes_what_waits_and_does_not_wait_for_a_disk_that_refuses() -> None:
    full = threading.Event()

    def write(things: list[int]) -> int:
        if full.is_set():
            raise OSError(errno.ENOSPC, "no space left on device")
        return len(things)

    background = Background(write, what="numbers", batch=2)
    background.flush()
    for _ in range(5):
        background.offer(1)
    flush_all()
    assert background.written == 5
    full.set()
    background.offer(1)
    began = time.monotonic()
    background.flush()
    assert time.monotonic() - began < 5
    full.clear()
    background.flush()
    assert (background.written, background.shed) == (6, 0)
    background.close()


def test_all_that_is_shed_is_logged_with_its_number(caplog: pytest.LogCaptureFixture) -> None:
    go = threading.Event()

    def write(things: list[int]) -> int:
        go.wait(20)
        return len(things)

    background = Background(write, what="pages", batch=1, seconds=0, most=3)
    for number in range(3 + 100):
        background.offer(number)
    lines = [record.message for record in caplog.records]
    assert lines[0].startswith("1 of pages are shed so far")
    assert len(lines) < 10
    go.set()
    background.close()
    assert caplog.records[-1].message == "100 of pages were shed in all"
    for number in range(100):
        background.offer(number)
    assert caplog.records[-1].message.startswith("200 of pages are shed so far: there was no time left")


def test_any_other_error_costs_one_batch() -> None:
    def write(things: list[Any]) -> int:
        if "bad" in things:
            raise ValueError("bad")
        return len(things)

    background = Background(write, what="things", batch=1, seconds=0)
    for thing in ("good", "bad", "good"):
        background.offer(thing)
    background.close()
    assert (background.written, background.shed) == (2, 1)


def test_the_end_of_the_process_writes_what_waits() -> None:
    program = (
        "from escalade.training.background import Background\n"
        "background = Background(lambda things: print(things) or len(things), what='numbers')\n"
        "background.offer(1), background.offer(2)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[1, 2]\n"


def test_records_are_written_while_work_still_waits() -> None:
    done: list[str] = []
    go = threading.Event()

    def audit(things: list[str]) -> int:
        go.wait(20)
        done.extend(things)
        return len(things)

    records: Background[str] = Background(lambda things: done.extend(things) or len(things), what="records")
    work: Background[str] = Background(audit, what="work", records=False)
    records.offer("record")
    work.offer("work")
    began = time.monotonic()
    flush_all(records_only=True)
    assert done == ["record"]
    flush_all(0.2)  # bounded, whatever hangs
    assert time.monotonic() - began < 10
    go.set()
    for background in (records, work):
        background.close()
    assert done == ["record", "work"]


def test_what_is_still_being_written_when_the_time_is_over_counts_as_shed() -> None:
    go, heard = threading.Event(), list[tuple[str, int]]()

    def hangs(things: list[str]) -> int:
        go.wait(20)
        return len(things)

    background: Background[str] = Background(hangs, what="records", seconds=0.0, on_fate=lambda *one: heard.append(one))
    background.offer("first")
    while background._in_hand == 0:
        time.sleep(0.01)
    background.offer("second")
    background.close(0.1)
    background.close(0.1)
    assert (background.shed, heard) == (2, [("shed", 2)])
    go.set()


def test_who_insists_tries_until_the_disk_takes_it() -> None:
    tries: list[int] = []

    def refused_thrice(things: list[str]) -> int:
        tries.append(len(things))
        if len(tries) <= 3:
            raise OSError(errno.ENOSPC, "no space left on device")
        return len(things)

    background: Background[str] = Background(refused_thrice, what="records", retry_seconds=600)
    background.offer("record")
    flush_all(insist=False)
    assert background.written == 0
    flush_all(20, insist=True)
    assert (background.written, background.shed) == (1, 0)
    background.close()
