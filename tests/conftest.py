"""What the tests of all rooms share: data beside the checkout, and a small trained bundle."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Read when the libraries are loaded, here and in the processes that tests start. Tests run side by side: with several
# threads in each, most of the processors' time goes by in threads that wait for others, spinning.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import numpy as np
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from escalade.neural.bundle import Bundle

# Read when LangGraph is imported: savers then refuse whatever is not plain.
os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"

# The first call of a kernel compiles it, which no deadline should count; and the same examples run every time.
settings.register_profile("escalade", deadline=None, derandomize=True)
settings.load_profile("escalade")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def no_settings() -> Iterator[None]:
    """Tests say what they set; nothing of this machine's settings reaches them, and no trace leaves."""
    ours = ("ESCALADE_", "OPENAI_", "LANGSMITH_", "LANGCHAIN_")
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(ours)}
    yield
    os.environ.update(kept)


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """`shared_data("intents/banking77/train.csv")`: the path, or the test is skipped with the reason."""

    def find(relative: str) -> Path:
        path = SHARED / relative
        if not path.is_file():
            pytest.skip(f"needs the shared data file {relative}, which is not here")
        return path

    return find


@pytest.fixture(scope="session")
def tic_tac_toe_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny network fitted in seconds to the solver's whole table of tic-tac-toe."""
    # Imported here, so that a fault in one room does not stop the tests of the others.
    from escalade.domains.base import legal_mask
    from escalade.domains.tic_tac_toe import TicTacToe
    from escalade.neural.bundle import write_bundle
    from escalade.neural.spec import NetworkSpec
    from escalade.search.solvers import exact_solver, optimal_actions
    from escalade.training.fit import fit_labelled

    domain = TicTacToe()
    solver = exact_solver(domain)
    assert solver is not None
    states = [state for state in solver.reachable_positions() if not domain.is_terminal(state)]
    policy = np.zeros((len(states), 9), np.float32)
    for row, state in enumerate(states):
        best = optimal_actions(solver.scores(state))
        policy[row, best] = 1 / len(best)
    values = np.array([solver.value(state) for state in states], np.float32)
    spec = NetworkSpec(observation_shape=domain.observation_shape, num_actions=9, hidden=(128, 128))
    network = fit_labelled(
        spec,
        domain.encode(states),
        legal_mask(domain, states),
        policy,
        values,
        epochs=30,
        batch_size=128,
        learning_rate=3e-3,
        seed=0,
    )
    path = tmp_path_factory.mktemp("bundles") / "tic_tac_toe"
    return write_bundle(path, domain=domain, network=network)


@pytest.fixture
def command_line() -> Callable[..., tuple[int, str]]:
    """`command_line("decide", …, NAME="value")`: the exit code and stderr of `escalade decide …`, in this process."""
    from in_process import escalade

    def run(*arguments: str, **environment: str) -> tuple[int, str]:
        done = escalade(*arguments, **environment)
        return done.returncode, done.stderr

    return run


# How many endpoints as they really are have been asked with success


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("endpoint_row"):
            item.user_properties += [("rows", number) for number in mark.args]
        if item.get_closest_marker("endpoint_quirk"):
            item.user_properties.append(("quirks", item.nodeid))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found: dict[str, dict[str, bool]] = {"rows": {}, "quirks": {}}
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            for kind, name in getattr(report, "user_properties", []):
                found[kind][name] = found[kind].get(name, True) and outcome == "passed"
    for kind, right in found.items():
        if right:
            terminalreporter.write_line(f"endpoints: {sum(right.values())} of {len(right)} {kind} right")
