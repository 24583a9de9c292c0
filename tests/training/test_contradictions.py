"""Labels that contradict each other are counted and named, and what they allow at best is what nobody exceeds."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import escalade

from escalade.domains.intents import Intents
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.neural.bundle import write_bundle
from escalade.neural.networks import PolicyValueNetwork
from escalade.neural.spec import NetworkSpec
from escalade.training.contradictions import contradictions, contradictions_of_rows
from escalade.training.rows import Rows, joined
from escalade.training.store import ExperienceStore

LABELS = ["loan", "fees", "card"]
TEXTS = Intents(LABELS)


def one_hot(actions: list[int], count: int = 3) -> Any:
    return np.arange(count) == np.array(actions).reshape(-1, 1)


def label_rows(texts: list[str], actions: list[int], source: str = "llm", domain: Any = TEXTS) -> Rows:
    count, size = len(texts), domain.num_actions
    legal = np.zeros((count, size), np.bool_)
    for row, text in enumerate(texts):
        legal[row, list(domain.legal_actions(domain.parse(text)))] = True
    return Rows(
        game=np.array([f"g/{number}" for number in range(count)]),
        ply=np.zeros(count, np.int32),
        state=np.array(texts),
        observation=domain.encode([domain.parse(text) for text in texts]),
        legal=legal,
        policy=one_hot(actions, size).astype(np.float32),
        action=np.array(actions, np.int32),
        value=np.full(count, np.nan, np.float32),
        outcome=np.full(count, np.nan, np.float32),
        source=np.full(count, source),
        model=np.full(count, "m"),
        decision=np.full(count, ""),
    )


def test_both_labels_are_named_with_their_counts() -> None:
    found = contradictions(TEXTS, ["pay bill"] * 200 + ["my card"], one_hot([0] * 100 + [1] * 100 + [2]))
    assert (found.rows, found.states, found.contradictory_states, found.contradictory_rows) == (201, 2, 1, 200)
    assert found.best_accuracy == pytest.approx(101 / 201)
    assert found.plain()["worst"] == [{"state": "pay bill", "labels": {"loan": 100, "fees": 100}}]
    assert "'pay bill': loan 100, fees 100" in str(found)
    assert "at most 50.25% of all rows" in str(found)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=40))
def test_the_best_accuracy_is_that_of_the_most_frequent_labels(drawn: list[tuple[int, int]]) -> None:
    texts = [f"text {'abcd'[number]}" for number, _ in drawn]
    labels: dict[str, Counter[int]] = defaultdict(Counter)
    for text, (_, action) in zip(texts, drawn, strict=True):
        labels[text][action] += 1
    found = contradictions(TEXTS, texts, one_hot([action for _, action in drawn]))
    most = sum(max(counts.values()) for counts in labels.values())
    assert found.best_accuracy == pytest.approx(most / len(texts) if texts else 1.0)
    assert found.contradictory_states == sum(len(counts) > 1 for counts in labels.values())
    assert found.states == len(labels)
    lost = [sum(one.labels.values()) - max(one.labels.values()) for one in found.worst]
    assert lost == sorted(lost, reverse=True)
    assert bool(str(found)) == bool(found.contradictory_states)


def test_states_that_look_the_same_are_one() -> None:
    game = TicTacToe()
    found = contradictions(game, ["519", "915", "5"], one_hot([2, 3, 0], 9))  # 915 is 519 in another order
    assert (found.states, found.contradictory_states) == (2, 1)
    assert found.worst[0].labels == {"3": 1, "4": 1}
    assert contradictions(TEXTS, ["Pay BILL", "pay bill"], one_hot([0, 1])).contradictory_states == 1


def test_several_right_actions_contradict_only_where_none_is_shared() -> None:
    right = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 0]], bool)
    assert contradictions(TEXTS, ["a b", "a b"], right[:2]).contradictory_states == 0
    assert contradictions(TEXTS, ["a b"] * 3, right).contradictory_states == 1


def test_policies_of_play_are_no_labels_and_a_solver_is_right() -> None:
    game = TicTacToe()
    rows = [label_rows(["51", "51", "5"], [8, 2, 0], source, game) for source in ("search", "llm", "human")]
    found = contradictions_of_rows(game, joined(rows))
    assert (found.rows, found.contradictory_states) == (6, 1)
    solved = joined([*rows, label_rows(["51"], [8], "solver", game)])
    assert contradictions_of_rows(game, solved).contradictory_states == 0
    assert contradictions_of_rows(game, rows[0]).rows == 0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels, a bundle for them, and rows with a text that has two labels as often."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "labels.csv").write_text("label\nloan\nfees\n")
    spec = NetworkSpec(observation_shape=TEXTS.observation_shape, num_actions=2, hidden=(4,))
    network = PolicyValueNetwork(spec)
    write_bundle(folder / "bundle", domain=Intents(folder / "labels.csv"), network=network)
    pairs = "".join(f"please number {n},{'loan' if n % 2 else 'fees'}\n" for n in range(60))
    (folder / "rows.csv").write_text("Text,Label\n" + pairs + 20 * "pay bill,loan\n" + 20 * "pay bill,fees\n")
    return folder


WARNING = "1 of 61 different states have contradictory labels (40 of 100 rows), so at most 80.00% of all rows"


def test_evaluate_and_certify_and_frontier_name_them(bundle: Path, tmp_path: Path) -> None:
    common = ("intents", "-o", f"labels={bundle / 'labels.csv'}", "--bundle", str(bundle / "bundle"), "--json")
    rows = str(bundle / "rows.csv")
    done = escalade("evaluate", *common, "--labels", rows, "--out", "e", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert WARNING in done.stderr
    report = json.loads(done.stdout)
    assert report["contradictory_labels"]["labels of rows.csv"]["best_accuracy"] == 0.8
    assert report["estimates"]["values"] == []  # labels say nothing of a value
    assert report["agreement"][0]["all"]["count"] == 100
    done = escalade(
        "certify", *common, "--reference", "labels", "--states", rows, "--alpha", "0.9", "--out", "c", cwd=tmp_path
    )
    assert WARNING in done.stderr
    if done.returncode == 0:
        found = json.loads(done.stdout)["contradictory_labels"]["rows.csv"]
        assert found["worst"] == [{"state": "pay bill", "labels": {"loan": 20, "fees": 20}}]
    done = escalade("frontier", *common, "--reference", "labels", "--states", rows, "--out", "f", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert WARNING in done.stderr
    assert json.loads(done.stdout)["contradictory_labels"]["rows.csv"]["contradictory_rows"] == 40


def test_train_names_them_once(bundle: Path, tmp_path: Path) -> None:
    domain = Intents(bundle / "labels.csv")
    store = ExperienceStore(tmp_path / "store", domain)
    texts = [f"please number {n}" for n in range(60)] + ["pay bill"] * 40
    store.add(label_rows(texts, [n % 2 for n in range(60)] + [0, 1] * 20, "human", domain))
    recipe = {"games": 0, "families": 0, "network": {"hidden": [4]}}
    (tmp_path / "r.json").write_text(json.dumps(recipe))
    done = escalade(
        *("train", "intents", "-o", f"labels={bundle / 'labels.csv'}", "--recipe", "r.json", "--experience", "store"),
        *("--iterations", "2", "--run", "texts", "--json"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("different states have contradictory labels") == 1
    assert "'pay bill': loan 20, fees 20" in done.stderr
    assert json.loads(done.stdout)["contradictory_labels"]["best_accuracy"] == 0.8
