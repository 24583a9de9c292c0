"""The training graph: plan, collect, fit, evaluate, certify, promote, and round again while the budget lasts.

Its state is small and plain; what is made lies in the run's folder (`escalade.training.run`), and every step can be
done again without doing anything twice. So a run that was stopped anywhere, by `kill -9` too, goes on from its last
checkpoint and comes to the same weights (on one CPU, in one process).

Progress is told as custom stream events (`stream_mode="custom"`): plain dicts with an `event`, such as
{"event": "pass", "iteration": 3, "policy_loss": 0.9, …}.
"""

from __future__ import annotations

import contextvars
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from langgraph.config import get_config, get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer, Send, StateSnapshot

from escalade.domains.errors import SettingsError
from escalade.graph.training_state import CollectState, TrainingInput, TrainingOutput, TrainingState, check_input
from escalade.search.solvers import exact_solver
from escalade.training import budget, certify_run, judge, steps
from escalade.training.clock import clock_of, forget_clock
from escalade.training.recipe import recipe_from
from escalade.training.run import Run, RunConfig, RunError, Tell, let_go
from escalade.training.strength import measure_strength, strength_left
from escalade.training.strength_figures import without_results
from escalade.training.workers import InProcess, Workers

TrainingGraph = CompiledStateGraph[Any, Any, Any, Any]


@dataclass(frozen=True)
class TrainingResources:
    """root: the folder of all runs. workers: where collectors run; parallel: how many at once; cores: for each, None
    for all. fit: makes an iteration's fit; by default in this process. register: is told of the champion at the end.
    """

    root: Path = Path("out/train")
    workers: Workers = field(default_factory=InProcess)
    parallel: int = 1
    cores: int | None = None
    fit: Callable[..., dict[str, Any]] = steps.fit
    register: Callable[[Run, dict[str, Any]], None] | None = None


def build_training_graph(
    resources: TrainingResources | None = None, *, compiled: bool = True, checkpointer: Checkpointer = None
) -> Any:
    """The training graph, compiled, or as a `StateGraph`. Input `TrainingInput`, output `TrainingOutput`."""
    nodes = _Nodes(resources or TrainingResources())
    graph: Any = StateGraph(TrainingState, input_schema=TrainingInput, output_schema=TrainingOutput)
    for name in ("plan", "fit", "evaluate", "certify", "promote", "finish"):
        graph.add_node(name, getattr(nodes, name))
    graph.add_node("collect", nodes.collect, input_schema=CollectState)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", _fan_out, ["collect", "fit", "finish"])
    for name, following in (
        ("collect", "fit"),
        ("fit", "evaluate"),
        ("evaluate", "certify"),
        ("certify", "promote"),
        ("promote", "plan"),
        ("finish", END),
    ):
        graph.add_edge(name, following)
    return graph.compile(checkpointer=checkpointer, name="train") if compiled else graph


def stopped_on_the_way(snapshot: StateSnapshot) -> bool:
    """Whether a thread (`graph.get_state`) has steps to do: it goes on when the graph is invoked with None.

    `snapshot.next` does not tell: it is empty too where all of a step is done and the next one was not stored yet.
    """
    return bool(snapshot.tasks)


def _fan_out(state: TrainingState) -> list[Send] | str:
    """A collector for each task. Where there are none, all experience is from elsewhere."""
    if state["spent"]:
        return "finish"
    shared = {"run": state["run"], "ends": state.get("collect_ends")}
    return [Send("collect", {**shared, "task": task}) for task in state["tasks"]] or "fit"


class _Nodes:
    """The steps as nodes."""

    def __init__(self, resources: TrainingResources) -> None:
        self.resources = resources

    def _run(self, state: TrainingState) -> Run:
        run = Run.open(self.resources.root / state["run"])
        run.tell_problems(_tell())
        return run

    def plan(self, state: TrainingState) -> dict[str, Any]:
        """What the next iteration is to do, if the budget is not spent."""
        run = self._begin(state)
        clock = clock_of(run.folder)
        clock.at_least(state.get("seconds", 0.0))  # of a run that was begun when there was no clock
        with clock.working():
            return self._plan(run, state, clock.seconds)

    def _plan(self, run: Run, state: TrainingState, seconds: float) -> dict[str, Any]:
        iteration = state.get("iteration", 0) + 1
        minutes, iterations = _budget(run, state)
        # A run by minutes ends with the iteration that was to be the last, whatever time is left.
        spent = minutes is not None and (state.get("ends_at") == minutes or (iteration > 1 and seconds >= minutes * 60))
        known: dict[str, Any] = {"run": run.name, "domain": run.config.domain, "collected": None}
        if spent or (iterations is not None and iteration > iterations):
            return {**known, "spent": True, "tasks": [], "ended": _end("budget", iteration - 1, minutes, iterations)}
        if (ended := _out_of_patience(run, state, minutes, iterations)) is not None:
            _tell()({"event": "ended", "champion": (run.champion or {}).get("iteration"), **ended})
            return {**known, "spent": True, "tasks": [], "ended": ended}
        last = iterations is not None and iteration == iterations
        if minutes is not None and iteration == 1 and exact_solver(run.domain) is not None:
            run.judge_by(budget.judged_positions(run.recipe, minutes, clock_of(run.folder).startup))
        if iteration == 1 and (begun := judge.judge_start(run, _tell())) is not None:
            known |= {"history": [begun], "seconds": begun["seconds"], "champion": run.champion}
        sizes: dict[str, Any] = {}
        if minutes is not None:
            expected = state.get("pace")
            if expected is None and run.domain.has_simulator:
                expected = budget.expected_paces(run.domain, run.lengths(timed=True), run.recipe.self_play)
            pace = budget.paces(expected or {}, state.get("collected") or ())
            first = run.bundle(iteration - 1) is None and run.recipe.untaught == "random"
            clock = clock_of(run.folder)
            after = self._after(run, minutes)
            judging, shape = self._judging(run, iteration, minutes), budget.shape_of(run.recipe, run.domain)
            part = budget.next_round(minutes, clock.seconds, after, judging, first=first, shape=shape)
            last = part.last
            ends = clock.seconds + budget.SLACK * part.collect
            known |= {"pace": pace, "fit_seconds": part.fit, "collect_ends": ends}
            sizes = {"seconds": part.collect, "workers": self.resources.parallel, "pace": pace}
        tasks = steps.tasks(run, iteration, last=last, cores=self.resources.cores, **sizes)
        run.tell_problems(_tell())
        _tell()({"event": "plan", "iteration": iteration, "iterations": iterations, "tasks": len(tasks), "last": last})
        ends_at = minutes if last else None
        return {
            **known,
            "spent": False,
            "tasks": tasks,
            "iteration": iteration,
            "last": last,
            "ends_at": ends_at,
        }

    def _after(self, run: Run, minutes: float) -> float:
        """Seconds that the end of a run by minutes is to take: what is proven, and what is drawn."""
        startup, solved = clock_of(run.folder).startup, exact_solver(run.domain) is not None
        proven = budget.provable(run.recipe.certify, minutes, startup) if solved else None
        proving = 0.0 if proven is None else budget.proof_seconds(proven, startup)
        return budget.closing(minutes, startup) + proving + strength_left(run, 60 * minutes)

    def _judging(self, run: Run, iteration: int, minutes: float) -> float:
        """Seconds that the next evaluation will take, going by the ones before."""
        before = (
            run.read(run.iteration(number) / "evaluation.json") for number in range(max(1, iteration - 3), iteration)
        )
        took = [float(found["seconds"]) for found in before if found is not None]
        if iteration == 1 and exact_solver(run.domain) is not None:
            return budget.solver_judging(run.recipe, clock_of(run.folder).startup)
        # The first has no champion to beat, and costs nothing.
        matches = budget.JUDGING * budget.round_seconds(minutes) if iteration == 2 and run.domain.has_simulator else 0.0
        return max([matches, *took])

    def _begin(self, state: TrainingState) -> Run:
        """The run of the state, begun if there is none yet. Raises SettingsError for input that is not as described."""
        check_input(state)
        name = state.get("run")
        if name and (self.resources.root / name / "run.json").exists():
            run = Run.open(self.resources.root / name)
            _check_same(run, state)
            run.tell_problems(_tell())
            return run
        if not state.get("domain"):
            raise SettingsError(
                f"domain: there is no run '{name}' yet: name what it is to learn, such as 'tic_tac_toe'"
            )
        from escalade.domains.catalog import load_domain

        options = state.get("options") or {}
        domain = load_domain(state["domain"], options or None)
        config = RunConfig(
            domain=state["domain"],
            recipe=recipe_from(state.get("recipe", "default"), domain),
            seed=state.get("seed", 0),
            options=options,
            experience=tuple(state.get("experience") or ()),
            exclude=tuple(state.get("exclude") or ()),
            start=state.get("start"),
        )
        if not name:
            # A thread is one run, however often its first step is done again.
            thread = str(get_config().get("configurable", {}).get("thread_id") or f"{datetime.now(UTC):%Y%m%d-%H%M%S}")
            name = f"{domain.name}-{re.sub('[^A-Za-z0-9-]', '', thread)[:36]}"
        return Run.begin(self.resources.root / name, config)

    def collect(self, state: CollectState) -> dict[str, Any]:
        """One collector's piece of work."""
        tell, task = _tell(), state["task"]
        source, shard, count = task["source"], task["shard"], task["count"]

        def heard(done: int, rows: int) -> None:
            tell({"event": "collect", "source": source, "shard": shard, "done": done, "of": count, "rows": rows})

        # The folder may have moved since the task was made.
        root = (self.resources.root / state["run"]).absolute()
        clock, ends = clock_of(root), state.get("ends")
        if ends is not None:  # less than planned, where it was begun in an earlier session
            task = {**task, "seconds": min(task["seconds"], max(budget.LEAST, ends - clock.seconds))}
        with clock.working():
            stats = self.resources.workers.collect({**task, "root": str(root)}, heard)
        tell({"event": "collected", **stats})
        return {"collected": [stats]}

    def fit(self, state: TrainingState) -> dict[str, Any]:
        """The network, fitted to the window."""
        run = self._run(state)
        collecting = sum(stats["seconds"] for stats in state["collected"]) / self.resources.parallel
        minutes, _ = _budget(run, state)
        clock, limit = clock_of(run.folder), {}
        with clock.working():
            if minutes is not None:
                after = self._after(run, minutes) + self._judging(run, state["iteration"], minutes)
                left = 60 * minutes - clock.seconds - after
                planned = state.get("fit_seconds") or left
                limit = {"seconds": max(budget.LEAST, left if state["last"] else min(planned, left))}
            span = self._span(run, state, clock.seconds + limit.get("seconds", 0.0))
            done = self.resources.fit(run, state["iteration"], span, last=state["last"], tell=_tell(), **limit)
        took = collecting + done["seconds"]
        return {
            "span": list(span),
            "seconds": state.get("seconds", 0.0) + took,
        }

    def _span(self, run: Run, state: TrainingState, seconds: float) -> tuple[float, float]:
        """How far the run is, from 0 to 1, before and after this fit. seconds: of work, once it has ended."""
        minutes, iterations = _budget(run, state)
        iteration = state["iteration"]
        if minutes is None:
            # Not from where it ended before: a finished run that goes on with a larger budget learns faster again.
            of = iterations or iteration
            before, after = (steps.share_of_work(run.recipe, number, of) for number in (iteration - 1, iteration))
            return before, after
        begun = state["span"][1] if state.get("span") and state["span"][1] < 1 else 0.0
        if state["last"]:
            return begun, 1.0
        return begun, max(begun, min(0.95, seconds / (minutes * 60)))

    def evaluate(self, state: TrainingState) -> dict[str, Any]:
        """How good the new network is."""
        run, iteration = self._run(state), state["iteration"]
        with clock_of(run.folder).working():
            if (minutes := _budget(run, state)[0]) is not None and run.domain.has_simulator:
                run.recipe = budget.judged(run.recipe, run.domain, run.lengths(timed=True), minutes)
            judged = judge.evaluate_iteration(run, iteration, _tell())
        fitted = run.read(run.iteration(iteration) / "fit.json")
        seconds = clock_of(run.folder).seconds
        line = {"iteration": iteration, "seconds": seconds, **_collected(state["collected"])}
        line |= {name: fitted["lines"][-1][name] for name in ("policy_loss", "value_loss", "positions")}
        with clock_of(run.folder).working():
            strong = measure_strength(run, iteration, seconds, last=state["last"], tell=_tell())
        line |= {**judged["lines"][0], "strength": without_results(strong["figures"])}
        _tell()({"event": "evaluation", **line})
        return {
            "seconds": clock_of(run.folder).seconds,
            "history": [*state.get("history", []), line],
        }

    def certify(self, state: TrainingState) -> dict[str, Any]:
        """What the best network may decide alone, proven at the end of the run."""
        run, iteration = self._run(state), state["iteration"]
        minutes, _ = _budget(run, state)
        if minutes is not None and run.recipe.certify is not None and exact_solver(run.domain) is not None:
            config = budget.provable(run.recipe.certify, minutes, clock_of(run.folder).startup)
            if config is None:
                reason = f"a run of {minutes:g} minutes has no time to prove anything: see `escalade certify`"
                told = {"event": "certify", "iteration": iteration, "last": state["last"]}
                _tell()({**told, "certified": False, "reason": reason})
                return {}
            run.recipe = replace(run.recipe, certify=config)
        with clock_of(run.folder).working():
            done = certify_run.certify_iteration(run, iteration, last=state["last"], tell=_tell())
        _tell()({"event": "certify", "iteration": iteration, "last": state["last"], **done})
        return {"seconds": state["seconds"] + done.get("seconds", 0.0)}

    def promote(self, state: TrainingState) -> dict[str, Any]:
        """The better network plays on."""
        run = self._run(state)
        with clock_of(run.folder).working():
            done = judge.promote(run, state["iteration"], _tell())
        *earlier, line = state["history"]
        return {"champion": run.champion, "history": [*earlier, {**line, "promoted": done["promoted"]}]}

    def finish(self, state: TrainingState) -> dict[str, Any]:
        """The run is over: its champion is told to the registry, if there is one."""
        run = self._run(state)
        champion = run.champion
        if champion is not None and self.resources.register is not None:
            self.resources.register(run, champion)
        let_go(run.folder)
        forget_clock(run.folder)
        bundle = None if champion is None else run.bundle(champion["iteration"])
        _tell()({"event": "finished", "run": run.name, "bundle": None if bundle is None else str(bundle)})
        return {"champion": champion, "bundle": str(bundle or "")}


def _check_same(run: Run, state: TrainingState) -> None:
    """Raises RunError if a run is not what the input wants. What the input leaves out is as the run has it."""
    given: dict[str, Any] = {name: state[name] for name in ("domain", "seed", "options", "start") if name in state}
    given |= {name: tuple(state[name] or ()) for name in ("experience", "exclude") if name in state}
    if "recipe" in state:
        given["recipe"] = recipe_from(state["recipe"], run.domain)
    for name, value in given.items():
        if (value or None) != (getattr(run.config, name) or None):
            raise RunError(f"{name}: run '{run.name}' has another one: leave it out, or name a new run")


def _budget(run: Run, state: TrainingState) -> tuple[float | None, int | None]:
    """Minutes and iterations that the whole run may take."""
    given = run.budget or {"minutes": state.get("minutes"), "iterations": state.get("iterations")}
    minutes, iterations = given.get("minutes"), given.get("iterations")
    return minutes, run.recipe.iterations if minutes is None and iterations is None else iterations


def _end(reason: str, iteration: int, minutes: float | None, iterations: int | None) -> dict[str, Any]:
    return {"reason": reason, "iteration": iteration, "minutes": minutes, "iterations": iterations}


def _out_of_patience(
    run: Run, state: TrainingState, minutes: float | None, iterations: int | None
) -> dict[str, Any] | None:
    """What `ended` says of a run that no longer improves on held-out rows. With another budget than it ended with
    before, it is patient anew: there may be new experience by then."""
    patience, iteration = run.recipe.patience, state.get("iteration", 0)
    found, before = _end("patience", iteration, minutes, iterations), state.get("ended")
    same = before is None or all(before[name] == found[name] for name in ("reason", "minutes", "iterations"))
    since = 0 if before is None or same else int(before["iteration"])
    waited = judge.without_progress(run, iteration, since)
    return {**found, "patience": patience} if patience and waited >= patience else None


def _collected(stats: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums over collectors."""
    names = ("games", "rows", "simulations")
    return {
        name: sum(one.get(name, 0) for one in stats if name != "games" or one["source"] == "self_play")
        for name in names
    }


def _tell() -> Tell:
    """The run's stream of custom events, from whatever thread."""
    writer, context = get_stream_writer(), contextvars.copy_context()
    return lambda event: context.copy().run(writer, event)
