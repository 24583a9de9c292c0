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
from escalade.domains.errors import (
    ActionError,
    CancelledSearch,
    DomainFault,
    EscaladeError,
    SettingsError,
    StateError,
)
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
    "proof of 5": ("proven_actions", {8: 5.0}, "a proven value is 5.0"),
    "proof NaN": ("proven_actions", {8: float("nan")}, "a proven value is nan"),
    "proof None": ("proven_actions", {8: None}, "a proven value is None"),
    "proof of an illegal action": ("proven_actions", {-1: 1.0}, "action -1 is proven, but is not legal"),
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


@njit
def wild_proofs(rows, out):
    out[:] = np.nan
    for b in range(rows.shape[0]):
        for a in range(9):
            if taken(rows, b) == 5 and not ((rows[b, 0] | rows[b, 1]) >> a) & 1:
                out[b, a] = 1.5


@njit
def ends_of_taken_cells(rows, out):
    OWN.ends(rows, out)
    for b in range(rows.shape[0]):
        for a in range(9):
            if taken(rows, b) == 5 and ((rows[b, 0] | rows[b, 1]) >> a) & 1:
                out[b, a] = 1.0


@njit
def proofs_of_taken_cells(rows, out):
    ends_of_taken_cells(rows, out)


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
        with_kernels(ends=ends_of_taken_cells),
        with_kernels(proofs=wild_proofs),
        with_kernels(proofs=proofs_of_taken_cells),
    ],
    ids=[
        *("nothing legal", "outcome NaN", "outcome 2", "end of -inf", "end by an illegal action"),
        *("proof of 1.5", "proof of an illegal action"),
    ],
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


@njit
def long_proofs(rows, out):
    for a in range(out.size + 1):  # one too many
        out[a // 9, a % 9] = 0


@njit
def short_proofs(rows, out):
    out[:, 1:] = np.nan


def by_hand(rows: Any, keys: Any, out: Any) -> None:
    out[:] = 0


@pytest.mark.parametrize(
    ("kernels", "words"),
    [
        ({"step": long_step}, "kernel step writes 4 int64 values for one state where 3 are promised"),
        ({"step": short_step}, "kernel step writes 1 int64 values"),
        ({"playout": long_playout}, "kernel playout writes 2 float32 values"),
        ({"proofs": long_proofs}, "kernel proofs writes 10 float32 values for one state where 9 are promised"),
        ({"proofs": short_proofs}, "kernel proofs writes 8 float32 values"),
        ({"proofs": by_hand}, "kernel proofs is function, not a function decorated with @njit"),
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


THREADS_AT_THE_END = """
import threading, time
from escalade.domains.connect_four import ConnectFour
from escalade.search.config import SearchConfig
from escalade.search.engine import search
from escalade.search.evaluators import UniformEvaluator
game = ConnectFour()
def play(simulations):
    results = search(game, [game.parse("")] * 64, UniformEvaluator(), SearchConfig(simulations=simulations))
    print(len(results), flush=True)
search(game, [game.parse("")] * 64, UniformEvaluator(), SearchConfig(simulations=5))
threading.Thread(target=play, args=(10_000_000 // 64,), daemon=True).start()  # nobody waits for it
threading.Thread(target=lambda: (time.sleep(0.3), play(50))).start()
"""


def test_threads_may_search_while_the_process_ends() -> None:
    run = subprocess.run(
        [sys.executable, "-c", THREADS_AT_THE_END], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "64\n", "")


BUSY_FORK = """
import os, threading
from escalade.domains.connect_four import ConnectFour
from escalade.search.config import SearchConfig
from escalade.search.engine import search
from escalade.search.evaluators import RolloutEvaluator, UniformEvaluator
game, config = ConnectFour(), SearchConfig(simulations=20)
states = [game.parse("")] * 16
def busy():
    while True:
        search(game, states, UniformEvaluator(), config)
search(game, states, RolloutEvaluator(game, 1), config)
for _ in range(2):
    threading.Thread(target=busy, daemon=True).start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        for evaluator in (UniformEvaluator(), RolloutEvaluator(game, 1)):
            assert len(search(game, states, evaluator, config)) == 16
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_may_fork_while_its_threads_search() -> None:
    command = [sys.executable, "-W", "ignore", "-c", BUSY_FORK]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (run.returncode, run.stderr) == (0, "")


class AsksItself:
    """Uniform, but uses the session that asks it."""

    session: Searcher

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> Any:
        return self.session.search()


def test_a_session_is_for_one_thread_at_a_time() -> None:
    evaluator = AsksItself()
    searcher = evaluator.session = Searcher(C4, evaluator, SMALL, 1)
    searcher.start([0], [C4.parse("")])
    with pytest.raises(EscaladeError, match="at work already"):
        searcher.search()
    searcher.start([0], [C4.parse("4")])  # and is free again


# Long waves


@pytest.mark.parametrize("domain", [TTT, Plain(TTT)], ids=["kernels", "plain"])
def test_a_search_among_finished_nodes_is_stopped_in_time(domain: Any) -> None:
    """Where nothing is left to ask about, a wave would be the whole search."""
    config, asked = SearchConfig(simulations=20_000_000, proofs=False), iter(range(10**9))
    state = TTT.parse("513746")
    with pytest.raises(CancelledSearch):
        search(domain, [state], UniformEvaluator(), config, cancelled=lambda: next(asked) > 20)
    clock = iter(range(10**9))
    (result,) = search(domain, [state], UniformEvaluator(), config, deadline=20, clock=lambda: next(clock))
    assert result.stopped == "deadline"
    assert result.simulations < 2_000_000
    with SearchService(domain, UniformEvaluator()) as service:
        long = service.submit(state, SearchConfig(simulations=1_000_000, proofs=False))
        assert service.search(state, SearchConfig(simulations=10, proofs=False)).simulations == 10
        long.cancel()


# Memory


def test_trees_that_are_hardly_used_take_hardly_any_memory() -> None:
    """The room of 64 trees of 100,000 nodes is 1.3 GiB; what the first wave touches is 64 pages an array."""
    states, clock = [C4.parse("")] * 64, iter(range(10**9))
    config = SearchConfig(simulations=100_000, proofs=False)
    before = resident_bytes()
    held: list[int] = []

    def now() -> int:
        held.append(resident_bytes())
        return next(clock)

    results = search(C4, states, InOneThread(), config, deadline=2, clock=now)
    assert {result.stopped for result in results} == {"deadline"}
    assert max(held) - before < 100 * 2**20


def resident_bytes() -> int:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096
    except OSError:
        pytest.skip("needs /proc")


class InOneThread:
    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        return np.zeros(legal.shape, np.float32), np.zeros(len(legal), np.float32)


def test_many_actions_take_no_room_to_try_them_in_plain_domains() -> None:
    domain: Any = Plain(TTT)
    domain.num_actions = 20_000
    with SearchService(domain, UniformEvaluator()) as service:
        assert service.search(TTT.parse(""), SearchConfig(simulations=9)).simulations == 9


@pytest.mark.skipif(sys.platform != "linux", reason="needs resource limits")
def test_memory_that_is_not_there_is_a_clear_error() -> None:
    script = """
import resource
from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import SettingsError
from escalade.search.config import SearchConfig
from escalade.search.engine import search
from escalade.search.evaluators import UniformEvaluator
game = ConnectFour()
search(game, [game.parse("")] * 8, UniformEvaluator(), SearchConfig(simulations=5))
limit = int(open("/proc/self/statm").read().split()[0]) * 4096 + 2**30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    search(game, [game.parse("")] * 60, UniformEvaluator(), SearchConfig(simulations=300_000))
except SettingsError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert "GiB of memory for the search: lower simulations" in run.stdout, run.stderr


# What is played


class Claim(Plain):
    """Three moves: two lead into endless games that look bad, the third ends this one in a draw at once."""

    def __init__(self) -> None:
        super().__init__(TTT)
        self.num_actions = 3
        self.observation_shape = (1,)
        self.legal_actions = lambda _: [0, 1, 2]
        self.to_move = lambda _: 0
        self.step = lambda state, action: (*state, action)
        self.is_terminal = lambda state: state == (2,)
        self.outcome = lambda _: 0.0
        self.ending_actions = lambda state: {} if state else {2: 0.0}
        self.format = str
        self.encode = lambda states: np.array([[len(state)] for state in states], np.float32)


class Gloomy:
    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        return np.zeros(legal.shape, np.float32), np.full(len(legal), -0.8, np.float32)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"final_move": "lower_bound"}, {"algorithm": "gumbel"}])
def test_a_sure_action_that_looks_best_has_the_weight_of_the_policy(options: Any) -> None:
    domain: Any = Claim()
    (result,) = search(domain, [()], Gloomy(), SearchConfig(simulations=100, **options))
    assert result.action == 2
    assert result.policy[2] > 0.95
    assert result.policy.sum() == pytest.approx(1)


@pytest.mark.parametrize("alpha", [1e-4, 1e-3, 0.03, 1.0, 1000.0])
def test_noise_of_any_concentration_is_a_distribution(alpha: float) -> None:
    config = SearchConfig(simulations=1, noise_fraction=1.0, noise_alpha=alpha)
    results = search(C4, [C4.parse("")] * 400, UniformEvaluator(), config)
    priors = np.array([result.prior for result in results])
    np.testing.assert_allclose(priors.sum(axis=1), 1, atol=1e-5)
    # Of a Dirichlet distribution of 7 equal parts, the variance of each is 6 / (49 (7 alpha + 1)).
    expected = 6 / (49 * (7 * alpha + 1))
    assert priors.var(axis=0).mean() == pytest.approx(expected, rel=0.2)


def test_noise_at_a_root_that_is_proven_at_once() -> None:
    searcher = Searcher(C4, UniformEvaluator(), SearchConfig(simulations=10, noise_fraction=0.25), 1)
    searcher.start([0], [C4.parse("112233")])
    for seed in range(3):
        (result,) = searcher.search(seed=seed)
        assert result.action == 3
        assert result.proven
        assert result.prior.sum() == pytest.approx(1, abs=1e-5)


# Settings


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int32])
def test_numbers_of_numpy_are_whole_numbers_like_others(kind: Any) -> None:
    most = min(int(np.iinfo(kind).max), 255)
    config = SearchConfig(simulations=kind(most), considered=kind(4), c_puct=np.float32(1.25))
    assert config == SearchConfig(simulations=most, considered=4)
    assert type(config.simulations) is int
    for result in search(C4, [C4.parse("")] * 10, UniformEvaluator(), config):
        assert result.simulations == most


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


@pytest.mark.parametrize("cache", [10**14, -1, 2.5])
def test_a_cache_that_cannot_be_is_refused(cache: Any) -> None:
    with pytest.raises(SettingsError, match="cache"):
        search(TTT, [TTT.parse("")], network_for(TTT), SMALL, cache=cache)


FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"domain": "tic_tac_toe"}, "domain must be a Domain"),
    ({"domain": TicTacToe}, "domain must be a Domain"),
    ({"states": None}, "states must be a list"),
    ({"states": "15"}, "states must be a list"),
    ({"states": [None]}, "is not a state of domain 'tic_tac_toe'"),
    ({"states": [TTT.parse(""), 7]}, "not a state of domain 'tic_tac_toe'"),
    ({"evaluator": None}, "evaluator must have a method"),
    ({"evaluator": UniformEvaluator}, "evaluator must have a method"),
    ({"evaluator": len}, "evaluator must have a method"),
    ({"config": None}, "config must be a SearchConfig"),
    ({"config": SearchConfig}, "config must be a SearchConfig"),
    ({"config": {"simulations": 3}}, "config must be a SearchConfig"),
    ({"seed": None}, "seed must be a whole number"),
    ({"seed": 1.5}, "seed must be a whole number"),
    ({"seed": "a"}, "seed must be a whole number"),
    ({"seed": [1.5]}, "seed must be a whole number"),
    ({"seed": [1, 2, 3]}, "1 states need 1 seeds"),
    ({"deadline": float("nan")}, "deadline must be a time"),
    ({"deadline": "soon"}, "deadline must be a time"),
    ({"deadline": 10**400}, "deadline must be a time"),
    ({"deadline": np.complex64(1)}, "deadline must be a time"),
    ({"cache": "x"}, "cache must be"),
]


@pytest.mark.parametrize(("given", "words"), FIELDS, ids=lambda value: str(value)[:40])
def test_what_is_wrong_in_a_call_is_named(given: dict[str, Any], words: str) -> None:
    right = {"domain": TTT, "states": [TTT.parse("")], "evaluator": UniformEvaluator(), "config": SMALL}
    with pytest.raises((SettingsError, StateError), match=words):
        search(**{**right, **given})
    if "cache" not in given and "states" not in given:
        options = {"domain": TTT, "evaluator": UniformEvaluator(), **given}
        asked = {name: options.pop(name) for name in ("config", "seed", "deadline") if name in options}
        with pytest.raises((SettingsError, StateError), match=words.replace("1 states need 1 seeds", "seed must be")):
            SearchService(**options).submit(TTT.parse(""), **{"config": SMALL, **asked})


@pytest.mark.parametrize(
    "options",
    [
        *({"trees": wrong} for wrong in (0, 2.5, "4")),
        *({"queue_limit": wrong} for wrong in (0, "x")),
        *({"memory": wrong} for wrong in (0, "1GB", None, 1e9, np.inf)),
    ],
    ids=str,
)
def test_what_is_wrong_in_a_service_is_named(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(SettingsError, match=f"^{name} must be a whole number"):
        SearchService(C4, UniformEvaluator(), **options)


def test_evaluators_and_hints_refuse_what_is_no_number() -> None:
    for wrong in (0, 1.5, None):
        with pytest.raises(SettingsError, match="rollouts must be a whole number"):
            RolloutEvaluator(C4, wrong)  # type: ignore[arg-type]
        with pytest.raises(SettingsError, match="calls must be a whole number"):
            BatchHints(calls=wrong)  # type: ignore[arg-type]
    for answer in ((np.full((1, 9), "x"), np.zeros(1)), (np.zeros((1, 9)), np.zeros(1, np.complex64))):
        with pytest.raises(DomainFault, match="that are not numbers but"):
            search(TTT, [TTT.parse("")], Answering(answer), SMALL)


def test_a_state_that_is_none_harms_no_other_request() -> None:
    with SearchService(C4, UniformEvaluator()) as service:
        good = [service.submit(C4.parse(""), SearchConfig(simulations=50_000)) for _ in range(4)]
        with pytest.raises(StateError, match="is not a state of domain 'connect_four'"):
            service.submit(C4.parse("")._replace(mine=2**70), SMALL)
        for ticket in good:
            assert ticket.result(PATIENCE).simulations == 50_000


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
    for actions in ([1, 0 + 9], [1, -1], [1, 1], [1, 0.0]):
        with pytest.raises(ActionError, match="is not legal in the state"):
            searcher.play([0, 1], actions)
        assert [searcher.state(tree).moves for tree in range(2)] == ["1", "2"]
    with pytest.raises(SettingsError, match="2 trees"):
        searcher.play([0, 1], [4])
    searcher.play([0, 1], [1, 0])
    assert [searcher.state(tree).moves for tree in range(2)] == ["12", "21"]
