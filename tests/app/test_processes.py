"""Several server processes: each reports the sums of all, and they may share a port."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import httpx
from served import served

BODY = {"state": "51", "policy_threshold": 0}
COUNTED = 'decisions_total{best_effort="false",domain="tic_tac_toe",source="policy"}'


def counted(url: str, line: str = COUNTED) -> float | None:
    with httpx.Client(timeout=60) as client:
        found = re.search(rf"(?m)^{re.escape(line)} (\S+)$", client.get(f"{url}/metrics").text)
    return None if found is None else float(found[1])


def test_each_process_reports_the_sums_of_all(tmp_path: Path) -> None:
    folder = str(tmp_path)
    with served(PROMETHEUS_MULTIPROC_DIR=folder) as one, served(PROMETHEUS_MULTIPROC_DIR=folder) as other:
        for server, count in ((one, 3), (other, 2)):
            for _ in range(count):
                assert httpx.post(f"{server.url}/decide", json=BODY, timeout=60).status_code == 200
            refused = httpx.post(f"{server.url}/decide", json={"state": "5x"}, timeout=60)
            assert refused.status_code == 422
        for server in (one, other):
            assert counted(server.url) == 5
            assert counted(server.url, 'requests_refused_total{reason="state"}') == 2
            assert counted(server.url, "requests_under_way") == 0
        one.process.send_signal(signal.SIGTERM)
        one.process.wait(60)
        assert counted(other.url) == 5  # what was counted remains
        left = [path.name for path in tmp_path.iterdir() if path.name.startswith("gauge_live")]
        assert left  # what was true of the process that ended does not
        assert not [name for name in left if name.endswith(f"_{one.process.pid}.db")]


def test_processes_may_share_a_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    given = ("--reuse-port", "--port", port)
    kept = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    with served(*given, **kept) as one, served(*given, **kept) as other:
        assert one.url == other.url
        for _ in range(20):  # a new connection each, to whichever process the kernel chooses
            assert httpx.post(f"{one.url}/decide", json=BODY, timeout=60).status_code == 200
        assert counted(one.url) == 20
        one.process.send_signal(signal.SIGTERM)
        one.process.wait(60)
        for _ in range(5):
            assert httpx.post(f"{other.url}/decide", json=BODY, timeout=60).status_code == 200
        assert counted(other.url) == 25
