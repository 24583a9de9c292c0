"""A run's clock: seconds of work over all sessions, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from escalade.training.clock import BETWEEN_STEPS, RunClock, clock_of, forget_clock


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def test_work_counts_and_idleness_does_not(tmp_path: Path, time: Time) -> None:
    clock = RunClock(tmp_path, now=time)
    with clock.working():
        time.now += 100
    time.now += BETWEEN_STEPS / 2  # a checkpoint is written
    with clock.working():
        time.now += 10
    assert clock.seconds == pytest.approx(110 + BETWEEN_STEPS / 2)
    time.now += 3600  # a server that waits for its next run
    assert clock.seconds == pytest.approx(110 + BETWEEN_STEPS / 2)


def test_two_who_work_at_once_count_once(tmp_path: Path, time: Time) -> None:
    clock = RunClock(tmp_path, now=time)
    with clock.working():
        time.now += 5
        with clock.working():
            time.now += 5
        time.now += 5
    assert clock.seconds == pytest.approx(15)


def test_a_session_goes_on_where_the_last_one_was_killed(tmp_path: Path, time: Time) -> None:
    clock = RunClock(tmp_path, now=time)
    with clock.working():
        time.now += 30
    time.now += 1000
    later = RunClock(tmp_path, began=time.now - 4, now=time)  # it has imported for four seconds
    assert later.startup == pytest.approx(4)
    assert later.seconds == pytest.approx(34)


def test_what_is_written_on_the_way_is_little_behind(tmp_path: Path) -> None:
    clock = RunClock(tmp_path)
    with clock.working():
        clock._idle.wait(1.5)  # longer than a tick
        assert json.loads((tmp_path / "clock.json").read_bytes())["seconds"] > 0.5


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"seconds": "x"}', '{"seconds": null}'])
def test_a_damaged_clock_begins_anew(tmp_path: Path, time: Time, damaged: str) -> None:
    (tmp_path / "clock.json").write_text(damaged)
    clock = RunClock(tmp_path, now=time)
    assert clock.seconds == 0
    clock.at_least(12.0)  # as the graph's state has it
    assert clock.seconds == 12


def test_a_process_has_one_clock_a_run(tmp_path: Path) -> None:
    assert clock_of(tmp_path) is clock_of(tmp_path / "." / "")
    first = clock_of(tmp_path)
    forget_clock(tmp_path)
    assert clock_of(tmp_path) is not first
    forget_clock(tmp_path)
