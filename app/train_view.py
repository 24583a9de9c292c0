"""What a person sees while a domain is learned: where the run is, and a line of figures an iteration."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from escalade.training.run import Run

SHOWN = 15
"""Iterations on the screen."""
SILENT_SECONDS = 15.0


class TrainView:
    """Hears the events of the training graph. On a terminal it draws them; elsewhere it prints a line an iteration, and
    one of where it is whenever it has printed none for SILENT_SECONDS.

    before: the graph's state, if the run was begun in an earlier session. worked: seconds of work by now, where more is
    known of them than that state has. began: when the process did, by `clock`: it has been silent since.
    """

    def __init__(
        self,
        name: str,
        console: Console,
        minutes: float | None,
        *,
        before: dict[str, Any] | None = None,
        worked: float = 0.0,
        began: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.console, self.minutes = name, console, minutes
        self.iterations: int | None = None
        state = before or {}
        self._clock, self._began, self._earlier = clock, clock(), max(worked, state.get("seconds") or 0.0)
        self._lines: list[dict[str, Any]] = list(state.get("history") or [])
        self._now: dict[str, Any] = {"iteration": state["iteration"]} if state.get("iteration") else {}
        self._tasks = len(state.get("tasks") or ())
        self._pieces: dict[str, tuple[int, int, int]] = {}
        self._collecting = clock()
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"), console=console
        )
        self._task = self._progress.add_task("", total=1, figures="")
        self._live: Live | None = None
        self._printed = clock() if began is None else min(began, clock())
        self._closed = threading.Event()
        if console.is_terminal:
            self._live = Live(console=console, get_renderable=self.render, refresh_per_second=4)
            self._live.start()
        else:
            threading.Thread(target=self._print_on, daemon=True, name="escalade-train-view").start()

    def _print_on(self) -> None:
        """Where nothing is drawn, say how far it is, whatever takes so long."""
        while not self._closed.wait(1.0):
            self.break_silence()

    def break_silence(self) -> None:
        """Print where the run is, if nothing was printed for SILENT_SECONDS."""
        if self._clock() - self._printed >= SILENT_SECONDS:
            self._print(self._standing())

    def _print(self, line: str) -> None:
        self._printed = self._clock()
        self.console.print(line, highlight=False, soft_wrap=True)

    def _standing(self) -> str:
        """Where the run is, in a line."""
        task = self._progress.tasks[0]
        parts = [f"iteration {self._now['iteration']}" if self._now else "starting", clock_time(self.seconds)]
        if task.description:
            share = f" {task.completed / task.total:.0%}" if task.total else ""
            parts.append(
                f"{task.description}{share}" + (f", {task.fields['figures']}" if task.fields["figures"] else "")
            )
        return ", ".join(parts) + self._left()

    def close(self) -> None:
        self._closed.set()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def hear(self, event: dict[str, Any]) -> None:
        """Take in one event; kinds it does not know are passed over."""
        known = getattr(self, f"_{event.get('event')}", None)
        if callable(known):
            known(event)

    @property
    def seconds(self) -> float:
        """Of work, that of earlier sessions included."""
        return self._earlier + self._clock() - self._began

    def _problem(self, event: dict[str, Any]) -> None:
        self.console.print(f"[yellow]{escape(event['text'])}[/]", highlight=False, soft_wrap=True)

    def _note(self, event: dict[str, Any]) -> None:
        self.console.print(event["text"], highlight=False, soft_wrap=True, markup=False)

    def _plan(self, event: dict[str, Any]) -> None:
        self.iterations = event["iterations"]
        self._now = {"iteration": event["iteration"], "games": 0, "rows": 0}
        self._pieces = {}
        self._collecting = self._clock()
        self._tasks = event["tasks"]
        self._show("collecting", 0, self._tasks, "")

    def _collect(self, event: dict[str, Any]) -> None:
        self._pieces[event["shard"]] = (event["done"], event["of"], event["rows"])
        self._show_collecting()

    def _collected(self, event: dict[str, Any]) -> None:
        done = event["games"]
        self._pieces[event["shard"]] = (done, done, event["rows"])
        self._now["rows"] = self._now.get("rows", 0) + event["rows"]
        if event["source"] == "self_play":
            self._now["games"] = self._now.get("games", 0) + done
        self._show_collecting()

    def _show_collecting(self) -> None:
        done = sum(done / max(of, 1) for done, of, _ in self._pieces.values())
        rows = sum(rows for _, _, rows in self._pieces.values())
        pace = rows / max(self._clock() - self._collecting, 1e-3)
        self._show("collecting", done, self._tasks, f"{rows} positions, {pace:.0f}/s")

    def _fit(self, event: dict[str, Any]) -> None:
        done, of = event["pass"] - 1 + event["step"] / max(event["steps"], 1), event["passes"]
        self._show("fitting", done, of, f"pass {event['pass']} of {of}, step {event['step']} of {event['steps']}")

    def _pass(self, event: dict[str, Any]) -> None:
        self._now |= {name: event[name] for name in ("policy_loss", "value_loss", "validation_policy_loss")}

    def _evaluate(self, event: dict[str, Any]) -> None:
        self._show("evaluating", event["done"], event["of"], event["stage"])

    def _evaluation(self, event: dict[str, Any]) -> None:
        self._now |= {name: value for name, value in event.items() if name != "event"}
        self._lines.append({"seconds": self.seconds, **self._now})

    def _promotion(self, event: dict[str, Any]) -> None:
        self._lines[-1] |= {"promoted": event["promoted"]}
        if self._live is None:
            self._print(plain_line(self._lines[-1]))

    def _certify(self, event: dict[str, Any]) -> None:
        from escalade.neural.certificate import promise_name

        if event.get("last"):
            names = [promise_name(one["alpha"], one["covers"]) for one in event.get("certificates", ())]
            line = f"certified: alpha {', '.join(names)}" if names else f"no certificate: {event.get('reason', '')}"
            self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _ended(self, event: dict[str, Any]) -> None:
        if event["reason"] == "patience":
            told = (
                f"no smaller loss on held-out rows in the last {event['patience']} iterations (the recipe's patience): "
                f"training ends, iteration {event['champion']} is the champion; a larger budget would go on"
            )
            self.console.print(told, highlight=False, soft_wrap=True)

    def _show(self, what: str, done: float, of: float, figures: str) -> None:
        self._progress.update(self._task, description=what, completed=done, total=of, figures=figures)

    def render(self) -> RenderableType:
        """All of it, as it stands."""
        head = Text.assemble((self.name, "bold"), f"  {clock_time(self.seconds)}", self._left())
        parts: list[RenderableType] = [head]
        if self._lines:
            parts.append(history_table(self._lines[-SHOWN:]))
        if self._now:
            parts.append(Text(f"iteration {self._now.get('iteration')}"))
            parts.append(self._progress)
        return Group(*parts)

    def _left(self) -> str:
        """Time left: what the budget says, or as long as the iterations took so far."""
        if self.minutes is not None:
            return f", about {clock_time(max(0.0, self.minutes * 60 - self.seconds))} left"
        if self.iterations is None or not self._lines:
            return ""
        done = len(self._lines)
        return f", about {clock_time(self.seconds / done * max(0, self.iterations - done))} left"


def history_table(lines: list[dict[str, Any]]) -> Table:
    """A row an iteration."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    sizes = _sizes(lines)
    headers = ["iteration", "time", "games", "positions", "policy loss", "value loss"]
    headers += ["optimal alone" if size == 0 else f"with {size}" for size in sizes]
    judged = _judged_by(lines)
    headers += JUDGED_BY[judged]
    for header in (*headers, "champion"):
        table.add_column(header, justify="right")
    for line in lines:
        table.add_row(
            str(line.get("iteration", "")),
            clock_time(line["seconds"]) if "seconds" in line else "",
            str(line.get("games", "")),
            str(line.get("rows", "")),
            _number(line.get("policy_loss")),
            _number(line.get("value_loss")),
            *(_percent(line.get(f"optimal_{size}")) for size in sizes),
            *_judgement(judged, line),
            "yes" if line.get("promoted") else "no" if "promoted" in line else "",
        )
    return table


def plain_line(line: dict[str, Any]) -> str:
    """The same in words, for logs."""
    parts = [f"iteration {line['iteration']}", clock_time(line["seconds"])]
    if line.get("rows") or line.get("by") != "validation":  # labelled texts are from elsewhere
        parts.append(f"{line.get('rows', 0)} positions")
    if "policy_loss" in line:  # not so of what a run begins with
        losses = {kind: line.get(f"{kind}_loss") for kind in ("policy", "value")}
        parts += [f"{kind} loss {_number(loss)}" for kind, loss in losses.items() if loss is not None]
    for size in _sizes([line]):
        name = "optimal alone" if size == 0 else f"with {size} simulations"
        parts.append(f"{name} {_percent(line.get(f'optimal_{size}'))}")
    parts += strength_words(line)
    if "return_change" in line:
        between = f"{line['return_change_low']:+.3f} to {line['return_change_high']:+.3f}"
        parts.append(f"mean return {line['return_change']:+.3f} ({between}) against the champion")
    elif line.get("by") == "match":
        parts.append(f"{_points(line)} of the points against the champion")
    if line.get("by") == "validation":
        parts += held_out_words(line)
    return ", ".join([*parts, "champion" if line.get("promoted") else "not promoted"])


def _sizes(lines: list[dict[str, Any]]) -> list[int]:
    """Numbers of simulations that were judged."""
    names = {name.removeprefix("optimal_") for line in lines for name in line if name.startswith("optimal_")}
    return sorted(int(name) for name in names if name.isdigit())


JUDGED_BY = {
    "match": ["against the champion"],
    "validation": ["held-out loss", "change", "held-out accuracy", "rows"],
    "agreement": ["value error"],
}
"""Columns by what judges the iterations of a run."""


def _judged_by(lines: list[dict[str, Any]]) -> str:
    kinds = {line.get("by") for line in lines}
    return next((kind for kind in ("match", "validation") if kind in kinds), "agreement")


def _judgement(kind: str, line: dict[str, Any]) -> list[str]:
    """The cells of an iteration in the columns of `JUDGED_BY`."""
    if kind == "match":
        return [_points(line)]
    if kind == "agreement":
        return [_number(line.get("value_error"))]
    change = line.get("loss_change")
    loss, accuracy = _number(line.get("validation_loss")), _percent(line.get("validation_accuracy"))
    return [loss, "" if change is None else f"{change:+.3f}", accuracy, str(line.get("count", ""))]


def held_out_words(line: dict[str, Any]) -> list[str]:
    """What held-out rows said of an iteration, with 95 % intervals."""
    low, high = _number(line["validation_loss_low"]), _number(line["validation_loss_high"])
    words = [f"loss {_number(line['validation_loss'])} ({low} to {high}) on {line['count']} held-out rows"]
    if "validation_accuracy" in line:
        between = f"{line['validation_accuracy_low']:.1%} to {line['validation_accuracy_high']:.1%}"
        words.append(f"accuracy {line['validation_accuracy']:.1%} ({between})")
    if "loss_change" in line:
        between = f"{line['loss_change_low']:+.3f} to {line['loss_change_high']:+.3f}"
        words.append(f"{line['loss_change']:+.3f} ({between}) against iteration {line['against']}")
    return words


def strength_words(line: dict[str, Any]) -> list[str]:
    """What games or episodes said of an iteration, and, beside its searches, the same without a network."""
    strength = line.get("strength") or {}
    alone = {one["simulations"]: one for one in strength.get("anchors", ()) if "without a network" in one["name"]}
    words = []
    for one in strength.get("players", ()):
        told = f"{one['name']} {_strength(strength['unit'], one)}"
        beside = alone.get(one["simulations"])
        words.append(told if beside is None else f"{told}, without it {_strength(strength['unit'], beside)}")
    if strength.get("unit") == "optimal":
        words = [f"{one['name']} {_percent(one['value'])}" for one in alone.values()]
    return words


def _strength(unit: str, one: dict[str, Any]) -> str:
    if unit == "elo":
        return f"{one['value']:+.0f} Elo ({one['low']:+.0f} to {one['high']:+.0f})"
    return f"mean return {one['value']:+.2f} ({one['low']:+.2f} to {one['high']:+.2f})"


def _points(line: dict[str, Any]) -> str:
    if "return_change" in line:
        return f"{line['return_change']:+.3f}"
    return _percent(line["score"] + 0.5) if line.get("by") == "match" else ""


def clock_time(seconds: float) -> str:
    """Seconds as 1:02:03, or 2:03."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


@contextmanager
def open_view(
    name: str,
    console: Console,
    minutes: float | None,
    old: Run | None,
    values: dict[str, Any],
    *,
    worked: float,
    began: float,
) -> Iterator[TrainView]:
    """A view of a run, with what an old one has done before. worked, began: as in `TrainView`."""
    budget = minutes
    if budget is None:
        budget = (old.budget.get("minutes") if old is not None else None) or values.get("minutes")
    view = TrainView(name, console, budget, before=values, worked=worked, began=began)
    try:
        yield view
    finally:
        view.close()
