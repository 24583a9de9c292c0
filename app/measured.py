"""What commands that measure a bundle share: opening it, showing progress, writing reports, telling shares."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table

from escalade.app.settings import Settings
from escalade.domains.errors import SettingsError

if TYPE_CHECKING:
    from escalade.domains.base import Domain
    from escalade.neural.bundle import Bundle
    from escalade.training.contradictions import Contradictions
    from escalade.training.intervals import Share


def open_bundle(source: str | None, domain: Domain[Any], settings: Settings, option: str) -> Bundle:
    """The bundle named by a command's option, by default the one that came with the package. Raises SettingsError where
    there is none, else as `read_bundle`."""
    import torch

    from escalade.app.wiring import NO_BUNDLE, registered_folder
    from escalade.neural.bundle import read_bundle
    from escalade.neural.sources import BUILTIN, builtin_names, bundle_folder

    if source == NO_BUNDLE:
        raise SettingsError(f"{option}: without a network there is nothing to measure: name a bundle instead of 'none'")
    if source is None:
        if domain.name not in builtin_names():
            raise SettingsError(f"{option}: no bundle for domain '{domain.name}' came with this version, so give one")
        source = f"{BUILTIN}{domain.name}"
    torch.set_num_threads(1)  # see neural/networks.py
    return read_bundle(bundle_folder(registered_folder(source, settings)), domain)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each thing that is told of: what, how much of it is done, and of how much."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(escape(what), total=total)
            progress.update(tasks[what], completed=done)

        yield tell


def write_report(report: Mapping[str, Any], path: Path) -> None:
    """Write JSON, whole, into a folder that is made if there is none."""
    from escalade.neural.files import write_whole

    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def warn_of_contradictions(found: Contradictions, where: str) -> None:
    """On stderr, if any labels contradict each other. where: which states they are of."""
    if found.contradictory_states:
        Console(stderr=True).print(
            f"[yellow]warning:[/] {escape(f'{where}: {found}')}", highlight=False, soft_wrap=True
        )


def percent(share: Share) -> str:
    """As 95.0% (93.1–96.4); empty where there were none."""
    if share.share is None or share.low is None or share.high is None:
        return ""
    return f"{share.share:.1%} ({100 * share.low:.1f}–{100 * share.high:.1f})"


def table_of(*columns: str) -> Table:
    """Numbers to the right, words to the left."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, column in enumerate(columns):
        words = number == 0 or column == "phase"
        table.add_column(column, justify="left" if words else "right", no_wrap=number > 0)
    return table
