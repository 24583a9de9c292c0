"""`escalade collect`: a collector for a training run on another machine, by a folder that both see."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from escalade.domains.errors import SettingsError


def collect(
    run: Annotated[
        Path, typer.Argument(metavar="RUN_FOLDER", help="Folder of a run started with `escalade train --queue`.")
    ],
    idle_seconds: Annotated[
        float | None, typer.Option(min=0, help="Exit after this many seconds without a task.", show_default="never")
    ] = None,
) -> None:
    """Collect experience for a training run that waits for collectors (`escalade train --queue`)."""
    from escalade.training.task_queue import serve_queue

    if not (run / "queue").is_dir():
        raise SettingsError(f"RUN_FOLDER: '{run}' has no queue: first begin its run with --queue, on storage both see")
    console = Console(stderr=True, soft_wrap=True)

    def tell(name: str, result: dict[str, Any]) -> None:
        said = result.get("error") or f"{result.get('rows', 0)} rows in {result.get('seconds', 0.0):.1f} s"
        console.print(f"{escape(name)}: {escape(str(said))}", highlight=False)

    try:
        done = serve_queue(run / "queue", idle_seconds=idle_seconds, on_done=tell)
    except KeyboardInterrupt:
        console.print("stopped; what was being done goes to another collector")
        raise typer.Exit(130) from None
    console.print(f"{done} tasks done; none for {idle_seconds:g} s", highlight=False)
