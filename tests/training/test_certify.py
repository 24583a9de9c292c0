from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import network_for

from escalade import build_decision_graph
from escalade.domains.base import Domain
from escalade.domains.catalog import load_domain
from escalade.domains.errors import BundleError, SettingsError
from escalade.domains.intents import Intents
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.neural.bundle import Bundle, read_bundle, write_bundle
from escalade.neural.certificate import best_certificate
from escalade.neural.fixed_sequence import p_value
from escalade.neural.manifest import parse_manifest
from escalade.neural.novelty import RarityNovelty
from escalade.neural.sources import bundle_folder
from escalade.nodes.context import DecisionContext
from escalade.training.certified_report import measured, reliability
from escalade.training.certify import CertificationError, certify, split
from escalade.training.certify_config import Promise
from escalade.training.exact_labels import exact_labels
from escalade.training.frontier import draw, frontier
from escalade.training.recorded import Recorded, record
from escalade.training.reference import Labelled

BEFORE_LIMITS = Path(__file__).parents[1] / "neural" / "before_limits"
"""Of a bundle of that time: its manifest, and what it kept of novelty."""
PROMISES = (Promise(0.1, 0.05), Promise(0.05, 0.05))
SIMULATIONS = 32


@pytest.fixture(scope="module")
def domain() -> Domain[Any]:
    return load_domain("tic_tac_toe")


@pytest.fixture(scope="module")
def champion(domain: Domain[Any]) -> Bundle:
    return read_bundle(bundle_folder("builtin:tic_tac_toe"), domain)


@pytest.fixture(scope="module")
def labelled(domain: Domain[Any]) -> Labelled:
    return exact_labels(domain)


@pytest.fixture(scope="module")
def worse(labelled: Labelled) -> Labelled:
    """The champion knows all of tic-tac-toe; so a reference that calls an eighth of the states' moves wrong, more often
    those where many moves are good."""
    random = np.random.default_rng(0)
    flawed = random.random(len(labelled)) < 0.2 * labelled.acceptable.mean(axis=1)
    acceptable = labelled.acceptable.copy()
    acceptable[flawed] = ~acceptable[flawed]
    return replace(labelled, acceptable=acceptable)


@pytest.fixture(scope="module")
def recorded(domain: Domain[Any], champion: Bundle, worse: Labelled) -> Recorded:
    return record(domain, champion, worse, simulations=SIMULATIONS)


@pytest.fixture(scope="module")
def certified(
    domain: Domain[Any], champion: Bundle, recorded: Recorded, worse: Labelled, tmp_path_factory: Any
) -> Bundle:
    folder = tmp_path_factory.mktemp("certified") / "bundle"
    # What is behind is right as often as the networks here, so it is said to be always.
    flawless = replace(recorded, right=np.concatenate((recorded.right[:, :2], recorded.right[:, 2:] | True), axis=1))
    return certify(champion, flawless, PROMISES, folder, domain=domain, labelled=worse, simulations=SIMULATIONS)


def test_what_is_recorded_is_what_the_rungs_say(domain: Domain[Any], champion: Bundle, labelled: Labelled) -> None:
    few = labelled.take(np.arange(0, len(labelled), 40))
    found = record(domain, champion, few, simulations=SIMULATIONS)
    assert found.rungs == ("policy", "value", "search")
    for row, text in enumerate(few.states):
        legal = domain.legal_actions(domain.parse(text))
        assert all(action in legal for action in found.actions[row].tolist())
        assert found.right[row].tolist() == few.acceptable[row, found.actions[row]].tolist()
    assert (found.cost_s > 0).all()
    assert found.cost_s[2] > found.cost_s[0]


def test_a_certificate_is_what_its_numbers_say(certified: Bundle) -> None:
    assert [one.alpha for one in certified.certificates] == [0.1, 0.05]
    for one in certified.certificates:
        assert one.bundle == certified.hash
        assert one.reference == "exact"
        for place, setting in enumerate(one.path):
            doubt = max(p_value(tally.k, tally.n, one.alpha) for tally in (setting.accepted, setting.all))
            assert (doubt <= one.delta) == (place < one.passed)
            assert sum(setting.shares.values()) == pytest.approx(1)
        assert one.setting.accepted.bound <= one.alpha
        assert one.tune.count + one.calibrate.count == 4520
        assert one.tune.sha256 != one.calibrate.sha256
        assert one.setting.accepted.n <= one.limit * one.setting.all.n + 50  # an estimate, by other states
    bold, timid = (one.setting for one in certified.certificates)
    assert bold.cost_s <= timid.cost_s
    assert bold.accepted.n >= timid.accepted.n


def test_the_boldest_that_keeps_the_promise_is_used(certified: Bundle) -> None:
    held = certified.certificates
    assert best_certificate(held, 0.05, 0.05) is held[1]
    assert best_certificate(held, 0.2, 0.1) is held[0]
    assert best_certificate(held, 0.01, 0.05) is None
    assert best_certificate(held, 0.1, 0.01) is None


def test_it_survives_reading_and_no_other_bundle_can_take_it(certified: Bundle, domain: Domain[Any]) -> None:
    again = read_bundle(certified.path, domain)
    assert again.certificates == certified.certificates
    assert again.calibrators == certified.calibrators
    assert again.novelty is not None
    text = (certified.path / "bundle.json").read_text()
    data = json.loads(text)
    path = data["certificates"][0]["path"]
    bolder = [path[0] | {"thresholds": {"policy": 0.0, "value": 0.0}}, *path[1:]]
    for change in (
        {"certificates": [data["certificates"][0] | {"path": bolder}]},
        {"certificates": [data["certificates"][0] | {"alpha": 0.0001}]},
        {"certificates": [data["certificates"][0] | {"limit": None}, *data["certificates"][1:]]},
        {"novelty": data["novelty"] | {"limit": 1e9}},
        {"calibrators": data["calibrators"] | {"policy": {"kind": "identity"}}},
    ):
        with pytest.raises(BundleError):
            parse_manifest(json.dumps(data | change).encode())


def test_one_from_before_there_was_a_limit_is_read() -> None:
    written = (BEFORE_LIMITS / "bundle.json").read_bytes()
    assert all("limit" not in one for one in json.loads(written)["certificates"])
    manifest = parse_manifest(written)
    assert manifest.certificates
    assert all(one.limit is None for one in manifest.certificates)


def test_one_that_was_made_for_other_weights_stays_unused(
    certified: Bundle, domain: Domain[Any], tmp_path: Path
) -> None:
    one = certified.certificates[0].model_copy(update={"bundle": "0" * 64})
    with pytest.raises(BundleError, match="made for another bundle"):
        write_bundle(tmp_path / "b", domain=domain, network=certified.network, certificates=[one])
    data = json.loads((certified.path / "bundle.json").read_text())
    # A file that says so all the same can be read; networks then do not accept by it, and decisions say why.
    foreign = data | {"certificates": [one.model_dump(mode="json")], "certificates_sha256": None}
    shutil.copytree(certified.path, tmp_path / "b")
    (tmp_path / "b" / "bundle.json").write_text(json.dumps(foreign))
    graph = build_decision_graph(domain, bundle=tmp_path / "b")
    given: Any = {"state": "51"}
    decision = graph.invoke(given, context=DecisionContext(alpha=0.1, simulations=10))["decision"]
    assert decision["source"] == "search"
    assert "made for bundle 000000000000" in decision["rungs"][0]["details"]["no_certificate"]


def test_states_that_the_domain_leaves_to_others_are_not_counted_as_the_networks_(
    champion: Bundle, labelled: Labelled, tmp_path: Path
) -> None:
    class Ruled(TicTacToe):
        def rungs_for(self, state: Any) -> Sequence[str] | None:
            return ("search",) if len(state.moves) >= 5 else ("policy", "search") if len(state.moves) == 4 else None

    domain = Ruled()
    few = labelled.take(np.arange(0, len(labelled), 4))
    # Wrong where the networks decide, right where they do not.
    early = np.array([len(text) < 5 for text in few.states])
    acceptable = np.where(early[:, None], ~few.acceptable, few.acceptable)
    found = record(domain, champion, replace(few, acceptable=acceptable), simulations=5)
    plies = np.array([len(text) for text in few.states])
    assert found.ruled_out[:, 0].tolist() == (plies >= 5).tolist()
    assert found.ruled_out[:, 1].tolist() == (plies >= 4).tolist()
    with pytest.raises(CertificationError, match=r"is not proven|needs at least"):
        certify(champion, found, [Promise()], tmp_path / "b", domain=domain, labelled=few, simulations=5)


def test_without_a_simulator_a_larger_alpha_lets_networks_decide_more(tmp_path: Path) -> None:
    domain = Intents(["a", "b"])
    network = network_for(domain, hidden=(8,))
    bundle = write_bundle(tmp_path / "plain", domain=domain, network=network)
    texts = tuple(f"text {number}" for number in range(8000))
    random = np.random.default_rng(0)
    found = record(
        domain,
        bundle,
        Labelled(texts, np.ones((8000, 2), np.bool_), np.arange(8000), "labels", "made up"),
        simulations=1,
    )
    assert found.rungs == ("policy", "reference")
    # As if it were more often right where it is surer; what is tested is the path.
    sure = random.random(8000)
    right = np.stack([random.random(8000) < 0.7 + 0.3 * sure, np.ones(8000, np.bool_)], axis=1)
    features = {"policy": np.repeat(sure[:, None], found.features["policy"].shape[1], axis=1)}
    found = replace(found, right=right, features=features)
    labelled = Labelled(texts, np.ones((8000, 2), np.bool_), found.group, "labels", "made up")
    promises = [Promise(0.05), Promise(0.1)]
    made = certify(bundle, found, promises, tmp_path / "b", domain=domain, labelled=labelled, simulations=1)
    assert isinstance(made.novelty, RarityNovelty)
    timid, bold = (one.setting.shares["policy"] for one in made.certificates)
    assert 0.1 < timid < bold - 0.1
    swept = frontier(made, found, reference="labels", source="made up", simulations=1)
    draw(swept, tmp_path / "plot.png")


def test_the_whole_is_measured_as_the_path_said(certified: Bundle, recorded: Recorded) -> None:
    one = certified.certificates[0]
    _, calibrate = split(recorded, 0)
    flawless = replace(calibrate, right=np.concatenate((calibrate.right[:, :2], calibrate.right[:, 2:] | True), axis=1))
    found = measured(certified, one, flawless, "again")
    assert (found.wrong_alone.hits, found.wrong_alone.count) == (one.setting.accepted.k, one.setting.accepted.n)
    assert found.wrong.hits == one.setting.all.k
    assert found.shares == pytest.approx(one.setting.shares)


def test_what_networks_decide_alone_is_proven_where_the_rung_behind_them_is_worse(
    domain: Domain[Any], champion: Bundle, recorded: Recorded, worse: Labelled, tmp_path: Path
) -> None:
    hopeless = replace(recorded, right=np.concatenate((recorded.right[:, :2], recorded.right[:, 2:] & False), axis=1))

    def made(covers: Any, name: str) -> Bundle:
        promises = [Promise(0.04, 0.05, covers)]
        return certify(
            champion, hopeless, promises, tmp_path / name, domain=domain, labelled=worse, simulations=SIMULATIONS
        )

    with pytest.raises(CertificationError, match="by these, no thresholds can keep the promise"):
        made("all", "a")
    one = made("own", "b").certificates[0]
    assert one.covers == "own"
    assert one.setting.all.k > one.alpha * one.setting.all.n
    for place, setting in enumerate(one.path):
        doubt = p_value(setting.accepted.k, setting.accepted.n, one.alpha)
        assert (doubt <= one.delta) == (place < one.passed)
    assert one.setting.accepted.n > 200
    assert best_certificate((one, one.model_copy(update={"covers": "all"})), 0.04, 0.05) is not one
    data = json.loads((tmp_path / "b" / "bundle.json").read_text())
    told = data["certificates"][0] | {"covers": "all"}  # its counts do not say so
    with pytest.raises(BundleError, match="its counts"):
        parse_manifest(json.dumps(data | {"certificates": [told]}).encode())


def test_confidences_are_about_as_right_as_they_say(certified: Bundle, recorded: Recorded) -> None:
    _, calibrate = split(recorded, 0)
    for rung, calibration in reliability(certified, calibrate).items():
        assert calibration.error < 0.05, rung


def test_a_cost_limit_takes_the_most_accurate_setting_within(
    domain: Domain[Any], champion: Bundle, recorded: Recorded, worse: Labelled, certified: Bundle, tmp_path: Path
) -> None:
    flawless = replace(recorded, right=np.concatenate((recorded.right[:, :2], recorded.right[:, 2:] | True), axis=1))
    path = certified.certificates[0].path[: certified.certificates[0].passed]
    limit = (path[0].cost_s + path[-1].cost_s) / 2
    made = certify(
        champion,
        flawless,
        [Promise(0.1, 0.05, max_cost_s=limit)],
        tmp_path / "b",
        domain=domain,
        labelled=worse,
        simulations=32,
    )
    one = made.certificates[0]
    assert one.setting.cost_s <= limit
    within = [setting for setting in one.path[: one.passed] if setting.cost_s <= limit]
    # The dearer, the more accurate; on the tune states, so that here neighbours may change places.
    assert one.setting.cost_s == pytest.approx(max(setting.cost_s for setting in within), rel=0.05)
    with pytest.raises(CertificationError, match="cheapest"):
        certify(
            champion,
            flawless,
            [Promise(0.1, 0.05, max_cost_s=1e-9)],
            tmp_path / "c",
            domain=domain,
            labelled=worse,
            simulations=32,
        )
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["b"]


def test_too_little_is_refused_with_the_number_it_takes(
    domain: Domain[Any], champion: Bundle, labelled: Labelled, recorded: Recorded, worse: Labelled, tmp_path: Path
) -> None:
    def tried(data: Recorded, promise: Promise) -> None:
        certify(champion, data, [promise], tmp_path / "b", domain=domain, labelled=labelled, simulations=32)

    with pytest.raises(CertificationError, match="100 states are too few: give about 236"):
        tried(recorded.take(np.arange(100)), Promise())
    with pytest.raises(CertificationError, match="needs at least 299"):
        tried(recorded.take(np.arange(590)), Promise(0.01))
    with pytest.raises(CertificationError, match="more states would not help"):
        tried(recorded, Promise(0.01))
    with pytest.raises(CertificationError, match="no thresholds could leave more than 9"):
        tried(recorded, Promise(0.002, 0.05, "own"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"alpha": 1.0}, {"delta": -0.1}, {"delta": float("nan")}])
def test_promises_that_are_none_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="between 0 and 1"):
        Promise(**wrong)


def test_states_of_one_game_are_never_split(recorded: Recorded) -> None:
    grouped = replace(recorded, group=np.arange(len(recorded)) // 7)
    tune, calibrate = split(grouped, 3)
    assert not set(tune.group.tolist()) & set(calibrate.group.tolist())
    assert len(set(calibrate.group.tolist())) == len(calibrate)  # what proves must be independent
