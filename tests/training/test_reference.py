from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from escalade.domains.catalog import load_domain
from escalade.domains.decision import Decision
from escalade.domains.errors import SettingsError
from escalade.neural.bundle import read_bundle
from escalade.neural.sources import bundle_folder
from escalade.training.decisions import decision_rows
from escalade.training.exact import solved_positions
from escalade.training.exact_labels import exact_labels
from escalade.training.production import recorded_labels
from escalade.training.reference import apart, file_labels, search_labels
from escalade.training.store import ExperienceStore

DOMAIN = load_domain("tic_tac_toe")


def test_solving_is_taken_up_where_it_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = load_domain("connect_four")
    monkeypatch.setattr("escalade.training.exact_labels.AT_ONCE", 4)
    told: list[int] = []

    def killed(done: int, of: int) -> None:
        told.append(done)
        if done == 7:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        exact_labels(domain, count=10, folder=tmp_path, on_progress=killed)
    assert [path.name for path in tmp_path.iterdir()] == ["decisions-10-0.partial.csv"]
    told.clear()
    again = exact_labels(domain, count=10, folder=tmp_path, on_progress=lambda done, _: told.append(done))
    assert told == list(range(5, 11))
    assert [path.name for path in tmp_path.iterdir()] == ["decisions-10-0.csv"]
    whole = exact_labels(domain, count=10)
    assert (again.states, again.source) == (whole.states, whole.source)
    assert (again.acceptable == whole.acceptable).all()


def written(folder: Path, text: str) -> Path:
    path = folder / "states.csv"
    path.write_text(text)
    return path


def test_the_exact_reference_calls_every_optimal_move_right() -> None:
    found, positions = exact_labels(DOMAIN), solved_positions(DOMAIN)
    assert found.states == positions.states
    assert (found.acceptable == positions.optimal).all()
    assert found.reference == "exact"


def test_its_casual_games_are_other_than_those_of_evaluation(tmp_path: Path) -> None:
    domain = load_domain("connect_four")
    late = [30, 31, 32, 33]
    evaluation = set(solved_positions(domain, count=20, seed=0, plies=late).states)
    found = exact_labels(domain, count=27, seed=0, folder=tmp_path)
    assert not evaluation & set(found.states)
    assert found.source == "positions of 27 casual games, from move 1 on, seed 0"
    again = exact_labels(domain, count=27, seed=0, folder=tmp_path)
    assert again.states == found.states
    assert (again.acceptable == found.acceptable).all()


def test_labels_of_a_file_with_games(tmp_path: Path) -> None:
    found = file_labels(DOMAIN, written(tmp_path, "state,action,game\n5,1,a\n51,9,a\n15,3,b\n"))
    assert found.states == ("5", "51", "15")
    assert found.acceptable.sum(axis=1).tolist() == [1, 1, 1]
    assert found.acceptable.argmax(axis=1).tolist() == [0, 8, 2]
    assert found.group[0] == found.group[1] != found.group[2]
    assert (found.reference, found.source) == ("labels", "states.csv")


def test_what_had_a_part_is_left_out_however_it_was_reached(tmp_path: Path) -> None:
    others = file_labels(DOMAIN, written(tmp_path, "state,action\n519,3\n5,1\n"))
    found = file_labels(DOMAIN, written(tmp_path, "state,action\n915,3\n51,9\n5,1\n"))
    fresh = apart(DOMAIN, found, others)
    assert fresh.states == ("51",)  # 915 is 519 in another order
    assert fresh.acceptable.argmax(axis=1).tolist() == [8]
    with pytest.raises(SettingsError, match="all 3 states had a part"):
        apart(DOMAIN, found, found)


def test_what_was_drawn_often_counts_as_often(tmp_path: Path) -> None:
    """What is proven is about states drawn as these were, by whatever noise they were labelled."""
    found = file_labels(DOMAIN, written(tmp_path, "\ufeffstate,action\n5,1\n5,1\n5,2\n51,9\n"))
    assert found.states == ("5", "5", "5", "51")
    assert found.acceptable.argmax(axis=1).tolist() == [0, 0, 1, 8]
    assert len(set(found.group.tolist())) == 4  # without a game each is a draw of its own
    drawn = search_labels(DOMAIN, read_bundle(bundle_folder("builtin:tic_tac_toe"), DOMAIN).network, 5, count=300)
    assert len(drawn) == 300
    assert drawn.states.count("") > 10  # the empty board begins every game


def test_a_file_may_say_who_named_its_actions(tmp_path: Path) -> None:
    assert file_labels(DOMAIN, written(tmp_path, "state,action\n5,1\n"), "person").reference == "person"


def test_a_store_that_is_not_there_is_not_begun(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no store"):
        recorded_labels(DOMAIN, tmp_path / "typo", "person")
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("board,action\n5,1\n", "names no column 'state' or 'moves' or 'text'; it reads 'board', 'action'"),
        ("id,text,action,state\n1,5,1,x\n", "names the columns 'state' and 'text', any of which may be what is wanted"),
        ("state,label,category\n5,1,2\n", "names the columns 'label' and 'category'"),
        ("state\n5\n", "names no column 'action' or 'label' or 'category' or 'intent'; it reads 'state'"),
        ("state,action\n5\n", "line 2, column action: there is none"),
        ("state,action\n5,1,9\n", "line 2 of .* has 3 cells, and the first line names 2 columns"),
        ('state,action\n"5\n,1\n', "line 2 of .* is not CSV: a quotation mark that opens there is never closed"),
        ("state,action\n5,5\n", "line 2, column action: 5 is not legal"),
        ("state,action\n5,x\n", "line 2, column action"),
        ("state,action\n55,1\n", "line 2, column state"),
        ("state,action\n14253,6\n", "line 2, column state: the game is over"),
        ("state,action\n", "there are none in it"),
    ],
)
def test_faults_of_a_file_are_named_by_line_and_column(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(SettingsError, match=what):
        file_labels(DOMAIN, written(tmp_path, text))


def test_a_search_calls_right_what_it_proves_as_good() -> None:
    network = read_bundle(bundle_folder("builtin:tic_tac_toe"), DOMAIN).network
    found = search_labels(DOMAIN, network, 400, count=60, seed=1)
    exact = dict(zip(*_all(), strict=True))
    assert len(found) == 60
    assert found.reference == "search:400"
    right = np.array([exact[_canonical(text)] for text in found.states])
    assert (found.acceptable & ~right).sum() / found.acceptable.sum() < 0.02
    assert found.acceptable.any(axis=1).all()


def test_a_search_needs_a_simulator(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("label\na\nb\n")
    domain = load_domain("intents", {"labels": str(labels)})
    with pytest.raises(SettingsError, match="no simulator"):
        search_labels(domain, None, 10)  # type: ignore[arg-type]


def test_decisions_of_persons_and_models_are_read_from_a_store(tmp_path: Path) -> None:
    def decided(number: int, state: str, action: int, source: str) -> Decision:
        return Decision(
            decision_id=str(number),
            domain="tic_tac_toe",
            state=state,
            action=action,
            action_name=str(action + 1),
            source=source,  # type: ignore[arg-type]
            certified=False,
            best_effort=False,
            cost_usd=0.0,
            latency_ms=1.0,
            rungs=[],
        )

    decisions = [decided(1, "5", 0, "human"), decided(2, "51", 8, "reason"), decided(3, "15", 2, "policy")]
    ExperienceStore(tmp_path, DOMAIN).add(decision_rows(DOMAIN, decisions), "decisions")
    person, model = recorded_labels(DOMAIN, tmp_path, "person"), recorded_labels(DOMAIN, tmp_path, "llm")
    assert (person.states, person.acceptable.argmax(axis=1).tolist()) == (("5",), [0])
    assert (model.states, model.acceptable.argmax(axis=1).tolist()) == (("51",), [8])
    ExperienceStore(tmp_path / "empty", DOMAIN)
    with pytest.raises(SettingsError, match="no decision of a person"):
        recorded_labels(DOMAIN, tmp_path / "empty", "person")


def _all() -> tuple[list[str], list[np.ndarray]]:
    positions = solved_positions(DOMAIN)
    return [_canonical(text) for text in positions.states], list(positions.optimal)


def _canonical(text: str) -> str:
    """The position, whatever the order of its moves."""
    state = DOMAIN.parse(text)
    return DOMAIN.encode([state]).tobytes().hex()


def test_half_of_the_exact_reference_are_positions_of_good_players(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = load_domain("connect_four")
    bundle = read_bundle(bundle_folder("builtin:connect_four"), domain)
    monkeypatch.setattr("escalade.training.exact_labels.first_solved_ply", lambda _: 16)
    found = exact_labels(domain, count=20, seed=3, bundle=bundle, folder=tmp_path)
    assert "from move 17 on, seed 3, half of them casual, half of good players: searches of 16" in found.source
    casual = exact_labels(domain, count=10, seed=3)
    assert found.states[:10] == casual.states
    assert [path.name for path in tmp_path.iterdir()] == [f"decisions-20-3-{bundle.version[:12]}.csv"]
    assert exact_labels(domain, count=20, seed=3, bundle=bundle, folder=tmp_path).states == found.states
