"""How `escalade serve` ends."""

from __future__ import annotations

import faulthandler
import socket
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI

from escalade.nodes.daemon import in_daemon_thread
from escalade.training.background import flush_all

ANSWERING = 0.5
"""Share of the time for ending that accepted requests have; the app's own is `escalade.app.server.CLOSING`."""
MARGIN = 0.2
"""Share that is left when what waits is written no more."""


class DecisionServer(uvicorn.Server):
    """Uvicorn, which ends within `limit_s` seconds of SIGTERM or Ctrl-C, whatever its clients do.

    What was decided is written first, while requests that were accepted are still being answered; those not done in
    time are cut. Then the app closes: it waits for what was cut to end, and writes the rest. A process that hangs all
    the same is ended, and shows where.
    """

    def __init__(self, app: FastAPI, limit_s: float) -> None:
        super().__init__(
            uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=max(1, int(ANSWERING * limit_s)))
        )
        self.limit_s = limit_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            faulthandler.dump_traceback_later(self.limit_s, exit=True, file=2)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        in_daemon_thread(partial(flush_all, (1 - MARGIN) * self.limit_s, records_only=True, insist=True))
        await super().shutdown(sockets)
