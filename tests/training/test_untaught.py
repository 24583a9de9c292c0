"""Teaching and proof never share a row, whoever asks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from in_process import escalade
from support import network_for

from escalade.domains.base import legal_mask
from escalade.domains.connect_four import ConnectFour
from escalade.domains.intents import Intents
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.neural.bundle import Bundle, read_bundle, write_bundle
from escalade.neural.taught import Taught, is_among
from escalade.training.certify import certify as certify_bundle
from escalade.training.certify_config import Promise
from escalade.training.exact import solved, write_positions
from escalade.training.exact_labels import exact_labels
from escalade.training.position_keys import digests_of
from escalade.training.recorded import record
from escalade.training.reference import Labelled
from escalade.training.rows import Rows
from escalade.training.store import ExperienceStore
from escalade.training.untaught import teaches, untaught
from escalade.training.window import is_for_proof, is_validation

GAME = ConnectFour()
LABELS = ["loan", "fees"]
TEXTS = Intents(LABELS)


def bundle_taught_by(folder: Path, states: list[str], domain=GAME) -> Bundle:
    taught = Taught().with_weights([digests_of(domain, states)])
    return write_bundle(folder / "bundle", domain=domain, network=network_for(domain), taught=taught)


def labelled(states: list[str], domain=GAME, **more) -> Labelled:
    acceptable = legal_mask(domain, [domain.parse(text) for text in states])
    return Labelled(tuple(states), acceptable, np.arange(len(states)), "labels", "a file", **more)


def test_a_state_is_known_however_it_was_reached_or_turned(tmp_path: Path) -> None:
    bundle = bundle_taught_by(tmp_path, ["1232", "44"])
    # Another order of the same moves, mirror images, and others that are none of these.
    kept, left = untaught(GAME, bundle, labelled(["3212", "7656", "5676", "44", "1231", "4", ""]))
    assert kept.states == ("1231", "4", "")
    assert (left.count, left.of, left.complete) == (4, 7, True)
    assert "4 that taught left out" in kept.source
    assert [teaches(GAME, bundle.path)(text) for text in ("7656", "1231")] == [True, False]


def test_of_every_state_there_is_none_is_left_out(tmp_path: Path) -> None:
    bundle = bundle_taught_by(tmp_path, ["1232"])
    kept, left = untaught(GAME, bundle, labelled(["1232", "4"], census=True))
    assert (len(kept), left.count) == (2, 0)


def test_what_the_solver_lists_is_kept_if_it_was_drawn_anew(tmp_path: Path) -> None:
    bundle = bundle_taught_by(tmp_path, ["1232", "44", "12345671"])
    states, listed = ["1232", "44", "12345671", "4444"], np.array([True, False, False, True])
    kept, left = untaught(GAME, bundle, labelled(states, listed=listed))
    assert kept.states == ("1232", "4444")
    assert (left.count, left.of) == (2, 4)
    assert kept.source == "a file; 2 that taught left out; 1 that taught kept, of the solver's list of all openings"
    assert kept.are_listed(["4444", "1232", "44"]).tolist() == [True, True, False]
    # A file, of whatever was chosen for it, is no draw from that list.
    drawn = exact_labels(GAME, count=30, seed=4)
    assert drawn.listed is not None
    assert drawn.listed.tolist() == [len(text) < 8 for text in drawn.states]
    path = tmp_path / "positions.csv"
    write_positions(path, solved(GAME, [GAME.parse("1232"), GAME.parse("4")], "some"))
    assert untaught(GAME, bundle, exact_labels(GAME, path=path))[0].states == ("4",)


def test_a_text_is_known_by_its_words(tmp_path: Path) -> None:
    bundle = bundle_taught_by(tmp_path, ["lost my card"], TEXTS)
    texts = ["lost my card\u200b", "Lost my card .", "lost my cards", "please lost my card"]
    kept, left = untaught(TEXTS, bundle, labelled(texts, TEXTS))
    assert kept.states == ("lost my cards", "please lost my card")
    assert left.count == 2


def test_an_older_bundle_is_said_to_record_nothing(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", domain=GAME, network=network_for(GAME))
    kept, left = untaught(GAME, bundle, labelled(["1232"]))
    assert kept.source == "a file; the bundle does not record whether any of them taught it"
    assert (len(kept), left.count) == (1, None)
    assert "does not record" in str(left)
    assert not teaches(GAME, bundle.path)("1232")


def test_the_frontier_leaves_out_what_proved_the_certificates_too(tmp_path: Path) -> None:
    taught = Taught().with_weights([digests_of(GAME, ["1"])]).with_proof(digests_of(GAME, ["2"]))
    bundle = write_bundle(tmp_path / "bundle", domain=GAME, network=network_for(GAME), taught=taught)
    states = labelled(["1", "2", "3"])
    assert untaught(GAME, bundle, states)[0].states == ("2", "3")
    kept, left = untaught(GAME, bundle, states, "bundle")
    assert kept.states == ("3",)
    assert str(left).endswith("or its certificates were made from them")


def test_games_for_proof_and_for_validation_are_drawn_apart() -> None:
    games = np.array([f"run/{number:08d}" for number in range(20_000)])
    proof, validation = is_for_proof(games, 0.2), is_validation(games, 0.05)
    assert abs(proof.mean() - 0.2) < 0.01
    assert abs((proof & validation).mean() - 0.01) < 0.004


# As a user does it


def store_of_texts(folder: Path, count: int) -> None:
    """Decisions of a language model on texts of five words, half of them on loans."""
    random = np.random.default_rng(0)
    words = [f"word{number}" for number in range(500)]
    said = [" ".join(random.choice(words, 5)) for _ in range(count)]
    actions = np.arange(count) % 2
    states = [f"{'borrow' if action == 0 else 'charge'} {text}" for action, text in zip(actions, said, strict=True)]
    policy = np.eye(2, dtype=np.float32)[actions]
    nothing = np.full(count, np.nan, np.float32)
    ids = np.array([f"d{number}" for number in range(count)])
    rows = Rows(
        game=ids,
        ply=np.zeros(count, np.int32),
        state=np.array(states),
        observation=TEXTS.encode(states),
        legal=np.ones((count, 2), np.bool_),
        policy=policy,
        action=actions.astype(np.int32),
        value=nothing,
        outcome=nothing,
        source=np.full(count, "llm"),
        model=np.full(count, "m"),
        decision=ids,
    )
    ExperienceStore(folder, TEXTS).add(rows, "decisions")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untaught")
    (folder / "labels.json").write_text(json.dumps(LABELS))
    store_of_texts(folder / "store", 3000)
    recipe = {"games": 0, "iterations": 2, "network": {"hidden": [16]}, "passes": 3, "last_passes": 3}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    done = train(folder, "run")
    assert done.returncode == 0, done.stderr
    assert "kept" in done.stderr + done.stdout or "teach nothing" in done.stderr + done.stdout
    return folder


def train(folder: Path, run: str, *more: str):
    command = ("train", "intents", "-o", "labels=labels.json", "--experience", "store", "--recipe", "recipe.json")
    return escalade(*command, "--run", run, *more, cwd=folder)


def certify(folder: Path, *more: str, bundle: str = "out/train/run/champion"):
    command = ("certify", "intents", "-o", "labels=labels.json", "--bundle", bundle, "--reference", "llm")
    return escalade(*command, "--json", *more, cwd=folder)


def test_a_bundle_carries_every_state_that_taught_or_chose_it(trained: Path) -> None:
    rows = ExperienceStore(trained / "store", TEXTS).recent(10_000)
    assert rows is not None
    taught = read_bundle(trained / "out/train/run/champion", TEXTS).taught()
    assert taught is not None
    assert taught.complete
    known = is_among(digests_of(TEXTS, rows.state.tolist()), taught.weights)
    assert known.tolist() == (~is_for_proof(rows.game, 0.2)).tolist()


def test_the_store_that_taught_certifies_by_what_it_kept(trained: Path) -> None:
    done = certify(trained, "--experience", "store", "--out", "certified")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    left = report["left_out"]
    assert left["of"] == 3000
    assert 2300 < left["states"] < 2500
    used = sum(report["certificates"][0][part]["count"] for part in ("tune", "calibrate"))
    assert used == 3000 - left["states"]
    assert f"{left['states']:,} of 3,000 states left out" in done.stderr
    # What proved it is known from then on, and does not measure its frontier.
    taught = read_bundle(trained / "certified/bundle", TEXTS).taught()
    assert taught is not None
    assert len(taught.proof) == used
    measured = escalade(
        *("frontier", "intents", "-o", "labels=labels.json", "--bundle", "certified/bundle", "--reference", "llm"),
        *("--experience", "store"),
        cwd=trained,
    )
    assert measured.returncode == 2
    assert "3,000 of 3,000 states left out" in measured.stderr


def test_rows_that_all_taught_are_refused_with_their_number(trained: Path, tmp_path: Path) -> None:
    rows = ExperienceStore(trained / "store", TEXTS).recent(10_000)
    assert rows is not None
    mine = rows.take(~is_for_proof(rows.game, 0.2))
    lines = [f"{text},{LABELS[action]}" for text, action in zip(mine.state, mine.action, strict=True)]
    (trained / "states.csv").write_text("\n".join(["state,action", *lines]))
    done = escalade(
        *("certify", "intents", "-o", "labels=labels.json", "--bundle", "out/train/run/champion"),
        *("--reference", "labels", "--states", "states.csv", "--out", str(tmp_path / "out")),
        cwd=trained,
    )
    assert done.returncode == 2
    assert not (tmp_path / "out").exists()
    assert f"{len(mine):,} of {len(mine):,} states left out" in done.stderr


def test_who_certifies_from_python_is_held_to_it_too(trained: Path, tmp_path: Path) -> None:
    rows = ExperienceStore(trained / "store", TEXTS).recent(10_000)
    assert rows is not None
    bundle = read_bundle(trained / "out/train/run/champion", TEXTS)
    acceptable = np.eye(2, dtype=np.bool_)[rows.action]
    given = Labelled(tuple(rows.state.tolist()), acceptable, np.arange(len(rows)), "llm", "all of the store")
    recorded = record(TEXTS, bundle, given, simulations=1)
    made = certify_bundle(
        bundle, recorded, [Promise(0.1)], tmp_path / "made", domain=TEXTS, labelled=given, simulations=1
    )
    one = made.certificates[0]
    assert one.tune.count + one.calibrate.count == int(is_for_proof(rows.game, 0.2).sum())


def test_going_on_from_a_bundle_adds_to_what_taught_it(trained: Path) -> None:
    first = read_bundle(trained / "out/train/run/champion", TEXTS).taught()
    assert train(trained, "on", "--start", "out/train/run/champion").returncode == 0
    on = read_bundle(trained / "out/train/on/champion", TEXTS).taught()
    assert first is not None
    assert on is not None
    assert on.complete
    assert np.isin(first.weights, on.weights).all()


def test_what_began_with_an_older_bundle_says_that_it_may_know_more(trained: Path) -> None:
    old = read_bundle(trained / "out/train/run/champion", TEXTS)
    write_bundle(trained / "older", domain=TEXTS, network=old.network)
    assert train(trained, "from-older", "--start", "older").returncode == 0
    done = certify(trained, "--experience", "store", bundle="out/train/from-older/champion")
    assert "there may be others" in done.stderr


def test_self_play_and_the_positions_that_judge_are_known(tmp_path: Path) -> None:
    recipe = {"games": 4, "iterations": 1, "network": {"hidden": [8]}, "passes": 1, "last_passes": 1, "certify": None}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    done = escalade("train", "tic_tac_toe", "--recipe", "recipe.json", "--run", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    domain = TicTacToe()
    folder = tmp_path / "out/train/r"
    rows = ExperienceStore(folder / "experience", domain).recent(1000)
    assert rows is not None
    taught = read_bundle(folder / "champion", domain).taught()
    assert taught is not None
    assert is_among(digests_of(domain, rows.state.tolist()), taught.weights).all()
    assert len(taught.weights) == 627  # all unfinished positions, up to symmetry: they judged it


def test_labelled_copies_keep_what_they_are(tmp_path: Path) -> None:
    bundle = bundle_taught_by(tmp_path, ["1"])
    some = replace(labelled(["1", "2"]), group=np.array([7, 9]))
    assert untaught(GAME, bundle, some)[0].group.tolist() == [9]
