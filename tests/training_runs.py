"""Small training runs for tests, in this process or in one that may be killed."""

from __future__ import annotations

import dataclasses
import sqlite3
import sys
from pathlib import Path
from typing import Any

from langgraph.checkpoint.sqlite import SqliteSaver

from escalade.graph.training import TrainingResources, build_training_graph, stopped_on_the_way
from escalade.search.config import SearchConfig
from escalade.training.evaluate import EvaluationConfig
from escalade.training.optimizers import LearnerConfig
from escalade.training.recipe import Network, Recipe
from escalade.training.self_play import SelfPlayConfig
from escalade.training.window import WindowConfig

TINY = Recipe(
    iterations=3,
    network=Network(hidden=(32, 32), dropout=0.1),
    games=60,
    games_a_task=20,
    self_play=SelfPlayConfig(SearchConfig(simulations=12, algorithm="gumbel"), at_once=16, opening_plies=4),
    rows=5000,
    window=WindowConfig(validation=0.1),
    passes=2,
    last_passes=3,
    learner=LearnerConfig(batch_size=64, average=0.9),
    evaluation=EvaluationConfig(simulations=(0, 8)),
)


def tiny(**fields: Any) -> dict[str, Any]:
    """The recipe as input of the graph."""
    return dataclasses.replace(TINY, **fields).plain()


def run_to_the_end(root: Path, name: str, **given: Any) -> dict[str, Any]:
    """Begin a run with checkpoints in its folder, or go on with it."""
    (root / name).mkdir(parents=True, exist_ok=True)
    saver = SqliteSaver(sqlite3.connect(root / name / "graph.sqlite", check_same_thread=False))
    graph = build_training_graph(TrainingResources(root=root), checkpointer=saver)
    config: Any = {"configurable": {"thread_id": name}, "recursion_limit": 1000}
    state = graph.get_state(config)
    if stopped_on_the_way(state):
        graph.invoke(None, config, durability="sync")
    elif not state.values:
        graph.invoke({"domain": "tic_tac_toe", "run": name, "recipe": tiny(), **given}, config, durability="sync")
    values: dict[str, Any] = graph.get_state(config).values
    saver.conn.close()
    return values


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    run_to_the_end(Path(sys.argv[1]), sys.argv[2])
    print("finished", flush=True)
