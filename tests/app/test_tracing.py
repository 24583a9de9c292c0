"""Traces, as a server on loopback that speaks LangSmith's wire receives them from processes of ours."""

from __future__ import annotations

import email.parser
import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import zstandard
from simulated import exact, served

from escalade.app.simulated_llm import SimulatedModel, Simulation
from escalade.domains.intents import Intents
from escalade.domains.tic_tac_toe import TicTacToe

KEY = "sk-canary-77a1"
LANGSMITH_KEY = "ls-canary-b3c2"


class Standin:
    """Runs as they were posted and patched, by id."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.bodies: list[bytes] = []
        self.encodings: set[str] = set()
        self.lock = threading.Lock()

    def take(self, kind: str, encoding: str, body: bytes) -> None:
        if encoding == "zstd":
            body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
        message = email.parser.BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
        with self.lock:
            self.bodies.append(body)
            self.encodings.add(encoding)
            for part in message.get_payload():
                name = part.get_param("name", header="content-disposition")  # type: ignore[union-attr]
                _, run, *field = str(name).split(".")
                content = json.loads(part.get_payload(decode=True))  # type: ignore[union-attr, arg-type]
                known = self.runs.setdefault(run, {})
                known.update({field[0]: content} if field else content)

    def trees(self) -> dict[str, list[dict[str, Any]]]:
        """The runs of each trace, in the order of their beginnings."""
        found: dict[str, list[dict[str, Any]]] = {}
        for run in sorted(self.runs.values(), key=lambda run: run["dotted_order"]):
            found.setdefault(run["trace_id"], []).append(run)
        return found


@pytest.fixture
def standin() -> Iterator[tuple[Standin, dict[str, str]]]:
    """The server, and the environment of a process that is traced there."""
    kept = Standin()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told = {
                "version": "0.10.0",
                "instance_flags": {"zstd_compression_enabled": True},
                "batch_ingest_config": {
                    "use_multipart_endpoint": True,
                    "scale_up_qsize_trigger": 1000,
                    "scale_up_nthreads_limit": 16,
                    "scale_down_nempty_trigger": 4,
                    "size_limit": 100,
                    "size_limit_bytes": 20_971_520,
                },
            }
            self.answer(told)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.take(self.headers["Content-Type"], self.headers.get("Content-Encoding", ""), body)
            self.answer({})

        def answer(self, told: dict[str, Any]) -> None:
            body = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LANGSMITH", "LANGCHAIN"))}
    environment |= {
        "LANGSMITH_TRACING": "true",
        "LANGSMITH_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "LANGSMITH_API_KEY": LANGSMITH_KEY,
        "OPENAI_API_KEY": KEY,
    }
    yield kept, environment
    server.shutdown()
    server.server_close()


def run(script: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LADDER = """
import asyncio
from escalade import DecisionContext
from escalade.app.settings import read_settings
from escalade.app.wiring import open_decider
decider = open_decider(read_settings(), "tic_tac_toe")
context = DecisionContext(policy_threshold=1.0, value_threshold=1.0, reason_threshold=1.0, simulations=30, **OPTIONS)
async def main():
    runs = [decider.graph.ainvoke({"state": state}, context=context) for state in STATES]
    return await asyncio.gather(*runs)
sources = [one["decision"]["source"] for one in asyncio.run(main())]
decider.close()
print(sources)
"""


def test_a_decision_is_one_tree_with_all_that_was_asked(standin: Any) -> None:
    kept, environment = standin
    priced = Simulation(latency_ms=1, input_usd_per_mtok=1.0)
    with served(SimulatedModel(TicTacToe(), exact, priced)) as url:
        environment |= {"ESCALADE_LLM_MODEL": "simulated", "OPENAI_BASE_URL": url}
        environment |= {"ESCALADE_LLM_INPUT_USD_PER_MTOK": "1", "ESCALADE_LLM_OUTPUT_USD_PER_MTOK": "4"}
        script = LADDER.replace("STATES", '["51"]').replace("**OPTIONS", 'reasoning="full"')
        assert run(script, environment).strip() == "['search']"
    assert "zstd" in kept.encodings
    (tree,) = kept.trees().values()
    runs = {one["name"]: one for one in tree}
    names = [one["name"] for one in tree]
    assert names[0] == "decide_tic_tac_toe"
    assert {"parse", "router", "policy", "value", "reason", "search", "conclude", "neural batch"} <= set(names)
    assert {"decompose", "consult", "refine", "verify", "agree", "ChatOpenAI", "policy_prior"} <= set(names)
    assert all(one["end_time"] and not one.get("error") for one in tree)
    looks = [one for one in tree if one["name"] == "search" and one["parent_run_id"] == runs["verify"]["id"]]
    assert len(looks) == 2
    ids = {one["id"] for one in tree}
    assert all(one["parent_run_id"] in ids for one in tree[1:])
    parents = {one["id"]: one["name"] for one in tree}
    assert {parents[one["parent_run_id"]] for one in tree if one["name"] == "ChatOpenAI"} == {"decompose", "refine"}
    assert [parents[one["parent_run_id"]] for one in tree if one["name"] == "neural batch"][:2] == ["policy", "value"]

    def metadata(name: str) -> dict[str, Any]:
        return dict(runs[name]["extra"]["metadata"])

    assert 0 < metadata("policy")["confidence"] <= 1
    assert metadata("policy")["bundle"]
    assert metadata("neural batch")["batch"] >= 1
    assert metadata("search")["bundle"] == metadata("policy")["bundle"]
    judged = [one["extra"]["metadata"] for one in tree if one["name"] == "router"]
    assert judged[1]["rung"] == "policy"
    assert (judged[1]["threshold"], judged[1]["reason"], judged[1]["outcome"]) == (1.0, "under_threshold", "escalated")
    assert metadata("agree")["cost_usd"] > 0
    assert metadata("agree")["tokens"]["input_tokens"] > 100
    assert metadata("conclude")["source"] == "search"


def test_inputs_are_the_state_s_text_and_no_secret_is_told(standin: Any) -> None:
    kept, environment = standin
    with served(SimulatedModel(TicTacToe(), exact, Simulation(latency_ms=1, error_rate=0.5))) as url:
        environment |= {"ESCALADE_LLM_MODEL": "simulated", "OPENAI_BASE_URL": url}
        run(LADDER.replace("STATES", '["51", "5192", "1"]').replace("**OPTIONS", "samples=2"), environment)
    nodes = ("parse", "router", "policy", "value", "reason", "search", "conclude", "decompose", "agree")
    seen = 0
    for tree in kept.trees().values():
        text = tree[0]["inputs"]["state"]
        for one in tree:
            if one["name"] in nodes and set(one["inputs"]) == {"state"}:
                assert one["inputs"] == {"state": text}
                seen += 1
            assert len(json.dumps([one["inputs"], one.get("outputs")])) < 20_000
    assert seen >= 3 * 9
    told = b"".join(kept.bodies)
    assert KEY.encode() not in told
    assert LANGSMITH_KEY.encode() not in told


class Quoting(BaseHTTPRequestHandler):
    """Refuses every call in words that quote its key."""

    status = 500

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        told = {"error": {"message": f"not with {self.headers['authorization']}", "type": "invalid"}}
        body = json.dumps(told).encode()
        self.send_response(self.status)
        self.send_header("content-type", "application/json")
        self.send_header("x-quoted", self.headers["authorization"])
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.mark.parametrize("status", [200, 400, *(pytest.param(one, marks=pytest.mark.slow) for one in (401, 429, 500))])
def test_what_a_provider_quotes_is_not_told(standin: Any, status: int) -> None:
    kept, environment = standin
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Quoter", (Quoting,), {"status": status}))
    threading.Thread(target=server.serve_forever).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/v1"
        environment |= {"ESCALADE_LLM_MODEL": "quoting", "OPENAI_BASE_URL": address}
        run(LADDER.replace("STATES", '["51"]').replace("**OPTIONS", ""), environment)
    finally:
        server.shutdown()
        server.server_close()
    (tree,) = kept.trees().values()
    assert any(one["name"] == "ChatOpenAI" and one.get("error") for one in tree)
    assert KEY.encode() not in b"".join(kept.bodies)


def test_requests_at_the_same_time_keep_to_their_own_traces(standin: Any) -> None:
    kept, environment = standin
    states = [str(number) for number in range(1, 10)] + ["51", "519", "5192"]
    # A pass waits until all are there, so that which decisions share one does not hang on how busy the machine is.
    patient = f"network = decider.resources.network; network.max_batch = {len(states)}; network.max_wait_ms = 1000.0"
    script = LADDER.replace("STATES", json.dumps(states)).replace("**OPTIONS", "")
    run(script.replace("context =", f"{patient}\ncontext ="), environment)
    trees = kept.trees()
    assert sorted(tree[0]["inputs"]["state"] for tree in trees.values()) == sorted(states)
    for tree in trees.values():
        text, ids = tree[0]["inputs"]["state"], {one["id"] for one in tree}
        assert all(one["parent_run_id"] in ids for one in tree[1:])
        assert [one["name"] for one in tree].count("policy") == 1
        assert [one["name"] for one in tree].count("neural batch") == 2
        assert {one["inputs"]["state"] for one in tree if one["name"] == "policy"} == {text}
    batches = [one["extra"]["metadata"]["batch"] for one in kept.runs.values() if one["name"] == "neural batch"]
    assert len(set(batches)) < len(batches)  # some shared one, which is told by its number alone


BATCHED = """
import asyncio
from escalade import DecisionContext
from escalade.app.settings import read_settings
from escalade.app.tracing import sampled
from escalade.app.wiring import open_decider
decider = open_decider(read_settings(), "intents", options={"labels": ["refund", "balance"]})
async def one(text):
    with sampled(SHARE(text)):
        return await decider.graph.ainvoke({"state": text}, context=DecisionContext(mode="llm_only"))
async def main():
    return await asyncio.gather(*(one(text) for text in ["alpha", "bravo", "charlie"]))
asyncio.run(main())
decider.close()
"""


@pytest.mark.parametrize(("share", "traces"), [("lambda text: text != 'bravo'", 3), ("lambda text: 0.0", 0)])
def test_a_prompt_that_many_share_is_a_trace_of_its_own(standin: Any, share: str, traces: int) -> None:
    kept, environment = standin
    domain = Intents(labels=["refund", "balance"])
    with served(SimulatedModel(domain, lambda _: {0}, Simulation(latency_ms=1))) as url:
        environment |= {"ESCALADE_LLM_MODEL": "simulated", "OPENAI_BASE_URL": url, "ESCALADE_LLM_BATCH_MS": "200"}
        run(BATCHED.replace("SHARE", f"({share})"), environment)
    trees = list(kept.trees().values())
    assert len(trees) == traces
    if traces:
        call = next(tree for tree in trees if tree[0]["name"] == "ChatOpenAI")
        decision = next(tree for tree in trees if tree[0]["name"] == "decide_intents")
        batch = next(one["extra"]["metadata"]["batch"] for one in decision if one["name"] == "agree")
        assert call[0]["extra"]["metadata"]["batch"] == batch
        assert batch["size"] == 2
        assert "bravo" not in b"".join(kept.bodies).decode()  # was not to be traced
        assert [one["name"] for one in decision if one["name"] == "ChatOpenAI"] == []


def test_commands_are_traced_and_sent_before_they_end(standin: Any, tmp_path: Path) -> None:
    kept, environment = standin
    escalade = str(Path(sys.executable).with_name("escalade"))
    states = tmp_path / "states.txt"
    states.write_text("51\n519\n")
    commands: list[Callable[[], list[str]]] = [
        lambda: ["decide", "tic_tac_toe", "51"],
        lambda: ["decide", "tic_tac_toe", "--input", str(states), "--output", str(tmp_path / "decisions.jsonl")],
    ]
    for count, command in enumerate(commands, 1):
        subprocess.run([escalade, *command()], env=environment, check=True, capture_output=True, timeout=120)
        assert len(kept.trees()) == [1, 3][count - 1]
    environment["ESCALADE_TRACE_SHARE"] = "0"
    subprocess.run(
        [escalade, "decide", "tic_tac_toe", "51"], env=environment, check=True, capture_output=True, timeout=120
    )
    assert len(kept.trees()) == 3


def test_a_tracing_server_that_is_down_holds_up_no_decision(standin: Any) -> None:
    _, environment = standin
    environment["LANGSMITH_ENDPOINT"] = "http://127.0.0.1:9"
    escalade = str(Path(sys.executable).with_name("escalade"))
    done = subprocess.run(
        [escalade, "decide", "tic_tac_toe", "51", "--json"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert json.loads(done.stdout)["action_name"]
    assert LANGSMITH_KEY not in done.stderr


def test_the_same_switch_makes_opentelemetry_spans(standin: Any) -> None:
    wire = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    received: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            zipped = self.headers.get("Content-Encoding") == "gzip"
            if self.path == "/v1/traces":
                received.append(gzip.decompress(body) if zipped else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    kept, environment = standin
    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever).start()
    environment |= {"LANGSMITH_OTEL_ENABLED": "true", "LANGSMITH_OTEL_ONLY": "true"}
    environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{collector.server_port}"
    try:
        with served(SimulatedModel(TicTacToe(), exact, Simulation(latency_ms=1))) as url:
            environment |= {"ESCALADE_LLM_MODEL": "simulated", "OPENAI_BASE_URL": url}
            run(LADDER.replace("STATES", '["51"]').replace("**OPTIONS", ""), environment)
    finally:
        collector.shutdown()
        collector.server_close()
    assert not kept.runs  # to the collector alone
    spans = [
        span
        for body in received
        for resource in wire.ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert len({span.trace_id for span in spans}) == 1
    (root,) = (span for span in spans if not span.parent_span_id)
    assert root.name == "decide_tic_tac_toe"
    assert {span.parent_span_id for span in spans if span is not root} <= {span.span_id for span in spans}
    assert {"policy", "neural batch", "reason", "ChatOpenAI", "search", "conclude"} <= {span.name for span in spans}
    policy = next(span for span in spans if span.name == "policy")
    told = {one.key: one.value.string_value or one.value.double_value for one in policy.attributes}
    assert 0 < float(told["langsmith.metadata.confidence"]) <= 1
    assert KEY.encode() not in b"".join(received)
