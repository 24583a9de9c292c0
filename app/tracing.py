"""Which decisions are traced, where LangSmith's own switch (`LANGSMITH_TRACING`) is on; and that what was traced is
sent before the process ends."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

FLUSH_S = 5.0


@contextmanager
def sampled(share: float) -> Iterator[None]:
    """One decision, traced with this chance; else nothing of it is, and tracing costs nothing. LangSmith's own sampling
    rate costs as much at 0 as at 1, since it looks at runs only once they are made."""
    if share >= 1.0 or random.random() < share:  # noqa: S311 -- no secret
        yield
        return
    from langsmith.run_helpers import tracing_context

    with tracing_context(enabled=False):
        yield


def flush() -> None:
    """Send what is not sent yet; an endpoint that does not answer holds this up for `FLUSH_S` at most."""
    trees = sys.modules.get("langsmith.run_trees")  # without it nothing was traced
    client = getattr(trees, "_CLIENT", None)
    if client is not None:
        client.flush(timeout=FLUSH_S)
