"""A simulated language model for tests, served on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from escalade.app.listening import listening
from escalade.app.simulated_llm import SimulatedModel, simulated_app
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.training.reference import acceptable_actions


def exact(text: str) -> set[int] | None:
    return acceptable_actions(TicTacToe(), "exact", text)


@contextmanager
def served(model: SimulatedModel) -> Iterator[str]:
    """The address of a server in a thread."""
    listener = listening("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(simulated_app(model), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        server.force_exit = server.should_exit = True
        thread.join(timeout=10)
