"""What a user's domain or evaluator gets wrong is named, and harms no one else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import njit
from support import Plain, network_for

from escalade.domains.base import BoolArray, FloatArray
from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import ActionError, DomainFault, SettingsError, StateError
from escalade.domains.evaluator import BatchHints
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.search.config import SearchConfig
from escalade.search.engine import search
from escalade.search.evaluators import MixedEvaluator, RolloutEvaluator, UniformEvaluator
from escalade.search.service import SearchService
from escalade.search.session import Searcher

TTT, C4 = TicTacToe(), ConnectFour()
SMALL = SearchConfig(simulations=60)
PATIENCE = 60.0


# The rules of a plain domain


def late(right: Callable[[Any], Any], wrong: Any) -> Callable[[Any], Any]:
    """Right until five moves have been made."""
    return lambda state: right(state) if len(state.moves) < 5 else wrong


PLAIN_FAULTS = {
    "outcome NaN": ("outcome", float("nan"), "an outcome is nan"),
    "outcome None": ("outcome", None, "an outcome is None"),
    "outcome too low": ("outcome", -5, "an outcome is -5"),
    "end of 5": ("ending_actions", {8: 5.0}, "an outcome is 5.0"),
    "end of an illegal action": ("ending_actions", {-1: 1.0}, "action -1 would end the game, but is not legal"),
    "nothing legal": ("legal_actions", [], r"the legal actions are \[\]"),
    "action -1": ("legal_actions", [-1], r"the legal actions are \[-1\]; some of 0 to 8"),
    "action 9": ("legal_actions", [0, 9], r"the legal actions are \[0, 9\]"),
    "player 300": ("to_move", 300, "the player to move is 300"),
    "player None": ("to_move", None, "the player to move is None"),
}


def faulty(method: str, wrong: Any) -> Any:
    domain: Any = Plain(TTT)
    setattr(domain, method, late(getattr(TTT, method), wrong))
    if method == "outcome":
        domain.ending_actions = lambda _: None  # whose ends are never looked at
    return domain


@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
@pytest.mark.parametrize("fault", PLAIN_FAULTS)
def test_a_plain_domain_that_breaks_a_law_is_told_which(fault: str, algorithm: Any) -> None:
    method, wrong, words = PLAIN_FAULTS[fault]
    config = SearchConfig(simulations=300, algorithm=algorithm)
    with pytest.raises(DomainFault, match=f"domain 'tic_tac_toe', state '.*': {words}"):
        search(faulty(method, wrong), [TTT.parse("15")], UniformEvaluator(), config)


@pytest.mark.parametrize("fault", PLAIN_FAULTS)
def test_only_the_request_that_meets_the_fault_fails(fault: str) -> None:
    method, wrong, words = PLAIN_FAULTS[fault]
    with SearchService(faulty(method, wrong), UniformEvaluator()) as service:
        good = service.submit(TTT.parse(""), SearchConfig(simulations=9))
        bad = service.submit(TTT.parse("15"), SearchConfig(simulations=300))
        with pytest.raises(DomainFault, match=words):
            bad.result(PATIENCE)
        assert good.result(PATIENCE).simulations == 9


# The rules of kernels


@njit
def stuck(rows, legal, terminal, outcome, to_move):
    """Nothing is legal once seven cells are taken."""
    OWN.rules(rows, legal, terminal, outcome, to_move)
    for b in range(rows.shape[0]):
        if taken(rows, b) == 7:
            legal[b] = False
            terminal[b] = False


@njit
def unsound(rows, legal, terminal, outcome, to_move):
    OWN.rules(rows, legal, terminal, outcome, to_move)
    for b in range(rows.shape[0]):
        if terminal[b]:
            outcome[b] = np.nan


@njit
def beyond(rows, legal, terminal, outcome, to_move):
    OWN.rules(rows, legal, terminal, outcome, to_move)
    for b in range(rows.shape[0]):
        outcome[b] *= 2


@njit
def taken(rows, b):
    count = 0
    for cell in range(9):
        count += ((rows[b, 0] | rows[b, 1]) >> cell) & 1
    return count


@njit
def wild_ends(rows, out):
    OWN.ends(rows, out)
    for b in range(rows.shape[0]):
        for a in range(9):
            if taken(rows, b) == 5 and not ((rows[b, 0] | rows[b, 1]) >> a) & 1:
                out[b, a] = -np.inf


OWN = TTT.kernels


def with_kernels(**kernels: Any) -> Any:
    return type("Broken", (TicTacToe,), {"kernels": OWN._replace(**kernels)})()


@pytest.mark.parametrize("proofs", [True, False])
@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
@pytest.mark.parametrize(
    "domain",
    [
        with_kernels(rules=stuck),
        with_kernels(rules=unsound, ends=None),
        with_kernels(rules=beyond, ends=None),
        with_kernels(ends=wild_ends),
    ],
    ids=["nothing legal", "outcome NaN", "outcome 2", "end of -inf"],
)
def test_kernels_that_break_a_law_are_a_fault(domain: Any, algorithm: Any, proofs: bool) -> None:
    config = SearchConfig(simulations=2000, algorithm=algorithm, proofs=proofs)
    with pytest.raises(DomainFault, match=r"domain 'tic_tac_toe', row \[\d+, \d+, [01]\]"):
        search(domain, [TTT.parse("1")], UniformEvaluator(), config)


def test_a_root_where_nothing_is_legal_is_a_fault() -> None:
    state = TTT.parse("1235468")
    assert not TTT.is_terminal(state)
    with pytest.raises(DomainFault, match="nothing is legal"):
        search(with_kernels(rules=stuck), [TTT.parse(""), state], UniformEvaluator(), SMALL)
    with SearchService(with_kernels(rules=stuck), UniformEvaluator()) as service:
        with pytest.raises(DomainFault, match="nothing is legal"):
            service.search(state, SMALL)
        assert service.search(TTT.parse(""), SearchConfig(simulations=9)).simulations == 9


@njit
def long_step(rows, actions, out):
    OWN.step(rows, actions, out)
    for b in range(rows.shape[0] + 1):  # one too many
        out[b, 2] = 0


@njit
def short_step(rows, actions, out):
    for b in range(rows.shape[0]):
        out[b, 0] = rows[b, 1]


@njit
def long_playout(rows, keys, out):
    for b in range(rows.shape[0] + 1):
        out[b] = 0


def by_hand(rows: Any, keys: Any, out: Any) -> None:
    out[:] = 0


@pytest.mark.parametrize(
    ("kernels", "words"),
    [
        ({"step": long_step}, "kernel step writes 4 int64 values for one state where 3 are promised"),
        ({"step": short_step}, "kernel step writes 1 int64 values"),
        ({"playout": long_playout}, "kernel playout writes 2 float32 values"),
        ({"playout": None}, "kernel playout is NoneType, not a function decorated with @njit"),
        ({"playout": by_hand}, "kernel playout is function, not a function decorated with @njit"),
    ],
)
def test_a_kernel_that_does_not_keep_to_its_arrays_is_never_let_loose(kernels: Any, words: str) -> None:
    with pytest.raises(DomainFault, match=words):
        search(with_kernels(**kernels), [TTT.parse("")], UniformEvaluator(), SMALL)


# Evaluators


@pytest.mark.parametrize(
    ("domain", "evaluator"),
    [
        (C4, network_for(TTT)),
        (C4, RolloutEvaluator(TTT)),
        (TTT, RolloutEvaluator(C4)),
        (Plain(C4), RolloutEvaluator(C4)),
        (C4, MixedEvaluator(TTT, network_for(TTT), RolloutEvaluator(TTT))),
    ],
    ids=["network", "wider rows", "narrower rows", "rows or states", "mixed"],
)
def test_an_evaluator_of_another_domain_is_refused(domain: Any, evaluator: Any) -> None:
    with pytest.raises(SettingsError, match=r"the evaluator (is for|was made for)"):
        search(domain, [domain.initial_state()], evaluator, SMALL)
    with SearchService(domain, evaluator) as service, pytest.raises(SettingsError, match="the evaluator"):
        service.search(domain.initial_state(), SMALL)


class Answering:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> Any:
        return self.answer


@pytest.mark.parametrize("domain", [TTT, Plain(TTT)], ids=["kernels", "plain"])
@pytest.mark.parametrize("answer", [None, 3, (1, 2, 3), np.zeros((2, 9), np.float32)], ids=str)
def test_an_answer_that_is_no_pair_is_a_fault(domain: Any, answer: Any) -> None:
    with pytest.raises(DomainFault, match="must give logits and values"):
        search(domain, [TTT.parse("")], Answering(answer), SMALL)


# One thread of several


class BreaksInOneThread:
    """Uniform; the first thread that asks fails at its third call."""

    hints = BatchHints(calls=2)

    def __init__(self) -> None:
        self.calls: dict[int, int] = {}
        self.both = threading.Barrier(2)

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        thread = threading.get_ident()
        if thread not in self.calls:
            self.calls[thread] = 0
            self.both.wait(PATIENCE)
        self.calls[thread] += 1
        if self.calls[thread] == 3 and thread == next(iter(self.calls)):
            raise OSError("the line is down")
        return np.zeros(legal.shape, np.float32), np.zeros(len(legal), np.float32)


@pytest.mark.parametrize("how", ["search", "session"])
def test_a_failure_in_one_thread_stops_the_others(how: str) -> None:
    evaluator, states = BreaksInOneThread(), [C4.parse("")] * 16
    config = SearchConfig(simulations=300_000)
    searcher = Searcher(C4, evaluator, config, len(states))
    searcher.start(range(len(states)), states)
    run = searcher.search if how == "session" else lambda: search(C4, states, evaluator, config)
    with pytest.raises(OSError, match="the line is down"):
        run()
    assert len(evaluator.calls) == 2
    assert max(evaluator.calls.values()) < 100_000


INTERRUPTED = """
import sys
from escalade.domains.connect_four import ConnectFour
from escalade.search.config import SearchConfig
from escalade.search.engine import search
from escalade.search.evaluators import RolloutEvaluator
game = ConnectFour()
config = SearchConfig(simulations=100_000, proofs=False)
search(game, [game.parse("")] * 8, RolloutEvaluator(game, 1), SearchConfig(simulations=5))
print("ready", flush=True)
try:
    search(game, [game.parse("")] * 128, RolloutEvaluator(game, 200), config)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_ctrl_c_ends_a_search_in_several_threads() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True, restore_signals=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=PATIENCE)  # left alone, it would take an hour
    assert said == "interrupted\n"
    assert process.returncode == 0


# Settings


@pytest.mark.parametrize(
    "options",
    [
        {"simulations": 10.5},
        {"simulations": 0},
        {"simulations": 2**31},
        {"considered": 0},
        {"algorithm": "uct"},
        {"final_move": "best"},
        {"proofs": "no"},
        {"c_puct": float("inf")},
        {"c_puct": 0},
        {"c_puct": 1e38},
        {"fpu_reduction": -1},
        {"noise_fraction": 1.1},
        {"noise_alpha": 0},
        {"temperature": float("nan")},
        {"deviations": "2"},
        {"c_visit": 1e30},
        {"c_scale": 0},
        {"gumbel_scale": None},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused_by_name(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(SettingsError, match=f"^{name} must be"):
        SearchConfig(**options)


@pytest.mark.parametrize("domain", [TTT, Plain(TTT)], ids=["kernels", "plain"])
@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
@pytest.mark.parametrize("most", [True, False])
def test_every_setting_at_its_limits_still_searches(domain: Any, algorithm: Any, most: bool) -> None:
    names = [name for name, kind in SearchConfig.__annotations__.items() if kind == "float"]
    names.remove("noise_fraction")
    least = {name: 1e-6 if name in ("c_puct", "noise_alpha", "c_scale") else 0 for name in names}
    limits: dict[str, Any] = dict.fromkeys(names, 1e6) if most else least
    for final_move in ("visits", "lower_bound"):
        for noise_fraction in (0, 1):
            config = SearchConfig(
                simulations=100, algorithm=algorithm, final_move=final_move, noise_fraction=noise_fraction, **limits
            )
            (result,) = search(domain, [TTT.parse("1")], RolloutEvaluator(domain), config, seed=3)
            assert result.action in TTT.legal_actions(TTT.parse("1"))
            assert result.policy.sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("cache", [10**11, -1, 2.5])
def test_a_cache_that_cannot_be_is_refused(cache: Any) -> None:
    with pytest.raises(SettingsError, match="cache must be"):
        search(TTT, [TTT.parse("")], network_for(TTT), SMALL, cache=cache)


def test_a_text_is_no_state() -> None:
    with pytest.raises(StateError, match=r"'15' is the text of a state: give domain.parse\(text\)"):
        search(TTT, ["15"], UniformEvaluator(), SMALL)  # type: ignore[list-item]
    searcher = Searcher(TTT, UniformEvaluator(), SMALL, 1)
    with pytest.raises(StateError, match="'15' is the text of a state"):
        searcher.start([0], ["15"])


def test_moves_of_several_games_are_made_all_or_none() -> None:
    domain: Any = Plain(TTT)
    domain.step = lambda state, action: TTT.step(state, action % 9)  # takes anything
    searcher = Searcher(domain, UniformEvaluator(), SMALL, 2)
    searcher.start([0, 1], [TTT.parse("1"), TTT.parse("2")])
    for actions in ([1, 0 + 9], [1, -1], [1, 1]):
        with pytest.raises(ActionError, match="is not legal in the state"):
            searcher.play([0, 1], actions)
        assert [searcher.state(tree).moves for tree in range(2)] == ["1", "2"]
    with pytest.raises(SettingsError, match="2 trees"):
        searcher.play([0, 1], [4])
    searcher.play([0, 1], [1, 0])
    assert [searcher.state(tree).moves for tree in range(2)] == ["12", "21"]
