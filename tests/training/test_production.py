"""What production proves: audits, drawn at random from all decisions, and not what networks left to others."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import escalade
from loopback_llm import Reply, loopback

from escalade.domains.errors import SettingsError
from escalade.domains.intents import Intents
from escalade.neural.bundle import write_bundle
from escalade.neural.networks import PolicyValueNetwork
from escalade.neural.spec import NetworkSpec
from escalade.training.audits import AuditRow, thinned
from escalade.training.production import recorded_labels
from escalade.training.rows import Rows
from escalade.training.store import ExperienceStore

LABELS = ["loan", "fees"]
TEXTS = Intents(LABELS)


def rows(sources: list[str], first: int = 0, *, decided: bool = True, game: str = "") -> Rows:
    """A row each, of a text and game of its own."""
    count = len(sources)
    states = [f"text {first + number}" for number in range(count)]
    actions = np.arange(first, first + count) % 2
    ids = np.array([f"d{first + number}" for number in range(count)])
    nothing = np.full(count, np.nan, np.float32)
    return Rows(
        game=np.array([f"{game}{one}" for one in ids]),
        ply=np.zeros(count, np.int32),
        state=np.array(states),
        observation=TEXTS.encode(states),
        legal=np.ones((count, 2), np.bool_),
        policy=np.eye(2, dtype=np.float32)[actions],
        action=actions.astype(np.int32),
        value=nothing,
        outcome=nothing,
        source=np.array(sources),
        model=np.full(count, "m"),
        decision=ids if decided else np.full(count, ""),
    )


def audit(number: int, share: float = 0.1, reference: str = "llm") -> AuditRow:
    return AuditRow(f"a{number}", f"audited {number}", (number % 2,), reference, "policy", share, at=1e9 + number)


def test_before_a_network_decides_all_decisions_of_a_model_are_a_fair_sample(tmp_path: Path) -> None:
    ExperienceStore(tmp_path, TEXTS).add(rows(["llm"] * 30))
    found = recorded_labels(TEXTS, tmp_path, "llm")
    assert len(found) == 30
    assert found.source.startswith("30 decisions in ")


def test_what_networks_left_to_the_model_proves_nothing(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path, TEXTS)
    store.add(rows(["decision", "llm"] * 20))
    with pytest.raises(SettingsError, match="20 that networks had left to it, and no audits by llm"):
        recorded_labels(TEXTS, tmp_path, "llm")


def test_audits_take_the_place_of_what_was_decided_before_once_there_are_enough(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path, TEXTS)
    store.add(rows(["llm"] * 30), name="1")
    store.add(rows(["decision", "llm"] * 20, 100), name="2")
    store.audits.add([audit(number) for number in range(50)])
    audited = recorded_labels(TEXTS, tmp_path, "llm", least=50)
    assert audited.states == tuple(f"audited {number}" for number in range(50))
    assert audited.acceptable.argmax(axis=1).tolist() == [number % 2 for number in range(50)]
    assert "50 audits drawn from all decisions (share 0.1)" in audited.source
    assert "20 that networks had left to it, 30 from before networks decided" in audited.source
    before = recorded_labels(TEXTS, tmp_path, "llm", least=51)
    assert len(before) == 30
    assert "before a network decided" in before.source
    assert "50 audits are fewer than 51" in before.source


def test_states_that_a_network_was_least_sure_of_are_no_fair_sample(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path, TEXTS)
    store.add(rows(["llm"] * 10, decided=False, game="least-sure/"))
    with pytest.raises(SettingsError, match="10 that a network was least sure of"):
        recorded_labels(TEXTS, tmp_path, "llm")
    store.add(rows(["llm"] * 5, 50, decided=False))
    assert len(recorded_labels(TEXTS, tmp_path, "llm")) == 5


def test_audits_by_another_reference_do_not_count(tmp_path: Path) -> None:
    ExperienceStore(tmp_path, TEXTS).audits.add([audit(1, reference="search:600"), audit(2)])
    assert recorded_labels(TEXTS, tmp_path, "search:600").states == ("audited 1",)


def test_the_last_audit_of_a_decision_counts_and_counts_once(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path, TEXTS)
    store.audits.add([audit(1)])
    store.audits.add([replace(audit(1), right=(0,), at=2e9)])
    found = recorded_labels(TEXTS, tmp_path, "llm")
    assert found.acceptable.tolist() == [[True, False]]


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([0.01, 0.05, 0.5]), st.sampled_from([0.05, 0.2, 1.0]))
def test_thinning_leaves_every_decision_the_same_probability(seed: int, first: float, second: float) -> None:
    """40,000 decisions, half of each time; the share that is left of each time is that of the least share."""
    random = np.random.default_rng(seed)
    drawn = [
        replace(audit(number, share), source=source)
        for share, source in ((first, "policy"), (second, "reason"))
        for number in np.flatnonzero(random.random(20_000) < share).tolist()
    ]
    left = Counter(one.source for one in thinned(drawn, seed))
    expected = 20_000 * min(first, second)
    for source in ("policy", "reason"):
        assert abs(left[source] - expected) < 6 * expected**0.5


def test_a_damaged_file_of_audits_is_set_aside(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path, TEXTS)
    path = store.audits.add([audit(1)])
    path.write_bytes(path.read_bytes()[:-5] + b"wrong")
    assert [damage.name for damage in store.check()] == [path.name]
    assert len(store.audits.decisions()) == 0


# As a user does it: a network decides, a language model audits, and the audits certify


def network_that_knows_when() -> PolicyValueNetwork:
    """Sure of every text but those that hold `unsure`."""
    import torch

    spec = NetworkSpec(hidden=(4,), observation_shape=TEXTS.observation_shape, num_actions=2)
    network = PolicyValueNetwork(spec)
    unsure = TEXTS.encode(["unsure"])[0] - TEXTS.encode(["zzzzzz"])[0]
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
        first, norm, last = network.trunk[0], network.trunk[1], network.heads()[0]
        first.weight[0] = torch.from_numpy(np.maximum(unsure, 0))
        first.bias[0] = -0.4
        norm.weight.fill_(1.0)  # of four units, the first alone not 0: 3 ** 0.5 where it is positive
        last.weight[0, 0] = -4.0 / 3**0.5
        last.bias[0] = 4.0
    return network


def test_audits_of_production_certify_what_escalated_decisions_cannot(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(LABELS))
    write_bundle(tmp_path / "bundle", domain=TEXTS, network=network_that_knows_when())
    texts = [f"text {number}" + (" unsure unsure" if number % 4 == 0 else "") for number in range(440)]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    common = ("-o", "labels=labels.json", "--bundle", "bundle")
    with loopback(lambda _: Reply()) as served:  # it answers with the first label that is allowed
        environment = {
            "ESCALADE_LLM_MODEL": "m",
            "OPENAI_BASE_URL": served.url,
            "ESCALADE_WATCH": "watch.db",
            "ESCALADE_EXPERIENCE": "experience",
            "ESCALADE_AUDIT_SHARE": "0.7",
        }
        done = escalade(
            *("decide", "intents", "--input", "texts.txt", "--output", "out.jsonl", *common),
            *("--threshold", "policy=0.9"),
            cwd=tmp_path,
            **environment,
        )
    assert done.returncode == 0, done.stderr
    sources = Counter(json.loads(line)["source"] for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert sources == {"policy": 330, "reason": 110}
    audits = ExperienceStore(tmp_path / "experience/intents", TEXTS).audits.of(["llm"])
    by = Counter(one.source for one in audits)
    assert abs(by["policy"] - 231) < 50
    assert abs(by["reason"] - 77) < 30
    done = escalade(
        *("certify", "intents", *common, "--reference", "llm", "--experience", "experience/intents", "--json"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (certificate,) = json.loads(done.stdout)["certificates"]
    assert certificate["tune"]["count"] + certificate["calibrate"]["count"] == len(audits)
    assert f"{len(audits)} audits drawn from all decisions (share 0.7)" in certificate["states"]
    assert "110 that networks had left to it" in certificate["states"]


def test_nothing_is_learned_from_decisions_that_were_audited(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(LABELS))
    store = ExperienceStore(tmp_path / "store", TEXTS)
    store.add(rows(["llm"] * 200))
    store.audits.add([replace(audit(number), decision=f"d{number}", state=f"text {number}") for number in range(60)])
    recipe = {"games": 0, "iterations": 1, "network": {"hidden": [4]}, "passes": 1, "last_passes": 1}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    done = escalade(
        *("train", "intents", "-o", "labels=labels.json", "--experience", "store", "--recipe", "recipe.json"),
        *("--run", "r"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "60 rows of --experience teach nothing" in done.stderr + done.stdout
