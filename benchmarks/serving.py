"""What a decision over HTTP costs: /decide on the policy network against an endpoint of the same server and models
that does nothing, one request after another on one keep-alive connection, in turns. Prints p50 and p99 and the ratio
of each.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import time
from urllib.parse import urlsplit

import numpy as np
from rich.console import Console
from rich.table import Table

from escalade.app.bodies import DecideRequest
from escalade.app.decision_server import DecisionServer
from escalade.app.listening import listening
from escalade.app.server import create_app
from escalade.app.settings import Settings
from escalade.domains.decision import Decision

BODY = json.dumps({"state": "51", "policy_threshold": 0})


def serve() -> None:
    """The server, as `escalade serve` has it, with one more route. Prints its address."""
    app = create_app(Settings(domains=("tic_tac_toe",)))

    @app.post("/nothing")
    async def nothing(body: DecideRequest) -> Decision:
        return Decision(
            decision_id="1", domain="tic_tac_toe", state="51", action=1, action_name="2", source="policy",
            certified=False, best_effort=False, cost_usd=0.0, latency_ms=0.0, rungs=[],
        )  # fmt: skip

    listener = listening("127.0.0.1", 0)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    DecisionServer(app, limit_s=10).run(sockets=[listener])


def measure(url: str, requests: int) -> dict[str, np.ndarray]:
    """Milliseconds of each request, by route, after a tenth as many that are not counted."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
    taken: dict[str, list[float]] = {"/nothing": [], "/decide": []}
    for _ in range(requests + requests // 10 + 1):
        for route, times in taken.items():
            began = time.perf_counter()
            connection.request("POST", route, BODY, {"content-type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            times.append((time.perf_counter() - began) * 1000)
            assert answer.status == 200, text
    return {route: np.array(times[-requests:]) for route, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    with subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = measure(server.stdout.readline().strip(), options.requests)
        finally:
            server.terminate()
    table = Table("ms", "p50", "p99")
    rows = {route: np.percentile(times, (50, 99)) for route, times in found.items()}
    for route, (p50, p99) in rows.items():
        table.add_row(route, f"{p50:.2f}", f"{p99:.2f}")
    ratios = rows["/decide"] / rows["/nothing"]
    table.add_row("ratio", f"{ratios[0]:.1f}", f"{ratios[1]:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
