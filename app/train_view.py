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

    before: the graph's state, if the run was begun in an earlier session.
    """

    def __init__(
        self,
        name: str,
        console: Console,
        minutes: float | None,
        *,
        before: dict[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.console, self.minutes = name, console, minutes
        self.iterations: int | None = None
        state = before or {}
        self._clock, self._began, self._earlier = clock, clock(), state.get("seconds") or 0.0
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
        self._printed = clock()
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
    headers += ["against the champion"] if any(_by_match(line) for line in lines) else ["value error"]
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
            _points(line) if headers[-1] == "against the champion" else _number(line.get("value_error")),
            "yes" if line.get("promoted") else "no" if "promoted" in line else "",
        )
    return table


def plain_line(line: dict[str, Any]) -> str:
    """The same in words, for logs."""
    parts = [f"iteration {line['iteration']}", clock_time(line["seconds"]), f"{line.get('rows', 0)} positions"]
    for name in ("policy loss", "value loss"):  # not so of what a run begins with, or of games that show no policy
        if (loss := line.get(name.replace(" ", "_"))) is not None:
            parts.append(f"{name} {_number(loss)}")
    for size in _sizes([line]):
        name = "optimal alone" if size == 0 else f"with {size} simulations"
        parts.append(f"{name} {_percent(line.get(f'optimal_{size}'))}")
    if _by_match(line):
        parts.append(f"{_points(line)} of the points against the champion")
    return ", ".join([*parts, "champion" if line.get("promoted") else "not promoted"])


def _sizes(lines: list[dict[str, Any]]) -> list[int]:
    """Numbers of simulations that were judged."""
    names = {name.removeprefix("optimal_") for line in lines for name in line if name.startswith("optimal_")}
    return sorted(int(name) for name in names if name.isdigit())


def _by_match(line: dict[str, Any]) -> bool:
    """Whether games judged an iteration."""
    return line.get("by") == "match"


def _points(line: dict[str, Any]) -> str:
    return _percent(line["score"] + 0.5) if _by_match(line) else ""


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
    name: str, console: Console, minutes: float | None, old: Run | None, values: dict[str, Any]
) -> Iterator[TrainView]:
    """A view of a run, with what an old one has done before."""
    budget = minutes
    if budget is None:
        budget = (old.budget.get("minutes") if old is not None else None) or values.get("minutes")
    view = TrainView(name, console, budget, before=values)
    try:
        yield view
    finally:
        view.close()
