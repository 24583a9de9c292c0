"""The options by which commands say which states they measure on, and who is to say what is right there."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from escalade.app.settings import Settings
from escalade.domains.base import Domain
from escalade.domains.errors import SettingsError

if TYPE_CHECKING:
    from escalade.neural.bundle import Bundle
    from escalade.training.reference import Labelled
    from escalade.training.untaught import LeftOut

ReferenceOption = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="WHO",
        help="Ground truth: exact (a solver), labels (of --states), search:N, llm or person (of --experience).",
        show_default="exact, if there is a solver",
    ),
]
StatesOption = Annotated[
    Path | None,
    typer.Option(
        "--states",
        metavar="FILE",
        help="Table of states (CSV, JSON Lines …). Columns for exact: moves, score_1 …; for labels: state, action.",
    ),
]
CountOption = Annotated[
    int, typer.Option("--count", min=1, help="States to sample from random games if no file is given.")
]
StoreOfDecisionsOption = Annotated[
    Path | None,
    typer.Option(
        "--experience",
        metavar="FOLDER",
        help="Experience store with recorded decisions: audits, or, before a network decided, what the llm or person "
        "did.",
        show_default="ESCALADE_EXPERIENCE/DOMAIN",
    ),
]
BehindOption = Annotated[
    int, typer.Option("--simulations", min=1, help="MCTS simulations of the search rung behind the networks.")
]


def mention(left: LeftOut) -> None:
    """Report the states that are left out, or that this could not be checked, on standard error."""
    if left.count != 0 or not left.complete:
        typer.echo(f"{'warning: ' if left.count is None else ''}{left}", err=True)


@dataclass(frozen=True)
class Wanted:
    """Which states are asked for, and who is to say what is right in them."""

    reference: str | None
    path: Path | None
    count: int
    experience: Path | None
    seed: int
    folder: Path
    least: int = 0
    """Audits that are needed; with fewer, what was decided before a network decided is taken instead."""

    def labelled(
        self, domain: Domain[Any], bundle: Bundle, settings: Settings, on_progress: Callable[[int, int], None]
    ) -> Labelled:
        """Those states, labelled. Raises SettingsError for options that do not fit together."""
        from escalade.search.solvers import exact_solver
        from escalade.training.exact_labels import exact_labels
        from escalade.training.production import recorded_labels
        from escalade.training.reference import (
            RECORDED,
            SEARCH,
            file_labels,
            search_labels,
        )

        name = self.reference or ("exact" if exact_solver(domain) is not None else None)
        if name is None:
            raise SettingsError(
                f"--reference: domain '{domain.name}' has no exact solver, so say what is right: labels, "
                "search:N, llm or person"
            )
        size = re.fullmatch(SEARCH, name)
        if self.experience is not None and self.path is None and (name in ("exact", "labels") or size):
            return recorded_labels(domain, self.experience, name, least=self.least, seed=self.seed)
        if name == "exact":
            if self.path is None and exact_solver(domain) is None:
                raise SettingsError(
                    f"--reference exact: domain '{domain.name}' has no exact solver: give positions with exact "
                    "scores by --states, or another reference"
                )
            return exact_labels(
                domain,
                path=self.path,
                count=self.count,
                seed=self.seed,
                bundle=bundle,
                folder=self.folder,
                on_progress=on_progress,
            )
        if name == "labels":
            if self.path is None:
                raise SettingsError("--reference labels needs --states FILE, a table with the columns state and action")
            return file_labels(domain, self.path)
        if name in RECORDED:
            if self.path is not None:
                return file_labels(domain, self.path, name)
            kept = self.experience or (settings.experience / domain.name if settings.experience else None)
            if kept is None:
                raise SettingsError(f"--reference {name} needs --experience FOLDER, a store with their decisions")
            return recorded_labels(domain, kept, name, least=self.least, seed=self.seed)
        if size is None:
            raise SettingsError(f"--reference '{name}' must be exact, labels, search:N, llm or person")
        return search_labels(
            domain,
            bundle.network,
            int(size[1]),
            path=self.path,
            count=self.count,
            seed=self.seed,
            on_progress=on_progress,
        )
