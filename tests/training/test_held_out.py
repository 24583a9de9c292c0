"""Where there is no simulator, held-out rows say which iteration is best, and when there is no more to learn."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver
from rich.console import Console
from support import network_for
from typer.testing import CliRunner

from escalade.app.cli import app
from escalade.app.train_view import TrainView, history_table
from escalade.domains.base import legal_mask
from escalade.domains.intents import Intents
from escalade.graph.training import TrainingResources, build_training_graph, stopped_on_the_way
from escalade.neural.bundle import read_bundle
from escalade.neural.manifest import DomainStamp
from escalade.training import judge
from escalade.training.intervals import share_of
from escalade.training.rows import Rows
from escalade.training.run import Run, let_go
from escalade.training.run_plots import write_run_plots
from escalade.training.run_window import held_out, window
from escalade.training.shards import write_shard
from escalade.training.store import ExperienceStore
from escalade.training.validation import held_out_figures, validate, weighted
from escalade.training.window import Targets

LABELS = ["card", "loan", "app"]
DOMAIN = Intents(LABELS)
RECIPE = {
    "games": 0,
    "iterations": 8,
    "passes": 2,
    "last_passes": 2,
    "patience": 2,
    "network": {"hidden": [24]},
    "learner": {"batch_size": 16, "learning_rate": 0.02, "average": 0.5},
    "window": {"validation": 0.3},
}
"""A large step on few rows: known by heart within some iterations."""


def labelled(count: int, seed: int = 0, wrong: float = 0.3) -> Rows:
    """Texts of random words of which one tells the label, with a share of wrong labels: what is learned by heart."""
    random = np.random.default_rng(seed)
    label = random.integers(3, size=count)
    texts = [
        DOMAIN.parse(f"{LABELS[right]} {' '.join('abcdefghijklmnop'[letter] * 3 for letter in letters)}")
        for right, letters in zip(label, random.integers(16, size=(count, 3)), strict=True)
    ]
    told = np.where(random.random(count) < wrong, random.integers(3, size=count), label)
    names = np.array([f"d-{seed}-{number}" for number in range(count)])
    unknown = np.full(count, np.nan, np.float32)
    return Rows(
        game=names,
        ply=np.zeros(count, np.int32),
        state=np.array(texts),
        observation=DOMAIN.encode(texts),
        legal=legal_mask(DOMAIN, texts),
        policy=np.eye(3, dtype=np.float32)[told],
        action=told.astype(np.int32),
        value=unknown,
        outcome=unknown.copy(),
        source=np.full(count, "llm"),
        model=np.full(count, "a model"),
        decision=names,
    )


def add(folder: Path, rows: Rows) -> str:
    store = ExperienceStore(folder, DOMAIN)
    write_shard(store.shards_folder, rows, DomainStamp.of(DOMAIN), "w")
    return str(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return add(tmp_path_factory.mktemp("labelled") / "intents", labelled(150))


def given_of(store: str, **fields: Any) -> dict[str, Any]:
    recipe = {**RECIPE, **fields}
    return {"domain": "intents", "options": {"labels": LABELS}, "experience": [store], "recipe": recipe, "run": "run"}


@pytest.fixture(scope="module")
def trained(store: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[dict[str, Any]]]:
    """A run: its folder, its last state, its events."""
    root = tmp_path_factory.mktemp("trained")
    graph = build_training_graph(TrainingResources(root=root), checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    events = list(graph.stream(given_of(store), config, stream_mode="custom"))
    return root / "run", graph.get_state(config).values, events


def test_the_iteration_of_the_smallest_loss_is_the_champion_and_the_run_ends(
    trained: tuple[Path, dict[str, Any], list[dict[str, Any]]],
) -> None:
    _, state, events = trained
    history = state["history"]
    losses = [line["validation_loss"] for line in history]
    best = int(np.argmin(losses))
    assert best < len(losses) - 1  # the last ones are known by heart, not understood
    assert state["champion"]["iteration"] == best + 1
    assert state["champion"]["by"] == "validation"
    assert [line["promoted"] for line in history] == [loss <= min(losses[: n + 1]) for n, loss in enumerate(losses)]
    assert len(history) == best + 1 + RECIPE["patience"]
    assert len(history) < RECIPE["iterations"]
    assert state["ended"]["reason"] == "patience"
    assert {line["count"] for line in history} == {history[0]["count"]}  # the same rows for all
    (ended,) = [event for event in events if event["event"] == "ended"]
    assert (ended["champion"], ended["iteration"]) == (best + 1, len(history))
    promotions = [event for event in events if event["event"] == "promotion"]
    assert [event["validation_loss"] for event in promotions] == losses
    for line in history:
        assert line["validation_loss_low"] < line["validation_loss"] < line["validation_loss_high"]
        assert line["validation_accuracy_low"] < line["validation_accuracy"] <= line["validation_accuracy_high"]
    for line in history[1:]:
        assert line["loss_change"] == pytest.approx(line["validation_loss"] - losses[line["against"] - 1], abs=1e-9)
        assert line["loss_change_low"] < line["loss_change"] < line["loss_change_high"]


def test_held_out_rows_teach_nothing_and_are_the_same_for_all_iterations(
    trained: tuple[Path, dict[str, Any], list[dict[str, Any]]],
) -> None:
    run = Run.open(trained[0], alone=False)
    first = held_out(run, 1)
    for number in (2, 5):
        assert all((one == other).all() for one, other in zip(first, held_out(run, number), strict=True))
    found = window(run, 1, network_for(DOMAIN))
    learned, held = found.learned, found.held
    assert all((one == other).all() for one, other in zip(first, held, strict=True))
    taught = {row.tobytes() for row in np.asarray(learned.observation)}
    assert not taught & {row.tobytes() for row in np.asarray(held.observation)}
    fit = json.loads((run.iteration(1) / "fit.json").read_text())
    line = fit["lines"][fit["best"] - 1]
    judged = json.loads((run.iteration(1) / "evaluation.json").read_text())["lines"][0]
    assert judged["validation_loss"] == pytest.approx(line["validation_policy_loss"], abs=1e-6)
    assert judged["validation_accuracy"] == line["validation_agreement"]


def test_the_best_pass_of_an_iteration_is_kept_though_texts_have_no_value(
    trained: tuple[Path, dict[str, Any], list[dict[str, Any]]],
) -> None:
    for path in sorted(trained[0].glob("iterations/*/fit.json")):
        fit = json.loads(path.read_text())
        losses = [line["validation_policy_loss"] for line in fit["lines"]]
        assert fit["best"] == int(np.argmin(losses)) + 1
        assert {line["validation_value_loss"] for line in fit["lines"]} == {None}


class Stumbling(InMemorySaver):
    """Fails once at each checkpoint, as a process killed just before it would leave it."""

    def __init__(self) -> None:
        super().__init__()
        self.stumbled: set[Any] = set()

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        if metadata["step"] not in self.stumbled:
            self.stumbled.add(metadata["step"])
            raise OSError("killed here")
        return super().put(config, checkpoint, metadata, new_versions)


def test_stopped_anywhere_it_comes_to_the_same_champion_and_end(
    store: str, trained: tuple[Path, dict[str, Any], list[dict[str, Any]]], tmp_path: Path
) -> None:
    graph = build_training_graph(TrainingResources(root=tmp_path), checkpointer=Stumbling())
    config: Any = {"configurable": {"thread_id": "t"}}
    while True:
        start = None if stopped_on_the_way(graph.get_state(config)) else given_of(store)
        try:
            again = graph.invoke(start, config, durability="sync")
        except OSError:
            continue
        break
    _, state, _ = trained
    assert again["champion"] == state["champion"]
    assert again["ended"] == state["ended"]
    clocks = {"seconds"}
    for mine, theirs in zip(again["history"], state["history"], strict=True):
        assert {n: v for n, v in mine.items() if n not in clocks} == {
            n: v for n, v in theirs.items() if n not in clocks
        }
    mine, theirs = (read_bundle(folder / "champion", DOMAIN) for folder in (tmp_path / "run", trained[0]))
    assert mine.hash == theirs.hash


def test_with_a_larger_budget_it_is_patient_anew_and_with_the_same_it_is_over(store: str, tmp_path: Path) -> None:
    graph = build_training_graph(TrainingResources(root=tmp_path), checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    first = graph.invoke({**given_of(store, patience=1), "iterations": 9}, config)
    done = first["iteration"]
    assert first["ended"]["reason"] == "patience"
    assert graph.invoke({"domain": "intents", "run": "run", "iterations": 9}, config)["iteration"] == done
    more = graph.invoke({"domain": "intents", "run": "run", "iterations": 20}, config)
    assert more["iteration"] > done
    assert more["champion"]["iteration"] == first["champion"]["iteration"] or more["history"][-1]["iteration"] > done
    let_go(tmp_path / "run")


def test_patience_can_be_switched_off(store: str, tmp_path: Path) -> None:
    graph = build_training_graph(TrainingResources(root=tmp_path))
    state = graph.invoke({**given_of(store, patience=0), "iterations": 6})
    assert (state["iteration"], state["ended"]["reason"]) == (6, "budget")


def test_without_held_out_rows_the_newest_is_taken(store: str, tmp_path: Path) -> None:
    graph = build_training_graph(TrainingResources(root=tmp_path))
    state = graph.invoke({**given_of(store, window={"validation": 0.0}), "iterations": 4})
    assert [line["by"] for line in state["history"]] == ["nothing"] * 4
    assert state["champion"]["iteration"] == 4


def test_when_the_store_grows_both_are_measured_on_the_rows_of_now(store: str, tmp_path: Path) -> None:
    folder = add(tmp_path / "growing", labelled(100, seed=1))
    graph = build_training_graph(TrainingResources(root=tmp_path / "runs"), checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    first = graph.invoke({**given_of(folder), "iterations": 1}, config)
    add(tmp_path / "growing", labelled(200, seed=2, wrong=0.0))
    second = graph.invoke({"domain": "intents", "run": "run", "iterations": 2}, config)
    one, two = second["history"]
    assert one == first["history"][0]
    assert two["count"] > one["count"]
    run = Run.open(tmp_path / "runs" / "run", alone=False)
    held = held_out(run, 2)
    networks = [read_bundle(run.plain_bundle(number), DOMAIN).network for number in (1, 2)]
    losses = [validate(network, held).policy_loss for network in networks]
    assert two["loss_change"] == pytest.approx(losses[1] - losses[0], abs=1e-9)
    assert two["promoted"] == (losses[1] < losses[0])
    better, worse = (run.plain_bundle(number) for number in ((2, 1) if losses[1] < losses[0] else (1, 2)))
    assert judge.compare(run, better, worse).better
    assert not judge.compare(run, worse, better).better
    assert f"held-out rows {-abs(losses[1] - losses[0]):+.4f}" in judge.compare(run, better, worse).why


def test_a_drawing_shows_losses_and_accuracy(trained: tuple[Path, dict[str, Any], list[dict[str, Any]]]) -> None:
    run = Run.open(trained[0], alone=False)
    made = {path.name for path in write_run_plots(run, trained[1]["history"])}
    assert made == {"losses.png", "strength.png"}


@given(st.lists(st.tuples(st.floats(-50, 50), st.integers(0, 5)), min_size=2, max_size=40))
def test_weighted_means_and_their_errors_are_those_of_the_textbook(rows: list[tuple[float, int]]) -> None:
    figures, weight = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    mean, error = weighted(figures, weight)
    if not weight.any():
        assert np.isnan(mean)
        return
    assert mean == pytest.approx(np.average(figures, weights=weight), abs=1e-9)
    known = figures[weight > 0]
    if len(known) > 1 and len(set(weight[weight > 0])) == 1:
        assert error == pytest.approx(known.std(ddof=1) / np.sqrt(len(known)), abs=1e-9)
    assert weighted(figures, 7 * weight) == pytest.approx((mean, error))


def targets_of(rows: int, policy_weight: float, value_weight: float) -> Targets:
    random = np.random.default_rng(rows)
    return Targets(
        observation=random.random((rows, 4096), np.float32),
        legal=np.ones((rows, 3), np.bool_),
        policy=np.eye(3, dtype=np.float32)[random.integers(3, size=rows)],
        value=random.uniform(-1, 1, rows).astype(np.float32),
        policy_weight=np.full(rows, policy_weight, np.float32),
        value_weight=np.full(rows, value_weight, np.float32),
    )


def test_where_no_row_teaches_a_policy_the_value_judges() -> None:
    one, other = network_for(DOMAIN, 1), network_for(DOMAIN, 2)
    held = targets_of(40, 0, 1)
    figures = held_out_figures(one, held, other)
    assert figures is not None
    assert figures["validation_loss"] == pytest.approx(validate(one, held).value_loss)
    assert "validation_accuracy" not in figures
    assert held_out_figures(one, targets_of(40, 0, 0)) is None
    assert held_out_figures(one, targets_of(0, 1, 1)) is None


def test_the_interval_of_the_accuracy_is_wilsons() -> None:
    network, held = network_for(DOMAIN, 1), targets_of(50, 2, 0)
    figures = held_out_figures(network, held)
    assert figures is not None
    right = np.zeros(50, np.bool_)
    right[: round(50 * figures["validation_accuracy"])] = True
    expected = share_of(right)
    assert figures["validation_accuracy_low"] == pytest.approx(expected.low)
    assert figures["validation_accuracy_high"] == pytest.approx(expected.high)


def test_the_card_lists_what_held_out_rows_said_and_the_bundle_can_be_exported(
    trained: tuple[Path, dict[str, Any], list[dict[str, Any]]], tmp_path: Path
) -> None:
    folder, state, _ = trained
    done = CliRunner().invoke(app, ["models", "export", str(folder), str(tmp_path / "shipped")])
    assert done.exit_code == 0, done.exception
    assert read_bundle(tmp_path / "shipped", DOMAIN).hash == read_bundle(folder / "champion", DOMAIN).hash
    card = (tmp_path / "shipped.md").read_text()
    for line in state["history"]:
        became = "yes" if line["promoted"] else "no"
        assert f"| {line['iteration']} | {line['count']} | {line['validation_loss']:.3f} (" in card
        (row,) = [row for row in card.splitlines() if row.startswith(f"| {line['iteration']} |")]
        assert row.endswith(f"| {became} |")
    assert "Never learned from: the held-out rows that chose the champion (30% of the games)" in card


def test_the_view_shows_what_chose_the_champion_and_why_the_run_ended(
    trained: tuple[Path, dict[str, Any], list[dict[str, Any]]],
) -> None:
    _, state, events = trained
    text = io.StringIO()
    view = TrainView("run", Console(file=text, width=400), None)
    for event in events:
        view.hear(event)
    said = text.getvalue()
    for line in state["history"]:
        assert f"loss {line['validation_loss']:.3f} (" in said
    assert f"held-out rows in the last {RECIPE['patience']} iterations" in said
    table = io.StringIO()
    Console(file=table, width=200).print(history_table(state["history"]))
    for words in ("held-out loss", "change", "held-out accuracy", f"{state['history'][0]['validation_accuracy']:.2%}"):
        assert words in table.getvalue()


def test_a_run_of_a_domain_with_options_goes_on_without_naming_them_again(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.csv").write_text("\n".join(["label", *LABELS]))
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE))
    begun = ["train", "intents", "-o", "labels=labels.csv", "--experience", store, "--recipe", "recipe.json"]
    done = CliRunner().invoke(app, [*begun, "--run", "mine", "--iterations", "1"])
    assert done.exit_code == 0, done.exception
    again = CliRunner().invoke(app, ["train", "intents", "--resume", "mine", "--iterations", "2"])
    assert again.exit_code == 0, again.exception
    assert "against iteration 1" in again.output
    assert "held-out rows" in again.output
