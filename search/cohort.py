"""Trees that search in step on one thread, asking one evaluator together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import gammaincinv, gammaln

from escalade.domains.base import Domain, IntArray, KeyArray, array_domain
from escalade.domains.errors import DomainFault, SettingsError
from escalade.domains.evaluator import AnyEvaluator, checked_answer, native_of
from escalade.domains.isolation import failures_by_row
from escalade.domains.random_bits import GAMMA, mix, uniforms
from escalade.search.arrays import ASKED, FAILED, FAULTS, FINISHED, HITS, PENDING, READY, RUNNING, node_arrays
from escalade.search.cache import CachedEvaluator
from escalade.search.config import SearchConfig, whole
from escalade.search.forest import new_forest
from escalade.search.leaves import PlainLeaves
from escalade.search.native import native_evaluator, run
from escalade.search.recovery import advance_again, encode_again
from escalade.search.results import Readings, SearchResult, readings_of, results_of
from escalade.search.searchable import rows_of
from escalade.search.subtree import keep_subtree, renew_noise
from escalade.search.waves import MOST_ROUNDS, abandon, absorb_round, select_round, settle, wave


class Cohort:
    """A forest, and an evaluator to ask. Not for two threads at once.

    `plant` trees, then `go` until it has reported them all as stopped.

    isolate: where the evaluator, an encoding or a kernel of the domain raises, find the states at fault and fail their
        trees alone; otherwise `go` raises the error.
    errors: by tree, of those that failed because a plain domain raised, or with `isolate` any of these.
    """

    def __init__(
        self,
        domain: Domain[Any],
        evaluator: AnyEvaluator,
        trees: int,
        nodes: int,
        *,
        cache: int = 0,
        isolate: bool = False,
    ) -> None:
        made_for = getattr(evaluator, "domain", domain)
        if made_for is not domain and isinstance(made_for, Domain) and _form(made_for) != _form(domain):
            raise SettingsError(
                f"the evaluator was made for another domain, '{made_for.name}' in other form: make one for the domain "
                f"'{domain.name}' that is searched"
            )
        cache = whole("cache", cache, 0, 2**40)
        self.domain = domain
        self._asks_states = hasattr(evaluator, "evaluate_states")
        cache = 0 if self._asks_states else cache  # their estimates have a part of chance
        self.fast = array_domain(domain)
        self.forest = new_forest(domain, trees, nodes, cache if self.fast else 0)
        self.arrays = self.forest.arrays
        self.plain = None if self.fast else PlainLeaves(domain, self.forest)
        self._cached = CachedEvaluator(evaluator, cache) if cache and self.plain else None
        self.evaluator: Any = self._cached or evaluator
        self._observations = self.arrays.observations.reshape(trees, *domain.observation_shape)
        self.errors: dict[int, Exception] = self.plain.errors if self.plain else {}
        self._isolate = isolate
        self._moved = np.zeros(trees, np.bool_)  # whether a root was no root in the search before
        self._source = evaluator
        self._call = native_of(evaluator)
        self._native = native_evaluator(domain, evaluator)

    def plant(
        self,
        trees: IntArray,
        states: Sequence[Any] | IntArray,
        starts: IntArray,
        rooms: IntArray | int,
        config: SearchConfig,
        seeds: KeyArray,
    ) -> None:
        """New trees for unfinished states, or rows `[M, W]` of an `ArrayDomain`: `trees` `[M]` are places that are
        free, `starts` `[M]` the first of the nodes they own, `rooms` how many those are. `config.simulations` + 1 are
        enough; a tree that has used fewer stops, as FULL, until `move` gives it more."""
        a = self.arrays
        call = native_of(self._source)
        if call is not self._call:  # it has learned since, or moved
            self._call, self._native = call, native_evaluator(self.domain, self._source)
            self.forget_estimates()
        self._moved[trees] = False
        a.start[trees], a.room[trees] = starts, rooms
        a.size[trees] = 0
        self._configure(trees, config, seeds)
        if self.fast is not None:
            a.rows[starts] = states if isinstance(states, np.ndarray) else rows_of(self.fast, states)
        else:
            assert self.plain is not None
            for tree, state in zip(trees.tolist(), states, strict=True):
                self.plain.plant(tree, state)
        self._make_ready(trees)

    def move(self, tree: int, start: int, room: int) -> None:
        """Let a tree that is FULL go on in other, or more, nodes of the arena; those it had are free afterwards."""
        a = self.arrays
        old, size = int(a.start[tree]), int(a.size[tree])
        if start != old:
            for array in node_arrays(a):
                array[start : start + size] = array[old : old + size]
        a.start[tree], a.room[tree], a.stopped[tree] = start, room, RUNNING
        self._make_ready(np.array([tree]))

    def clear(self) -> None:
        """Forget what was under way, after a failure."""
        self.arrays.counts[:] = 0
        self.errors.clear()

    def forget_estimates(self) -> None:
        """Empty the cache."""
        self.arrays.cached_values[:] = np.nan
        if self._cached is not None:
            self._cached.forget()

    @property
    def hits(self) -> int:
        """How often the cache knew a state."""
        return self._cached.hits if self._cached is not None else int(self.arrays.counts[HITS])

    def follow(self, tree: int, action: int) -> bool:
        """Make the root's child by an action the root, with all that is known below it. False, and nothing is changed,
        if nothing is."""
        kept = np.empty(int(self.arrays.size[tree]), np.int64)
        count = keep_subtree(self.forest.handle, tree, action, kept)
        if count and self.plain is not None:
            self.plain.keep(tree, kept[:count].tolist())
        self._moved[tree] |= bool(count)
        return bool(count)

    def go_on(self, trees: IntArray, config: SearchConfig, seeds: KeyArray) -> None:
        """Search trees `[M]` on that `follow` has kept, until their roots have as many visits as a new tree would."""
        self._configure(trees, config, seeds)
        for tree in trees.tolist():
            renew_noise(self.forest.handle, tree, not self._moved[tree])
        self._moved[trees] = False
        self._make_ready(trees)

    def finished_from_the_start(self, trees: IntArray) -> IntArray:
        """Those of trees `[M]` whose root was finished already."""
        return trees[self.arrays.terminal[self.arrays.start[trees]]]

    def raise_for_failed(self, trees: IntArray) -> None:
        """Raise what went wrong with a tree of `[M]`, if anything did."""
        for tree in trees[np.isin(self.arrays.stopped[trees], FAULTS)].tolist():
            raise self.fault(tree)

    def fault(self, tree: int) -> Exception:
        """Why a tree failed."""
        if tree in self.errors:
            return self.errors.pop(tree)
        if self.arrays.stopped[tree] == FAILED:
            return DomainFault("the evaluator gave a number that is not finite (NaN or infinite)")
        node = int(self.arrays.size[tree]) - 1
        row = self.arrays.rows[self.arrays.start[tree] + node].tolist()  # what plain domains say is checked before
        return DomainFault(
            f"domain '{self.domain.name}', row {row}: either it is not finished and nothing is legal, or its outcome "
            "is not in [-1, 1], or the kernel ends or proofs gives a value that is not, or one for an illegal action"
        )

    def _configure(self, trees: IntArray, config: SearchConfig, seeds: KeyArray) -> None:
        a = self.arrays
        a.stopped[trees] = RUNNING
        a.seed[trees] = seeds
        a.visits_wanted[trees] = config.simulations + 1
        a.proofs[trees] = config.proofs
        a.c_puct[trees], a.fpu_reduction[trees] = config.c_puct, config.fpu_reduction
        a.root_samples[trees], a.root_sum[trees], a.root_squares[trees] = 0, 0, 0
        gumbel = config.algorithm == "gumbel"
        a.gumbel[trees] = gumbel
        a.noise_fraction[trees] = 0 if gumbel else config.noise_fraction
        if gumbel:
            a.considered[trees] = config.considered
            a.c_visit[trees], a.c_scale[trees] = config.c_visit, config.c_scale
            a.rescale[trees] = config.rescale
            a.noise[trees] = -np.log(-np.log(uniforms(seeds, a.noise.shape[1]))) * config.gumbel_scale
        elif config.noise_fraction:
            a.noise[trees] = log_gammas(config.noise_alpha, uniforms(seeds, a.noise.shape[1]))

    def _make_ready(self, trees: IntArray) -> None:
        count = int(self.arrays.counts[READY])
        self.arrays.ready[count : count + len(trees)] = trees
        self.arrays.counts[READY] = count + len(trees)

    @property
    def busy(self) -> bool:
        """Whether a tree is ready or waits for an answer."""
        return bool(self.arrays.counts[READY] or self.arrays.counts[ASKED])

    def go(self, waves: int = 1, to_the_end: bool = False) -> IntArray:
        """Answer what is asked and let every tree go on until it asks again; so many times if all of it is compiled,
        once otherwise. Returns the trees that stopped, `[F]`; unless `to_the_end`, returns as soon as there is one."""
        counts = self.arrays.counts
        counts[FINISHED] = 0
        if self._native is not None:
            try:
                run(self.forest.handle, self.forest.rules, self._native, waves, to_the_end)
                return self.arrays.finished[: counts[FINISHED]]
            except Exception:
                if not self._isolate:
                    raise
                if self._recover():
                    return self.arrays.finished[: counts[FINISHED]]
                # Then it was the evaluator, which is asked from here instead.
        self._answer()
        if self.plain is None:
            try:
                wave(self.forest.handle, self.forest.rules, not self._asks_states)
            except Exception:
                if not self._isolate:
                    raise
                self._recover()
        else:
            settle(self.forest.handle)
            for _ in range(MOST_ROUNDS):
                if not select_round(self.forest.handle):
                    break
                self.plain.advance()
                absorb_round(self.forest.handle)
        return self.arrays.finished[: counts[FINISHED]]

    def _recover(self) -> bool:
        """After a kernel has raised, fail the trees that it was the domain's fault for. False if there are none."""
        assert self.fast is not None
        advanced = bool(self.arrays.counts[PENDING])
        failures = advance_again(self.forest)
        if not self._asks_states:
            failures |= encode_again(self.forest, self.fast)
        self.errors |= failures
        return advanced or bool(failures)

    def _answer(self) -> None:
        """Ask the evaluator about the leaves that want it."""
        count = int(self.arrays.counts[ASKED])
        if count and not self._isolate:
            self._ask(0, count)
        elif count:
            for row, error in failures_by_row(self._ask, count).items():
                self.arrays.values[row] = np.nan  # which fails the tree, in `settle`
                self.errors[int(self.arrays.asked[row])] = error

    def _ask(self, first: int, last: int) -> None:
        """Ask about the leaves from `first` to `last`, exclusive. The evaluator gets copies: what it does to its
        arguments before it raises must not be seen when it is asked again."""
        rows = slice(first, last)
        legal = self.arrays.asked_legal[rows].copy()
        answer: Any
        if self._asks_states:
            states = self.arrays.asked_rows[rows].copy() if self.plain is None else self.plain.asked(rows)
            answer = self.evaluator.evaluate_states(states, legal, self.arrays.asked_keys[rows].copy())
        else:
            seen = self._observations[rows].copy() if self.plain is None else self.domain.encode(self.plain.asked(rows))
            answer = self.evaluator.evaluate(seen, legal)
        logits, values = checked_answer(answer, last - first, self.domain.num_actions)
        self.arrays.logits[rows], self.arrays.values[rows] = logits, values

    def stop(self, trees: IntArray, reason: int) -> None:
        """Trees that still run go no further: their questions are taken back, but for those of a root."""
        running = trees[self.arrays.stopped[trees] == RUNNING]
        self.arrays.stopped[running] = reason
        abandon(self.forest.handle)

    def results(self, trees: IntArray, config: SearchConfig) -> list[SearchResult]:
        """What trees `[M]` that stopped have found, all of one configuration."""
        return results_of(self.forest, trees, config)

    def read(self, trees: IntArray, config: SearchConfig) -> Readings:
        """As `results`, in arrays."""
        return readings_of(self.forest, trees, config)

    def progress(self, tree: int) -> tuple[int, int, float]:
        """How far a tree has come that may still run: simulations (0 or less before its root was evaluated), the most
        visited action (ties: the larger prior), the root's value."""
        a = self.arrays
        root = int(a.start[tree])
        action = int(np.lexsort((a.prior[root], a.edge_visits[root]))[-1])
        return int(a.visits[root]) - 1, action, float(a.value[root])


def log_gammas(alpha: float, chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logs of gamma variates of shape alpha at these quantiles, in (0, 1). Of a small alpha most are too small for a
    number, but not for its log: P(x) is x^alpha / Gamma(alpha + 1) there."""
    variates = gammaincinv(alpha, chances)
    with np.errstate(divide="ignore"):
        return np.where(variates > 1e-200, np.log(variates), (np.log(chances) + gammaln(alpha + 1)) / alpha)


def _form(domain: Domain[Any]) -> tuple[Any, ...]:
    """What the states of a domain look like to an evaluator of states."""
    fast = array_domain(domain)
    return domain.name, domain.num_actions, tuple(domain.observation_shape), fast.row_width if fast else None


def tree_seeds(seed: int | Sequence[int], trees: int) -> KeyArray:
    """One random seed a tree, `[B]` uint64: of one number, the first depends on it alone and not on how many trees
    there are; or of one number a tree. Raises SettingsError for another number of numbers."""
    if isinstance(seed, int | np.integer):
        return spread(np.full(trees, int(seed) & (2**64 - 1), np.uint64), np.arange(trees, dtype=np.uint64))
    seeds = list(seed) if isinstance(seed, Iterable) else [None]
    if not all(isinstance(number, int | np.integer) for number in seeds):
        raise SettingsError(f"seed must be a whole number, or one a state, not {seed!r}")
    if len(seeds) != trees:
        raise SettingsError(f"{trees} states need {trees} seeds, not {len(seeds)}")
    numbers = np.array([int(number) & (2**64 - 1) for number in seeds], np.uint64)
    return spread(numbers, np.zeros(trees, np.uint64))


@njit(nogil=True, cache=True)
def spread(seeds, places):  # type: ignore[no-untyped-def]
    """Keys `[M]` uint64 for a place `[M]` uint64 under each seed `[M]` uint64."""
    out = np.empty_like(seeds)
    for m in range(len(seeds)):
        out[m] = mix(mix(seeds[m] + GAMMA) + GAMMA * places[m])
    return out
