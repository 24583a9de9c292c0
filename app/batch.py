"""Many states through one graph, concurrently, answered in input order; safe to stop and start again."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from escalade.app.tracing import sampled
from escalade.domains.errors import EscaladeError, SettingsError
from escalade.graph.decision import DecisionGraph, decided
from escalade.nodes.context import DecisionContext

CONCURRENCY = 16


async def decide_many(
    graph: DecisionGraph,
    states: Sequence[str],
    context: DecisionContext,
    concurrency: int = CONCURRENCY,
    *,
    trace_share: float = 1.0,
) -> AsyncIterator[dict[str, Any]]:
    """A decision a state, in order, as dicts; `{"state": …, "error": …}` where there is none. At most `concurrency` are
    under way or wait to be handed out. trace_share: of them, see `escalade.app.tracing`."""

    async def decide(state: str) -> dict[str, Any]:
        try:
            with sampled(trace_share):
                return decided(await graph.ainvoke({"state": state}, context=context))
        except EscaladeError as error:
            return {"state": state, "error": str(error)}

    under_way: list[asyncio.Task[dict[str, Any]]] = []
    waiting = iter(states)
    try:
        for _, state in zip(range(concurrency), waiting, strict=False):
            under_way.append(asyncio.create_task(decide(state)))
        while under_way:
            yield await under_way.pop(0)
            for state in waiting:
                under_way.append(asyncio.create_task(decide(state)))
                break
    finally:
        for task in under_way:
            task.cancel()


def read_states(path: Path) -> list[str]:
    """One state a line, an empty line being the empty text. Raises SettingsError for a file that cannot be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SettingsError(f"--input '{path}' cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"--input '{path}' is not UTF-8 text: {error}") from None
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


class ResultFile:
    """A JSON-lines file that appears whole. Until then lines go to a hidden file beside it, named for the work it
    belongs to; after a crash the same work takes up where that file ends. Only one process may write it."""

    def __init__(self, path: Path, work: Any) -> None:
        """work: a JSON value that stands for the input and all options; other work gets another hidden file."""
        target = path.resolve()  # a link is followed, not replaced
        if target.is_dir() or (target.exists() and not target.is_file()):
            raise SettingsError(f"--output '{path}' is not a file that can be replaced")
        self.path = target
        fingerprint = hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:12]
        self.partial = target.with_name(f".{target.name}.{fingerprint}.partial")
        try:
            self._file = self.partial.open("a+b")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise SettingsError(f"--output '{path}': another process is at the same work") from None
        except OSError as error:
            raise SettingsError(f"--output '{path}' cannot be written: {error.strerror}") from None
        self.done = self._kept_lines()

    def _kept_lines(self) -> list[dict[str, Any]]:
        """Lines that an earlier run finished; what follows the first that is not whole is dropped."""
        self._file.seek(0)
        lines, size = [], 0
        for line in self._file:
            try:
                lines.append(json.loads(line))
            except ValueError:
                break
            if not line.endswith(b"\n"):
                lines.pop()
                break
            size += len(line)
        self._file.truncate(size)
        return lines

    def write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def finish(self) -> None:
        """Put the file in its place."""
        os.fsync(self._file.fileno())
        self.partial.replace(self.path)
        self.close()

    def close(self) -> None:
        """Leave what there is for another time."""
        self._file.close()


async def decide_file(
    graph: DecisionGraph,
    states: Sequence[str],
    context: DecisionContext,
    output: ResultFile,
    on_line: Callable[[dict[str, Any]], None],
    trace_share: float = 1.0,
) -> None:
    """Decide what `output` does not hold yet; `on_line` hears of every line, also of those an earlier run left."""
    for line in output.done:
        on_line(line)
    async for line in decide_many(graph, states[len(output.done) :], context, trace_share=trace_share):
        output.write(line)
        on_line(line)
    output.finish()
