"""The batcher: shared passes, and each item its own answer or its own error."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import numpy as np
import pytest

from escalade.domains.errors import EscaladeError
from escalade.domains.evaluator import Evaluator
from escalade.neural.batcher import Batcher

WAIT = 30  # seconds until a test that hangs is a failure


def test_answers_are_those_of_the_evaluator(make_network, make_value_network, positions):
    for evaluator in (make_network(), make_value_network()):
        with Batcher(evaluator) as batcher:
            assert isinstance(batcher, Evaluator)
            expected = evaluator.evaluate(*positions)
            for ours, theirs in zip(batcher.evaluate(*positions), expected, strict=True):
                assert ours.tobytes() == theirs.tobytes()


def test_what_queues_during_a_pass_shares_the_next(gated):
    with Batcher(gated) as batcher:
        first = gated.hold(batcher)
        futures = [batcher.submit(*gated.item(tag, tag + 1000)) for tag in range(2, 12)]
        assert batcher.waiting_rows == 20
        gated.gate.release(2)
        assert gated.is_answer(first.result(WAIT), 1)
        for tag, future in enumerate(futures, start=2):
            assert gated.is_answer(future.result(WAIT), tag, tag + 1000)
        assert (batcher.batches, batcher.rows, batcher.largest_batch) == (2, 21, 20)
        assert batcher.waiting_rows == 0


def test_a_pass_holds_at_most_max_batch_rows(gated):
    with Batcher(gated, max_batch=4) as batcher:
        gated.hold(batcher)
        sizes = [1, 2, 2, 4, 1, 9, 1]
        futures = [batcher.submit(*gated.item(*range(100 * i, 100 * i + k))) for i, k in enumerate(sizes)]
        gated.gate.release(100)
        for i, (k, future) in enumerate(zip(sizes, futures, strict=True)):
            assert gated.is_answer(future.result(WAIT), *range(100 * i, 100 * i + k))
        # In order, items whole: 1+2 | 2 | 4 | 1 | 9 on its own in three | 1.
        assert [len(batch) for batch in gated.seen[1:]] == [3, 2, 4, 1, 4, 4, 1, 1]
        assert batcher.largest_batch == 4


def test_a_pass_can_wait_for_company(echo):
    with Batcher(echo, max_batch=3, max_wait_ms=60_000) as batcher:
        futures = [batcher.submit(*echo.item(tag)) for tag in range(3)]
        for tag, future in enumerate(futures):
            assert echo.is_answer(future.result(WAIT), tag)
        assert echo.seen == [[0, 1, 2]]
        last = batcher.submit(*echo.item(9))
    assert echo.is_answer(last.result(0), 9)  # closing does not wait for company


def test_company_that_does_not_come_is_not_waited_for_long(echo):
    with Batcher(echo, max_wait_ms=1) as batcher:
        assert echo.is_answer(batcher.submit(*echo.item(4)).result(WAIT), 4)


def test_evaluators_that_do_not_say_their_shape_get_one_shape_a_pass():
    class AnyShape:
        def __init__(self) -> None:
            self.shapes: list[tuple[int, ...]] = []
            self.free, self.started = threading.Event(), threading.Event()

        def evaluate(self, observations, legal):
            self.shapes.append(observations.shape)
            self.started.set()
            assert self.free.wait(WAIT)
            return np.zeros(legal.shape, np.float32), np.full(len(legal), observations.shape[1] / 10, np.float32)

    evaluator = AnyShape()
    with Batcher(evaluator) as batcher:
        futures = []
        for width in (2, 2, 2, 3, 3, 2):
            futures.append(batcher.submit(np.zeros((1, width), np.float32), np.ones((1, 4), np.bool_)))
            assert evaluator.started.wait(WAIT)
        evaluator.free.set()
        assert [round(float(f.result(WAIT)[1][0]) * 10) for f in futures] == [2, 2, 2, 3, 3, 2]
    assert evaluator.shapes == [(1, 2), (2, 2), (2, 3), (1, 2)]


def test_callers_may_reuse_their_arrays(gated):
    with Batcher(gated) as batcher:
        observations, legal = gated.item(5)
        future = batcher.submit(observations, legal)
        observations[:], legal[:] = 77.0, False
        gated.gate.release(1)
        answer = future.result(WAIT)
        assert gated.is_answer(answer, 5)


def test_an_evaluator_may_use_its_arrays_again():
    class Reuses:
        def __init__(self) -> None:
            self.values = np.zeros(1, np.float32)

        def evaluate(self, observations, legal):
            self.values[:] = observations[:, 0]
            return np.zeros(legal.shape, np.float32), self.values

    with Batcher(Reuses(), max_batch=1) as batcher:
        answers = [batcher.evaluate(np.full((1, 1), x, np.float32), np.ones((1, 2), np.bool_)) for x in (0.25, 0.5)]
        assert [float(values[0]) for _, values in answers] == [0.25, 0.5]
        several = np.array([[0.25], [0.5], [0.75]], np.float32)
        assert (batcher.evaluate(several, np.ones((3, 2), np.bool_))[1] == several[:, 0]).all()


@pytest.mark.parametrize(
    ("observations", "legal", "message"),
    [
        (np.zeros((1, 3), np.float32), np.ones((1, 3), np.bool_), r"observations are \[k, \*\(2,\)\]"),
        (np.zeros(2, np.float32), np.ones((1, 3), np.bool_), "an item is"),
        (np.zeros((1, 2), np.float32), np.ones((2, 3), np.bool_), "an item is"),
        (np.zeros((1, 2), np.float32), np.ones((1, 4), np.bool_), r"legal is \[k, 3\]"),
        (np.zeros((1, 2), np.float32), np.ones(3, np.bool_), "an item is"),
        (np.zeros((1, 2), np.float64), np.ones((1, 3), np.bool_), "not float64"),
        (np.zeros((1, 2), np.float32), np.ones((1, 3), np.int8), "int8"),
        (np.array([[0, np.nan]], np.float32), np.ones((1, 3), np.bool_), "NaN"),
        (np.array([[-np.inf, 0]], np.float32), np.ones((1, 3), np.bool_), "infinite"),
        (np.zeros((9, 2), np.float32), np.ones((9, 3), np.bool_), "never fit a queue of 8"),
    ],
)
async def test_a_bad_item_is_refused_before_it_queues(echo, observations, legal, message):
    with Batcher(echo, max_batch=8, queue_limit=8) as batcher:
        with pytest.raises(ValueError, match=message):
            batcher.submit(observations, legal)
        with pytest.raises(ValueError, match=message):
            batcher.evaluate(observations, legal)
        with pytest.raises(ValueError, match=message):
            await batcher.evaluate_async(observations, legal)
    assert echo.seen == []


def test_only_the_guilty_items_get_the_error(gated):
    with Batcher(gated) as batcher:
        gated.hold(batcher)
        futures = {
            tag: batcher.submit(*gated.item(tag, fault=gated.RAISE if tag % 4 == 0 else 0)) for tag in range(2, 14)
        }
        gated.gate.release(100)
        for tag, future in futures.items():
            if tag % 4 == 0:
                with pytest.raises(ValueError, match=rf"guilty \[{tag}\]"):
                    future.result(WAIT)
            else:
                assert gated.is_answer(future.result(WAIT), tag)


def test_a_nan_fails_only_the_item_whose_row_it_is_in(gated):
    with Batcher(gated) as batcher:
        gated.hold(batcher)
        futures = [batcher.submit(*gated.item(tag, fault=gated.NAN if tag == 4 else 0)) for tag in range(2, 7)]
        gated.gate.release(100)
        for tag, future in enumerate(futures, start=2):
            if tag == 4:
                with pytest.raises(EscaladeError, match="NaN or outside"):
                    future.result(WAIT)
            else:
                assert gated.is_answer(future.result(WAIT), tag)
    assert len(gated.seen) == 2  # no second pass for it


@pytest.mark.parametrize(
    ("logits", "values", "message"),
    [
        ([[0, 0]], [1.5], r"outside \[-1, 1\]"),
        ([[0, 0]], [-np.inf], "NaN or outside"),
        ([[np.nan, 0]], [0], "not finite"),
        ([[np.inf, 0]], [0], "not finite"),
        ([[0, 0, 0]], [0], "the evaluator gave logits"),
        ([[0, 0]], [[0]], "the evaluator gave logits"),
        ([[0, 0], [0, 0]], [0, 0], "the evaluator gave logits"),
        ([[0, np.nan]], [0], None),  # of an illegal action
        ([[0, -np.inf]], [0], None),
    ],
)
def test_what_is_no_answer_is_an_error(logits, values, message):
    class Says:
        def evaluate(self, observations, legal):
            return np.array(logits, np.float64), np.array(values, np.float64)

    with Batcher(Says()) as batcher:
        future = batcher.submit(np.zeros((1, 1), np.float32), np.array([[True, False]]))
        if message:
            with pytest.raises(EscaladeError, match=message):
                future.result(WAIT)
        else:
            assert future.result(WAIT)[0].dtype == np.float32


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), StopIteration(), CancelledError(), MemoryError()]
)
async def test_whatever_an_evaluator_raises_the_batcher_lives(error):
    class Raises:
        def __init__(self) -> None:
            self.error: BaseException | None = error

        def evaluate(self, observations, legal):
            if self.error:
                raise self.error
            return np.zeros(legal.shape, np.float32), np.zeros(len(legal), np.float32)

    evaluator = Raises()
    item = (np.zeros((1, 1), np.float32), np.ones((1, 2), np.bool_))
    expected = MemoryError if isinstance(error, MemoryError) else EscaladeError
    with Batcher(evaluator) as batcher:
        with pytest.raises(expected):
            batcher.evaluate(*item)
        with pytest.raises(expected):
            await batcher.evaluate_async(*item)
        evaluator.error = None
        assert batcher.evaluate(*item)[1] == 0.0


@pytest.mark.parametrize(
    "options",
    [{"max_batch": 0}, {"max_batch": 10, "queue_limit": 9}, {"max_wait_ms": -1}, {"max_wait_ms": float("nan")}],
)
def test_impossible_options_are_refused(echo, options):
    with pytest.raises(ValueError, match="max_batch"):
        Batcher(echo, **options)
