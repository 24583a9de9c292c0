from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from escalade.domains.tic_tac_toe import TicTacToe
from escalade.neural.batcher import Batcher
from escalade.neural.bundle import Bundle, write_bundle
from escalade.neural.calibration import IdentityCalibrator
from escalade.neural.networks import PolicyValueNetwork, ValueNetwork
from escalade.neural.spec import NetworkSpec, ValueSpec


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Several threads in one product stall when the cores are busy with something else."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def domain() -> TicTacToe:
    return TicTacToe()


@pytest.fixture
def make_network() -> Callable[..., PolicyValueNetwork]:
    """A small untrained network for tic-tac-toe, by seed and spec fields."""

    def make(seed: int = 0, **fields: object) -> PolicyValueNetwork:
        options = {"hidden": (16, 8), "observation_shape": (3, 3, 3), "num_actions": 9, **fields}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return PolicyValueNetwork(NetworkSpec.model_validate(options))

    return make


@pytest.fixture
def make_value_network() -> Callable[..., ValueNetwork]:
    def make(seed: int = 0, **fields: object) -> ValueNetwork:
        options = {"hidden": (16, 8), "observation_shape": (3, 3, 3), **fields}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return ValueNetwork(ValueSpec.model_validate(options))

    return make


@pytest.fixture
def positions() -> tuple[np.ndarray, np.ndarray]:
    """Observations `[B, 3, 3, 3]` and legal masks `[B, 9]` as a network of this shape takes them."""
    generator = np.random.default_rng(7)
    observations = generator.random((40, 3, 3, 3), dtype=np.float32)
    legal = generator.random((40, 9)) < 0.6
    legal[:, 4] = True
    return observations, legal


@pytest.fixture
def bundle(tmp_path, domain, make_network, make_value_network) -> Bundle:
    return write_bundle(
        tmp_path / "model",
        domain=domain,
        network=make_network(),
        value_network=make_value_network(output="sigmoid"),
        calibrators={"policy": IdentityCalibrator()},
        metrics={"optimal": 0.97},
        created=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    )


@pytest.fixture
def path(bundle: Bundle) -> Path:
    return bundle.path


class Echo:
    """An evaluator whose answers show whose question they answer, and that can be told to misbehave.

    Observations `[B, 2]` are (tag, fault). A row's value is its tag / 2**20, its logits all the tag. A fault of RAISE
    fails the whole pass, NAN spoils the row's value. `seen` are the tags of all rows of each pass. A pass first takes
    one permit from `gate`, if there is one.
    """

    RAISE, NAN = 1.0, 2.0
    num_actions = 3
    observation_shape = (2,)

    def __init__(self, gate: threading.Semaphore | None = None) -> None:
        self.seen: list[list[int]] = []
        self.started = threading.Semaphore(0)
        self.gate = gate

    def evaluate(self, observations: np.ndarray, legal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.seen.append([int(tag) for tag in observations[:, 0]])
        self.started.release()
        if self.gate is not None:
            assert self.gate.acquire(timeout=30)
        if (observations[:, 1] == self.RAISE).any():
            raise ValueError(f"guilty {[int(tag) for tag, fault in observations if fault == self.RAISE]}")
        values = observations[:, 0] / 2**20
        values[observations[:, 1] == self.NAN] = np.nan
        return np.where(legal, observations[:, :1], -np.inf).astype(np.float32), values

    def hold(self, batcher: Batcher) -> Future:
        """Submit an item whose pass waits at the gate, so that what follows queues up."""
        future = batcher.submit(*self.item(1))
        assert self.started.acquire(timeout=30)
        return future

    @property
    def rows_seen(self) -> list[int]:
        return [tag for batch in self.seen for tag in batch]

    @staticmethod
    def item(*tags: int, fault: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """A question of as many rows as tags."""
        observations = np.array([(tag, fault) for tag in tags], dtype=np.float32).reshape(-1, 2)
        return observations, np.tile(np.array([True, False, True]), (len(tags), 1))

    @staticmethod
    def is_answer(answer: tuple[np.ndarray, np.ndarray], *tags: int) -> bool:
        logits, values = answer
        return (
            logits.shape == (len(tags), 3)
            and logits.dtype == values.dtype == np.float32
            and (logits[:, 0] == tags).all()
            and (values * 2**20 == tags).all()
        )


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def gated() -> Iterator[Echo]:
    """An echo that waits for `gate.release()` before each pass."""
    evaluator = Echo(threading.Semaphore(0))
    yield evaluator
    evaluator.gate.release(100_000)
