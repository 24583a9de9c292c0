"""What tests of the experience store share: rows of random games."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from escalade.domains.tic_tac_toe import TicTacToe
from escalade.neural.manifest import DomainStamp
from escalade.training.outcomes import Outcome, OutcomeShards
from escalade.training.rows import Rows
from escalade.training.shards import write_shard
from escalade.training.store import ExperienceStore

TTT = TicTacToe()
STAMP = DomainStamp.of(TTT)


def random_rows(seed: int, count: int = 20, game: Any = TTT) -> Rows:
    """Positions of random games, with some of everything missing."""
    random = np.random.default_rng(seed)
    states = []
    while len(states) < count:
        state = game.initial_state()
        while not game.is_terminal(state) and len(states) < count:
            states.append(state)
            state = game.step(state, int(random.choice(game.legal_actions(state))))
    legal = np.zeros((count, game.num_actions), np.bool_)
    for row, state in enumerate(states):
        legal[row, game.legal_actions(state)] = True
    policy = (random.random(legal.shape) * legal).astype(np.float32)
    policy /= policy.sum(axis=1, keepdims=True)
    policy[random.random(count) < 0.3] = np.nan
    some = [lambda: np.where(random.random(count) < 0.3, np.nan, random.uniform(-1, 1, count)).astype(np.float32)] * 2
    value, outcome = (make() for make in some)
    return Rows(
        game=np.array([f"game-{random.integers(4)}" for _ in states]),
        ply=np.array([len(state.moves) for state in states], np.int32),
        state=np.array([game.format(state) for state in states]),
        observation=game.encode(states),
        legal=legal,
        policy=policy,
        action=np.where(random.random(count) < 0.3, -1, legal.argmax(axis=1)).astype(np.int32),
        value=value,
        outcome=outcome,
        source=random.choice(["self_play", "solver", "human"], count),
        model=random.choice(["", "a1", "b2"], count),
        decision=np.array([random.choice(["", f"d-{seed}-{row}"]) for row in range(count)]),
    )


def same(left: Rows, right: Rows) -> None:
    for field in fields(Rows):
        one, other = getattr(left, field.name), getattr(right, field.name)
        np.testing.assert_array_equal(one, other, err_msg=field.name)
        assert field.name == "observation" or one.dtype.kind == other.dtype.kind


def write_many(folder: Path, writer: int) -> None:
    store = ExperienceStore(folder, TTT)
    for number in range(10):
        write_shard(store.shards_folder, random_rows(100 * writer + number, 20), STAMP, f"w{writer}")
        store.refresh()


def report_many(folder: Path, writer: int) -> None:
    shards = OutcomeShards(folder / "outcomes", STAMP)
    for number in range(20):
        shards.add([Outcome(f"{writer}-{number}", 1.0)])
