"""The training graph: it learns, it can be watched, and it goes on from wherever it was killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import training_runs
from langgraph.checkpoint.memory import InMemorySaver
from training_runs import run_to_the_end, tiny

from escalade.domains.catalog import load_domain
from escalade.domains.errors import CatalogError, SettingsError
from escalade.domains.lengths import Lengths
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.graph.training import TrainingResources, build_training_graph, stopped_on_the_way
from escalade.neural.bundle import read_bundle
from escalade.training import steps
from escalade.training.certify_config import CertifyConfig
from escalade.training.recipe import Recipe
from escalade.training.run import Run, RunConfig, RunError, let_go
from escalade.training.steps import share_of_work
from escalade.training.store import ExperienceStore


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A whole run of three iterations: its folder, and the state it ended with."""
    root = tmp_path_factory.mktemp("undisturbed")
    return root / "run", run_to_the_end(root, "run")


def games_of(folder: Path) -> Counter[str]:
    """How many rows each game left."""
    rows = ExperienceStore(folder / "experience", TicTacToe()).recent(10**6)
    assert rows is not None
    return Counter(rows.game.tolist())


def figures_of(folder: Path) -> list[dict[str, Any]]:
    """Every line of metrics, without what a clock said."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def test_a_run_learns_and_leaves_what_it_says(undisturbed: tuple[Path, dict[str, Any]]) -> None:
    folder, state = undisturbed
    assert [line["iteration"] for line in state["history"]] == [1, 2, 3]
    assert state["history"][-1]["optimal_0"] > 0.6  # a third of all moves are optimal by chance
    assert state["history"][-1]["policy_loss"] < state["history"][0]["policy_loss"]
    assert len(games_of(folder)) == 180
    best = max(state["history"], key=lambda line: (line["score"], line["iteration"]))
    assert state["champion"]["iteration"] == best["iteration"]
    bundle = read_bundle(folder / "champion", TicTacToe())
    assert bundle.hash == read_bundle(Run.open(folder).bundle(best["iteration"]) or "", TicTacToe()).hash
    kinds = Counter(line["kind"] for line in figures_of(folder))
    assert kinds == {"fit": 2 + 2 + 3, "evaluation": 3, "promotion": 3}
    assert not list(folder.rglob("*partial*"))


def test_the_state_is_plain_and_small(undisturbed: tuple[Path, dict[str, Any]]) -> None:
    _, state = undisturbed
    assert json.loads(json.dumps(state)) == state
    assert len(json.dumps(state)) < 50_000


@contextmanager
def ready_runners(root: Path) -> Iterator[Iterator[Any]]:
    """Processes that have loaded all they need and wait for a line; one loads while another works."""
    command = [sys.executable, training_runs.__file__, str(root), "run"]
    begun: list[Any] = []

    def begin() -> Any:
        begun.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return begun[-1]

    def each() -> Iterator[Any]:
        following = begin()
        while True:
            process, following = following, begin()
            assert process.stdout.readline() == "ready\n"
            yield process

    try:
        yield each()
    finally:
        for process in begun:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_comes_to_the_same_end(
    undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path, kills: int
) -> None:
    """`kill -9` at random moments of the work, resumed each time: the same games once, the same weights."""
    folder, state = undisturbed
    random = np.random.default_rng(4)
    killed, said = 0, ""
    # Moments are spread over the whole run: each time it may work for about its share.
    share = state["seconds"] / kills
    with ready_runners(tmp_path) as runners:
        while killed < kills and not said:
            process = next(runners)
            process.stdin.write("go\n")
            process.stdin.flush()
            time.sleep(float(random.uniform(0, 2 * share)))
            process.kill()
            said = process.stdout.read()
            process.wait()
            killed += 1
    assert killed >= kills / 4
    if not said:
        run_to_the_end(tmp_path, "run")
    again = run_to_the_end(tmp_path, "run")
    assert games_of(tmp_path / "run") == games_of(folder)
    assert figures_of(tmp_path / "run") == figures_of(folder)
    assert again["champion"] == state["champion"]
    domain = TicTacToe()
    for number in (1, 2, 3):
        mine, theirs = (Run.open(path).bundle(number) for path in (tmp_path / "run", folder))
        assert mine is not None
        assert theirs is not None
        assert read_bundle(mine, domain).hash == read_bundle(theirs, domain).hash
    collected = [[line[name] for name in ("games", "rows", "simulations")] for line in again["history"]]
    assert collected == [[line[name] for name in ("games", "rows", "simulations")] for line in state["history"]]


def test_its_steps_and_its_progress_can_be_watched(tmp_path: Path) -> None:
    graph = build_training_graph(TrainingResources(root=tmp_path))
    seen: list[str] = []
    events: list[dict[str, Any]] = []
    given = {"domain": "tic_tac_toe", "recipe": tiny(), "iterations": 1}
    for mode, chunk in graph.stream(given, stream_mode=["updates", "custom"]):
        if mode == "updates":
            seen += list(chunk)
        else:
            events.append(chunk)
    assert seen == ["plan", *["collect"] * 3, "fit", "evaluate", "certify", "promote", "plan", "finish"]
    assert json.loads(json.dumps(events)) == events
    kinds = {event["event"] for event in events}
    assert kinds >= {"plan", "collect", "collected", "fit", "pass", "evaluate", "evaluation", "certify", "promotion"}
    certificate = next(event for event in events if event["event"] == "certify")
    assert certificate["certified"] is False
    collected = [event for event in events if event["event"] == "collected"]
    assert sum(event["games"] for event in collected) == 60
    passes = [event for event in events if event["event"] == "pass"]
    assert [event["pass"] for event in passes] == [1, 2, 3]
    assert passes[-1]["learning_rate"] == 0


def test_the_champion_of_a_finished_run_is_certified(tmp_path: Path) -> None:
    """Small networks can prove little: what they are held to here is loose."""
    graph = build_training_graph(TrainingResources(root=tmp_path))
    config = CertifyConfig(alphas=(0.45, 0.0001), simulations=4)
    given = {"domain": "tic_tac_toe", "recipe": tiny(certify=config), "iterations": 2, "run": "proven"}
    events = [event for event in graph.stream(given, stream_mode="custom") if event["event"] == "certify"]
    assert [event["certified"] for event in events] == [False, True]
    assert events[0]["reason"] == "the run is not over"
    assert list(events[1]["unproven"]) == ["0.0001"]
    run, domain = Run.open(tmp_path / "proven", alone=False), load_domain("tic_tac_toe")
    bundle = read_bundle(tmp_path / "proven" / "champion", domain)
    assert [one.alpha for one in bundle.certificates] == [0.45]
    plain = read_bundle(run.plain_bundle(events[1]["iteration"]), domain)
    assert bundle.manifest.network == plain.manifest.network
    for ours, theirs in zip(bundle.network.parameters(), plain.network.parameters(), strict=True):
        assert (ours == theirs).all()


def test_the_drawing_is_the_architecture() -> None:
    edges = {(edge.source, edge.target) for edge in build_training_graph().get_graph().edges}
    assert edges >= {("plan", "collect"), ("collect", "fit"), ("fit", "evaluate"), ("evaluate", "certify")}
    assert edges >= {("certify", "promote"), ("promote", "plan"), ("plan", "finish")}


def test_a_finished_run_goes_on_with_a_larger_budget(tmp_path: Path) -> None:
    graph = build_training_graph(TrainingResources(root=tmp_path), checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    first = graph.invoke({"domain": "tic_tac_toe", "recipe": tiny(), "iterations": 1}, config)
    assert first["run"] == "tic_tac_toe-t"
    second = graph.invoke({"domain": "tic_tac_toe", "iterations": 2}, config)
    assert second["run"] == first["run"]
    assert second["history"][0] == first["history"][0]
    assert [line["iteration"] for line in second["history"]] == [1, 2]
    assert len(games_of(tmp_path / second["run"])) == 120


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_run_so_small_that_no_game_is_left_for_validation_is_fitted(tmp_path: Path, share: float) -> None:
    graph = build_training_graph(TrainingResources(root=tmp_path))
    recipe = {"games": 4, "games_a_task": 4, "window": {"validation": share}, "network": {"hidden": [8]}}
    state = graph.invoke({"domain": "tic_tac_toe", "recipe": recipe, "iterations": 1, "run": "small"})
    fits = [line for line in figures_of(tmp_path / "small") if line["kind"] == "fit"]
    assert [line["validation_policy_loss"] for line in fits] == [None] * len(fits)
    assert state["champion"]["iteration"] == 1
    read_bundle(tmp_path / "small" / "champion", TicTacToe())


def test_a_run_that_collects_nothing_learns_from_other_stores(
    tmp_path: Path, undisturbed: tuple[Path, dict[str, Any]]
) -> None:
    graph = build_training_graph(TrainingResources(root=tmp_path))
    recipe = {**tiny(), "games": 0}
    given = {"domain": "tic_tac_toe", "recipe": recipe, "iterations": 2, "run": "told"}
    with pytest.raises(SettingsError, match="there would be nothing to learn from"):
        graph.invoke(given)
    state = graph.invoke({**given, "run": "learned", "experience": [str(undisturbed[0] / "experience")]})
    assert state["history"][-1]["optimal_0"] > 0.6
    assert [line["rows"] for line in state["history"]] == [0, 0]


def test_lost_and_damaged_experience_is_told(tmp_path: Path) -> None:
    graph = build_training_graph(TrainingResources(root=tmp_path), checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    graph.invoke({"domain": "tic_tac_toe", "recipe": tiny(), "iterations": 1, "run": "run"}, config)
    lost, damaged, _ = sorted((tmp_path / "run" / "experience" / "shards").iterdir())
    lost.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-50])
    told = graph.stream({"domain": "tic_tac_toe", "iterations": 2}, config, stream_mode="custom")
    problems = [event["text"] for event in told if event["event"] == "problem"]
    assert len(problems) == 2
    for shard in (lost, damaged):
        assert sum(shard.stem in problem for problem in problems) == 1


def test_minutes_end_a_run(tmp_path: Path) -> None:
    graph = build_training_graph(TrainingResources(root=tmp_path))
    result = graph.invoke({"domain": "tic_tac_toe", "recipe": tiny(), "minutes": 0.001})
    assert result["iteration"] <= 2
    lines = [line for line in figures_of(tmp_path / result["run"]) if line["kind"] == "fit"]
    assert lines[-1]["learning_rate"] < 0.002


def test_a_game_of_ones_own_is_learned_in_the_time_given(tmp_path: Path) -> None:
    graph = build_training_graph(TrainingResources(root=tmp_path))
    given = {"domain": "nim:Nim", "minutes": 0.05}
    events = list(graph.stream({**given, "run": "nim"}, stream_mode="custom"))
    kinds = Counter(event["event"] for event in events)
    assert kinds["promotion"] == kinds["plan"] >= 1
    plan = [event for event in events if event["event"] == "plan"]
    assert [event["last"] for event in plan] == [False] * (len(plan) - 1) + [True]
    assert (tmp_path / "nim" / "champion" / "bundle.json").exists()
    assert json.loads((tmp_path / "nim" / "clock.json").read_bytes())["seconds"] > 0
    run = Run.open(tmp_path / "nim")
    first = run.store.read(run.store.entries[0].name)
    assert first is not None
    assert set(first.model.tolist()) == {"random"}


def test_a_run_of_a_game_that_need_not_end_says_so(tmp_path: Path) -> None:
    run = Run.begin(tmp_path / "r", RunConfig("nim:Nim", Recipe.of(tiny())))
    run.write(tmp_path / "r/lengths.json", asdict(Lengths(0.0, 0, False, None, 1e-6)))
    heard: list[dict[str, Any]] = []
    steps.tasks(run, 1, last=False)
    steps.tasks(run, 2, last=False)
    run.tell_problems(heard.append)
    (note,) = heard
    assert note["text"].startswith("none of the random games of 'nim' ended: games are cut after 200 actions")


def test_a_run_by_minutes_that_is_killed_everywhere_ends_all_the_same(tmp_path: Path) -> None:
    saver = Stumbling()
    graph = build_training_graph(TrainingResources(root=tmp_path), checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "t"}}
    for _ in range(100):
        given = {"domain": "nim:Nim", "minutes": 0.03, "run": "r"}
        start = None if stopped_on_the_way(graph.get_state(config)) else given
        try:
            state = graph.invoke(start, config, durability="sync")
        except OSError:
            continue
        break
    assert state["champion"]["iteration"] <= state["iteration"]
    assert all((tmp_path / "r" / "iterations" / f"{n + 1:04d}" / "bundle").exists() for n in range(state["iteration"]))


def test_only_one_process_trains_in_a_folder(undisturbed: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = undisturbed
    run = Run.open(folder)  # this process holds it now
    code = (
        "import sys; from pathlib import Path; from escalade.training.run import Run, RunError\n"
        "try: Run.open(Path(sys.argv[1]))\n"
        "except RunError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(folder)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "another process is training" in said
    assert Run.open(folder).config == run.config  # the holder may open it as often as it likes
    let_go(folder)
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"run": None}, SettingsError, "domain: name what is to be learned"),
        ({}, SettingsError, "domain: there is no run 'named' yet"),
        ({"domain": "nonsense"}, CatalogError, "nonsense"),
        ({"domain": "tic_tac_toe", "iterations": 0}, SettingsError, "iterations: a number, at least 1"),
        ({"domain": "tic_tac_toe", "iterations": 1.5}, SettingsError, "iterations: a number"),
        ({"domain": "tic_tac_toe", "minutes": -1}, SettingsError, "minutes: a number, at least 0"),
        ({"domain": "tic_tac_toe", "minutes": "5"}, SettingsError, "minutes: a number"),
        ({"domain": "tic_tac_toe", "seed": -1}, SettingsError, "seed: a whole number"),
        ({"domain": "tic_tac_toe", "seed": 2**63}, SettingsError, "seed: a whole number"),
        ({"domain": "tic_tac_toe", "experience": "abc"}, SettingsError, "experience: a list of paths"),
        ({"domain": "tic_tac_toe", "experience": ["nowhere"]}, SettingsError, "'nowhere' is no experience store"),
        ({"domain": "tic_tac_toe", "exclude": ["nowhere.csv"]}, Exception, "nowhere.csv"),
        ({"domain": "tic_tac_toe", "run": "../x"}, SettingsError, "run: the name of a folder"),
        ({"domain": "tic_tac_toe", "recipe": "fast"}, SettingsError, "there is no recipe 'fast'"),
        ({"domain": "tic_tac_toe", "recipe": {"games": -1}}, SettingsError, "games"),
        ({"domain": "tic_tac_toe", "recipe": {"gamse": 1}}, SettingsError, "no field 'gamse'"),
        ({"domain": "tic_tac_toe", "recipe": {"learner": {"rate": 1}}}, SettingsError, r"no field 'learner\.rate'"),
        ({"domain": "intents", "options": {"labels": ["a", "b"]}}, SettingsError, "has no simulator"),
    ],
)
def test_input_that_is_none_is_named(tmp_path: Path, given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build_training_graph(TrainingResources(root=tmp_path)).invoke({"run": "named", **given})
    assert not (tmp_path / "named" / "run.json").exists()  # the name is free for a better try


@pytest.mark.parametrize(
    "other", [{"domain": "connect_four"}, {"seed": 3}, {"recipe": "default"}, {"experience": ["elsewhere"]}], ids=str
)
def test_a_run_answers_for_no_other(undisturbed: tuple[Path, dict[str, Any]], other: dict[str, Any]) -> None:
    graph = build_training_graph(TrainingResources(root=undisturbed[0].parent))
    with pytest.raises(RunError, match=f"{next(iter(other))}: run 'run' has another one"):
        graph.invoke({"domain": "tic_tac_toe", "run": "run", "iterations": 3, **other})


class Stumbling(InMemorySaver):
    """A store of checkpoints that fails once at each of them, as one killed just before it would leave it."""

    def __init__(self) -> None:
        super().__init__()
        self.stumbled: set[Any] = set()

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        if metadata["step"] not in self.stumbled:
            self.stumbled.add(metadata["step"])
            raise OSError("killed here")
        return super().put(config, checkpoint, metadata, new_versions)


def test_stopped_before_any_checkpoint_it_comes_to_the_same_end(
    undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, _ = undisturbed
    saver = Stumbling()
    graph = build_training_graph(TrainingResources(root=tmp_path), checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "t"}}
    given = {"domain": "tic_tac_toe", "recipe": tiny(), "run": "other name"}
    stops = 0
    while True:
        snapshot = graph.get_state(config)
        start = None if stopped_on_the_way(snapshot) else given
        try:
            again = graph.invoke(start, config, durability="sync")
        except OSError as error:
            assert str(error) == "killed here"  # noqa: PT017
            stops += 1
        else:
            break
    assert stops == len(saver.stumbled) > 15
    assert not stopped_on_the_way(graph.get_state(config))
    assert [line["iteration"] for line in again["history"]] == [1, 2, 3]
    assert Counter(games_of(tmp_path / "other name").values()) == Counter(games_of(folder).values())
    domain = TicTacToe()
    mine, theirs = (read_bundle(path / "champion", domain) for path in (tmp_path / "other name", folder))
    assert mine.hash == theirs.hash  # a run's name is no source of chance


def test_a_folder_that_moved_goes_on_where_it_is_now(
    undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first").mkdir()
    monkeypatch.chdir(tmp_path / "first")
    saver = InMemorySaver()
    config: Any = {"configurable": {"thread_id": "t"}}
    graph = build_training_graph(TrainingResources(root=Path()), checkpointer=saver)
    graph.invoke({"domain": "tic_tac_toe", "recipe": tiny(), "run": "run"}, config, interrupt_before=["collect"])
    let_go(tmp_path / "first" / "run")
    (tmp_path / "first").rename(tmp_path / "second")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    moved = build_training_graph(TrainingResources(root=tmp_path / "second"), checkpointer=saver)
    moved.invoke(None, config)
    assert games_of(tmp_path / "second" / "run") == games_of(undisturbed[0])
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_run_keeps_its_config(tmp_path: Path, undisturbed: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = undisturbed
    config = Run.open(folder).config
    assert Run.begin(folder, config).config == config
    with pytest.raises(RunError, match="a run of another config"):
        Run.begin(folder, config.__class__(domain="tic_tac_toe", recipe=config.recipe, seed=5))
    with pytest.raises(RunError, match="there is no training run"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text('{"domain": 3}')
    with pytest.raises(RunError, match="damaged"):
        Run.open(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [("champion", "{}"), ("champion", "7"), ("champion", "{"), ("budget", "[1]"), ("budget", '{"minutes": "x"}')],
)
def test_a_damaged_file_is_named(
    tmp_path: Path, undisturbed: tuple[Path, dict[str, Any]], name: str, text: str
) -> None:
    run = Run.begin(tmp_path / "run", Run.open(undisturbed[0]).config)
    (run.folder / f"{name}.json").write_text(text)
    with pytest.raises(RunError, match=rf"{name}\.json' is damaged"):
        getattr(run, name)


def test_the_learning_rate_falls_with_the_work_of_all_iterations(undisturbed: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = undisturbed
    rates = [line["learning_rate"] for line in figures_of(folder) if line["kind"] == "fit"]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == 0
    # Passes over one, two and three iterations' rows: 2, 4 and 9 parts of the work.
    shares = [share_of_work(Run.open(folder).recipe, number, 3) for number in range(4)]
    assert shares == pytest.approx([0, 2 / 15, 6 / 15, 1])
