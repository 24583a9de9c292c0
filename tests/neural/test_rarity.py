"""Novelty of bags of features: what is rarely or never seen."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save
from support import network_for

from escalade.domains.errors import BundleError
from escalade.domains.intents import Intents
from escalade.neural.bundle import MANIFEST_FILE, WEIGHTS_FILE, read_bundle, write_bundle
from escalade.neural.manifest import Manifest
from escalade.neural.novelty import RarityNovelty, fit_novelty, restored

SIZE = 400


def bags(count: int, seed: int, features: int = 12, size: int = SIZE) -> np.ndarray:
    """Observations of a few features each, some of which are much more common than others; signs by column."""
    random = np.random.default_rng(seed)
    often = 1 / np.arange(1, size // 2 + 1)
    found = np.zeros((count, size), np.float32)
    for row in found:
        row[random.choice(size // 2, features, replace=False, p=often / often.sum())] = 0.3
    found[:, 1::2] *= -1
    return found


def texts_of(count: int, length: int = 9) -> list[str]:
    """Of one length, which tells nothing apart."""
    return ["x" * length] * count


def fitted(observations: np.ndarray, **options: object) -> RarityNovelty:
    found = fit_novelty(observations, texts_of(len(observations)), bag_of_features=True, **options)  # type: ignore[arg-type]
    assert isinstance(found, RarityNovelty)
    return found


def measured(novelty: RarityNovelty, observations: np.ndarray) -> np.ndarray:
    return novelty.distances(observations, texts_of(len(observations)))


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 5), st.floats(0.5, 20), st.floats(0.05, 0.95))
def test_the_limit_is_a_quantile_of_distances_by_all_other_groups(
    seed: int, sized: int, smoothing: float, quantile: float
) -> None:
    seen = bags(40, seed)
    group = np.random.default_rng(seed).permutation(np.arange(40) // sized)
    found = fitted(seen, group=group, smoothing=smoothing, quantile=quantile)
    apart = [
        measured(fitted(seen[group != own], smoothing=smoothing), seen[row : row + 1])[0]
        for row, own in enumerate(group)
    ]
    rank = min(int(np.ceil(41 * quantile)), 40)
    assert found.spec.limit == pytest.approx(np.sort(apart)[rank - 1], abs=1e-6)


@pytest.mark.parametrize("quantile", [0.9, 0.99])
def test_fresh_states_are_novel_as_rarely_as_was_asked(quantile: float) -> None:
    shares = []
    for seed in range(5):
        novelty = fitted(bags(1000, seed), quantile=quantile)
        shares.append((measured(novelty, bags(1000, seed + 100)) > novelty.spec.limit).mean())
    assert np.mean(shares) == pytest.approx(1 - quantile, abs=0.01)


def test_features_that_none_had_are_novel_and_their_sign_counts() -> None:
    novelty, fresh = fitted(bags(1000, 0)), bags(50, 1)
    unseen = np.roll(fresh, SIZE // 2, axis=1)
    assert measured(novelty, unseen).tolist() == [1.0] * 50
    assert measured(novelty, -fresh).tolist() == [1.0] * 50
    assert measured(novelty, fresh).max() < 0.9
    assert novelty.novel(unseen, texts_of(50)).all()
    # Which features there are is measured, not how large.
    assert (measured(novelty, 5 * fresh) == measured(novelty, fresh)).all()


def test_a_feature_is_half_as_rare_once_as_many_states_had_it_as_smooth() -> None:
    seen = bags(200, 0, features=3)
    seen[:, -1] = 0
    seen[:4, -1] = 1
    lone = np.zeros((1, SIZE), np.float32)
    lone[0, -1] = 1
    assert measured(fitted(seen, smoothing=4.0), lone)[0] == pytest.approx(0.5)


def test_a_state_without_a_feature_is_like_none() -> None:
    assert measured(fitted(bags(100, 0)), np.zeros((1, SIZE), np.float32)).tolist() == [1.0]


def test_a_state_is_as_far_alone_as_among_others_and_after_it_was_kept() -> None:
    novelty, fresh = fitted(bags(300, 0)), bags(50, 1)
    together = measured(novelty, fresh).tolist()
    assert [measured(novelty, fresh[row : row + 1])[0] for row in range(50)] == together
    assert restored(novelty.spec, novelty.tensors()).distances(fresh, texts_of(50)).tolist() == together
    with pytest.raises(ValueError, match="must have 400 numbers a state, not 399"):
        measured(novelty, fresh[:, 1:])


def test_texts_shorter_or_longer_than_any_are_infinitely_far_and_count_towards_the_limit() -> None:
    seen = bags(100, 0)
    texts = ["x" * (10 + row) for row in range(100)]
    novelty = fit_novelty(seen, texts, bag_of_features=True, quantile=0.98)
    assert np.isinf(novelty.distances(seen[:3], ["x" * 9, "x" * 110, "x" * 50])).tolist() == [True, True, False]
    # The shortest and the longest are the two of a hundred that are left out: no other needs to be.
    alike = fit_novelty(seen, texts_of(100), bag_of_features=True, quantile=0.5)
    assert isinstance(alike, RarityNovelty)
    assert novelty.spec.limit >= np.quantile(alike.distances(seen, texts_of(100)), 0.95)


@pytest.mark.parametrize("group", [None, np.zeros(2, np.int64), np.arange(2)])
def test_two_states_are_enough(group: np.ndarray | None) -> None:
    novelty = fit_novelty(bags(2, 0), ["a", "bcd"], bag_of_features=True, group=group)
    assert np.isfinite(novelty.spec.limit)
    with pytest.raises(ValueError, match="at least 2"):
        fit_novelty(bags(1, 0), ["a"], bag_of_features=True)


# In a bundle

LABELS = ["card", "loan"]
KNOWN = [
    f"{start} my {thing} {state}"
    for start in ("where is", "please help,", "why was", "tell me about", "what happened to", "I think")
    for thing in ("card", "new card", "loan", "account", "first payment", "credit card", "transfer", "bank statement")
    for state in ("lost", "late", "blocked", "declined", "charged twice", "not here yet", "gone")
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    domain = Intents(LABELS)
    novelty = fit_novelty(domain.encode(KNOWN), KNOWN, bag_of_features=domain.bag_of_features)
    return write_bundle(tmp_path / "b", domain=domain, network=network_for(domain), novelty=novelty).path


@pytest.mark.parametrize(
    ("text", "novel"),
    [
        *[
            ("what is the weather", True),
            ("SELECT * FROM users;", True),
            ("die Karte ist weg", True),
            ("我的卡不见了", True),
        ],
        *[
            ("where is my credit card gone", False),
            ("WHY WAS MY TRANSFER LATE", False),
            ("Tell me about my LOAN gone", False),
        ],
    ],
)
def test_other_words_are_novel_to_a_bundle_that_was_read(path: Path, text: str, novel: bool) -> None:
    domain = Intents(LABELS)
    kept = read_bundle(path, domain).novelty
    assert kept is not None
    assert kept.novel(domain.encode([text]), [text]).tolist() == [novel]


def test_its_identity_holds_the_limit_and_the_kind(path: Path) -> None:
    data = json.loads((path / MANIFEST_FILE).read_text())
    assert data["novelty"]["kind"] == "rarity"
    for change in ({"limit": 0.9}, {"smoothing": 1.0}):
        changed = Manifest.model_validate(data | {"novelty": data["novelty"] | change})
        assert changed.identity() != data["hash"]


def forged(path: Path, rarity: float | None = None, **novelty: object) -> None:
    """Changed, with hashes that fit."""
    data = json.loads((path / MANIFEST_FILE).read_text())
    tensors = load_file(path / WEIGHTS_FILE)
    if rarity is not None:
        tensors["novelty.rarity"][1, 7] = rarity
    weights = save(tensors)
    (path / WEIGHTS_FILE).write_bytes(weights)
    data |= {"weights_sha256": hashlib.sha256(weights).hexdigest(), "novelty": data["novelty"] | novelty}
    deciding = ("schema_version", "domain", "network", "value_network", "weights_sha256", "calibrators", "novelty")
    parts = json.dumps({name: data[name] for name in deciding}, sort_keys=True)
    (path / MANIFEST_FILE).write_text(json.dumps(data | {"hash": hashlib.sha256(parts.encode()).hexdigest()}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rarity": 0.0}, "rarity must be over 0 and at most 1"),
        ({"rarity": 1.5}, "rarity must be over 0 and at most 1"),
        ({"rarity": float("nan")}, "tensor 'novelty.rarity' holds NaN"),
        ({"kind": "likelihood"}, "novelty.kind must be rarity, or not be given at all"),
        ({"smoothing": 0}, "novelty.rarity.smoothing"),
        ({"limit": -1}, "novelty.rarity.limit"),
    ],
)
def test_what_cannot_be_is_refused(path: Path, change: dict[str, float], message: str) -> None:
    forged(path)
    read_bundle(path)
    forged(path, **change)  # type: ignore[arg-type]
    with pytest.raises(BundleError, match=message):
        read_bundle(path)


# On real texts


def test_other_subjects_and_languages_are_novel_to_banking_texts(shared_data: Callable[[str], Path]) -> None:
    domain = Intents(LABELS)

    def rows(split: str) -> list[str]:
        with shared_data(f"intents/banking77/{split}.csv").open(newline="", encoding="utf-8") as file:
            return [domain.parse(row["text"]) for row in csv.DictReader(file)]

    taken = np.random.default_rng(0).permutation(len(known := rows("train")))[:1500]
    texts = [known[place] for place in taken]
    novelty = fit_novelty(domain.encode(texts), texts, bag_of_features=True)

    def share(found: list[str]) -> float:
        return float(novelty.novel(domain.encode(found), found).mean())

    fresh = rows("test")
    assert share(fresh) < 0.018  # 1 %, the error of the limit, and that of the test
    assert share([text.upper() for text in fresh]) < 0.018
    queries = json.loads(shared_data("intents/clinc150/data_full.json").read_text(encoding="utf-8"))["oos_test"]
    assert share([domain.parse(text) for text, _ in queries]) > 0.45
    strange = json.loads((Path(__file__).parents[2] / "benchmarks/novelty_texts.json").read_text(encoding="utf-8"))
    for name in ("german", "french", "spanish", "russian", "chinese", "japanese", "code"):
        assert share([domain.parse(text) for text in strange[name]]) >= 0.95, name
