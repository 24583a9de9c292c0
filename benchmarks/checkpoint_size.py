"""What one decision adds to a checkpoint database: a host graph with a `DecisionNode`, SQLite, one thread a decision.

Rows are what the host may choose: `durability` of its runs, and `checkpointer=False` for the decision graph, which then
can neither be resumed in the middle nor ask a person. Content is what the saver wrote; the file has whole pages of it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from rich.console import Console
from rich.table import Table
from typing_extensions import TypedDict

from escalade import DecisionContext, DecisionNode, build_decision_graph

CONTENT = """
    SELECT (SELECT sum(length(checkpoint) + length(metadata)) FROM checkpoints)
         + (SELECT coalesce(sum(length(value)), 0) FROM writes)
"""


class Host(TypedDict, total=False):
    state: str
    decision: dict[str, Any]


def host(domain: str, own: bool | None, saver: Any) -> Any:
    """A graph with one node that decides. own: the decision graph's `checkpointer`."""
    defaults = DecisionContext(simulations=50)
    bundle = f"builtin:{domain}"
    inner = build_decision_graph(domain, bundle=bundle, defaults=defaults, checkpointer=own)
    graph = StateGraph(Host)
    graph.add_node("decide", DecisionNode(inner))
    graph.add_edge(START, "decide")
    graph.add_edge("decide", END)
    return graph.compile(checkpointer=saver)


def measure(domain: str, own: bool | None, durability: Any, decisions: int) -> dict[str, Any]:
    """Checkpoints, bytes of content and bytes of file a decision."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoints.sqlite"
        with SqliteSaver.from_conn_string(str(path)) as saver:
            graph = host(domain, own, saver)
            saver.setup()
            size = path.stat().st_size
            for number in range(decisions):
                config: Any = {"configurable": {"thread_id": str(number)}}
                given: Any = {"state": "51" if domain == "tic_tac_toe" else "4455"}
                # Without thresholds of a certificate all rungs of this machine are climbed: policy, value, search.
                graph.invoke(given, config, context={"escalade": {"alpha": 1e-9}}, durability=durability)
            (checkpoints,) = saver.conn.execute("SELECT count(*) FROM checkpoints").fetchone()
            (content,) = saver.conn.execute(CONTENT).fetchone()
            saver.conn.commit()
            saver.conn.execute("VACUUM")
            saver.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return {
            "domain": domain,
            "durability": durability,
            "checkpointer": own,
            "checkpoints": checkpoints / decisions,
            "bytes": content / decisions,
            "file_bytes": (path.stat().st_size - size) / decisions,
        }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--domain", default="tic_tac_toe", choices=("tic_tac_toe", "connect_four"))
    arguments.add_argument("--decisions", type=int, default=100)
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    rows = [
        measure(options.domain, own, durability, options.decisions)
        for own in (None, False)
        for durability in ("sync", "async", "exit")
    ]
    if options.json:
        print(json.dumps(rows))
        return
    table = Table(title=f"{options.domain}, a decision of three rungs, mean of {options.decisions}")
    for column in ("decision graph's checkpointer", "durability", "checkpoints", "KB of content", "KB of file"):
        table.add_column(column)
    for row in rows:
        own = "None (the host's)" if row["checkpointer"] is None else str(row["checkpointer"])
        sizes = [f"{row[name] / 1024:.1f}" for name in ("bytes", "file_bytes")]
        table.add_row(own, row["durability"], f"{row['checkpoints']:.0f}", *sizes)
    Console().print(table)


if __name__ == "__main__":
    main()
