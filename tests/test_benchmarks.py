"""Every benchmark runs, on a tiny size: what it prints then is no figure, but that it prints shows that nothing has
changed under it.

A new script in `benchmarks/` needs a line in SMOKE, or in ELSEWHERE if a test of its own runs it.
"""

from __future__ import annotations

import csv
import gc
import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
PATIENCE = 300.0

SMOKE: dict[str, list[str]] = {
    "certificate_overhead": ["--states", "3", "--rounds", "1", "--json"],
    "cold_start": ["--runs", "1", "--without-server", "--warm"],
    "connect_four": ["--positions", "POSITIONS", "--simulations", "4", "--json"],
    "drift": ["POSITIONS", "--before-ply", "42", "--usual", "3", "--decisions", "10", "--most", "10", "--out", "OUT"],
    "graph_overhead": ["--decisions", "3", "--warm-up", "1", "--json"],
    "llm_batching": ["TEXTS", "--count", "4"],
    "llm_ladder": ["--count", "6", "--endpoint", "30 % errors, 10 % hangs"],
    "openings": ["--plies", "1", "--simulations", "4"],
    "perfect_opponent": ["--games", "1", "--simulations", "4"],
    "novelty": ["--known", "TEXTS/test.csv", "--fresh", "TEXTS/test.csv", "--fit", "4", "--draws", "1", "--json"],
    "path_order": ["--runs", "1", "--sizes", "200", "--population", "500", "--json"],
    "own_games": [
        *("--games", "cart_pole:CartPole", "hex5:Hex5", "--minutes", "0.02", "--alone", "4", "--searching", "2"),
        "--json",
    ],
    "promise": [
        *("--domain", "tic_tac_toe", "--bundle", "builtin:tic_tac_toe", "--states", "1200", "--fit", "200"),
        *("--simulations", "4", "--certifications", "2", "--tune", "200", "--calibrate", "200", "--folder", "OUT"),
    ],
    "same_store": ["TEXTS", "--seeds", "1", "--passes", "1", "--alpha", "0.5"],
    "promise on texts": [
        *("--texts", "TEXTS", "--teach", "60", "--fit", "200", "--noise", "0", "0.1", "--certifications", "2"),
        *("--tune", "200", "--calibrate", "200", "--json"),
    ],
    "search": [
        *("--repeats", "1", "--turn", "0", "--trees", "1", "4", "--requests", "4", "--plot", "OUT/search.png"),
        "--no-peers",
    ],
    "search_memory": ["--searches", "3", "--trees", "8", "--simulations", "8"],
    "self_play": ["--seconds", "0.1", "--repeats", "1", "--games", "8"],
    "solver": ["--positions", "POSITIONS", "--limit", "3"],
    "strength": ["--games", "4", "--match", "proofs", "--match", "gumbel16"],
    "tic_tac_toe": ["--simulations", "2", "--seeds", "1"],
    "tracing": ["--turns", "1", "--decisions", "2"],
    "watch": ["--runs", "2"],
}
"""Arguments of each script, whose name is the first word. POSITIONS stands for a file of solved positions, TEXTS for a
folder of labelled texts, OUT for an empty folder."""

ELSEWHERE = {
    "abandoned": "nodes/test_abandoned.py",
    "checkpoint_size": "graph/test_checkpoint_size.py",
    "legality": "graph/test_legality.py",
    "local_llm": "app/test_local_llm.py",
    "serving": "app/test_serving.py",
}
"""By script, the test that runs it."""

PEERS = {
    "search with OpenSpiel": ("search", ["--peer", "openspiel"], ["pyspiel"]),
    "search with mctx": ("search", ["--peer", "mctx"], ["jax", "mctx", "pgx"]),
    "strength with OpenSpiel": ("strength", ["--games", "4", "--match", "mctsbot"], ["pyspiel"]),
}
"""Runs beside other people's packages: the script, more arguments, and the packages. Each is a process of its own: what
they start in the background would go on in the tests that follow."""


@pytest.fixture(scope="module")
def positions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some late positions with the exact score of every move, as the files of solved positions have them."""
    from escalade.domains.connect_four import ConnectFour
    from escalade.search.solvers import exact_solver
    from escalade.training.casual import casual_positions

    game, solver = ConnectFour(), exact_solver(ConnectFour())
    assert solver is not None
    path = tmp_path_factory.mktemp("positions") / "positions.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["moves", *(f"score_{column}" for column in range(1, 8))])
        for _, _, state in casual_positions(game, range(12), 22, 30, seed=1):
            scores = solver.scores(state)
            rows.writerow([game.format(state), *("" if score is None else score for score in scores)])
    return path


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    for split, times in (("train.csv", 240), ("test.csv", 1)):
        with (folder / split).open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["text", "category"])
            for number in range(times):
                words = [(name, word) for name in ("card", "loan") for word in ("lost", "late", "new")]
                rows.writerows((f"my {name} is {word}" + f" {number}" * (times > 1), name) for name, word in words)
    return folder


@pytest.fixture
def arguments(positions: Path, texts: Path, tmp_path: Path) -> Callable[[list[str]], list[str]]:
    places = {"POSITIONS": positions, "TEXTS": texts, "OUT": tmp_path}

    def fill(given: list[str]) -> list[str]:
        for name, path in places.items():
            given = [one.replace(name, str(path)) for one in given]
        return given

    return fill


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Scripts may be imported by their names, and are forgotten afterwards, as is how many threads they set."""
    before, threads = set(sys.modules), torch.get_num_threads()
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    torch.set_num_threads(threads)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(BENCHMARKS)):
            del sys.modules[name]


def scripts() -> list[str]:
    return sorted(path.stem for path in BENCHMARKS.glob("*.py") if "\ndef main(" in path.read_text(encoding="utf-8"))


def test_every_benchmark_has_a_smoke_run() -> None:
    assert scripts() == sorted({run.split()[0] for run in SMOKE} | set(ELSEWHERE))
    for script, test in ELSEWHERE.items():
        assert script in (ROOT / "tests" / test).read_text(encoding="utf-8"), f"{test} does not run {script}.py"


# A script is a process that ends with its work: what it leaves open is closed then.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("run", SMOKE)
def test_it_runs_on_a_tiny_size(
    run: str,
    arguments: Callable[[list[str]], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script, given = run.split()[0], arguments(SMOKE[run])
    monkeypatch.setattr("sys.argv", [f"{script}.py", *given])
    ended: object = None
    try:
        importlib.import_module(script).main()
    except SystemExit as end:
        ended = end.code
    gc.collect()
    assert ended in (None, 0)
    printed = capsys.readouterr().out
    assert printed.strip()
    if "--json" in given:
        json.loads(printed)


@pytest.mark.parametrize("run", [pytest.param(run, marks=pytest.mark.slow) if "mctx" in run else run for run in PEERS])
def test_it_runs_beside_its_peers(run: str, arguments: Callable[[list[str]], list[str]]) -> None:
    script, more, packages = PEERS[run]
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f'needs {", ".join(missing)}: pip install "escalade[bench]"')
    given = [one for one in SMOKE["search"] if one != "--no-peers"] if script == "search" else []
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), *arguments(given), *more, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert any(more[-1] in (row.get("engine", ""), row.get("match")) for row in rows)
