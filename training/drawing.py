"""What all drawings share. Needs matplotlib, of the extra `train`."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path
from typing import Any

from escalade.domains.errors import SettingsError
from escalade.neural.files import write_whole
from escalade.training.intervals import Share

SIZE = (7.0, 4.5)
"""Inches."""
DPI = 150
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9")
"""Told apart by the colour-blind too (M. Okabe, K. Ito, 2008)."""


def new_figure(size: tuple[float, float] = SIZE) -> Any:
    """An empty figure of so many inches. Raises SettingsError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise SettingsError("plots need matplotlib: pip install 'escalade[train]'") from None
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")  # no pyplot: it keeps figures, and wants a screen
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: Path) -> Path:
    """Write it as a PNG, whole or not at all; the same bytes for the same drawing."""
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: file.write(image.getvalue()))
    return path


def set_title(axes: Any, title: str, source: str, size: float = 10) -> None:
    """A title, and below it what was measured on, however long, in lines that fit the figure. size: of the font, in
    points."""
    width = axes.get_subplotspec().get_position(axes.figure).width * axes.figure.get_figwidth() * 72
    lines = textwrap.wrap(source, int(width / (0.5 * size)))  # a letter is about half as wide as high
    axes.set_title("\n".join([title, *lines]), fontsize=size)


def marks(axes: Any, places: list[Any], shares: list[Share], label: str, colour: str, **style: Any) -> None:
    """Shares with their intervals, which hold them but for rounding."""
    known = [(place, s.share, s.low, s.high) for place, s in zip(places, shares, strict=True) if s.count]
    points = [float(share or 0) for _, share, _, _ in known]
    reach = (
        [max(share - float(low or 0), 0) for share, (_, _, low, _) in zip(points, known, strict=True)],
        [max(float(high or 0) - share, 0) for share, (_, _, _, high) in zip(points, known, strict=True)],
    )
    style = {"marker": "o", "capsize": 3, **style}
    axes.errorbar([place for place, *_ in known], points, yerr=reach, label=label, color=colour, **style)
