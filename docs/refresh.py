"""Writes into the docs what the program knows of itself: the graph's drawing and the table of settings. `make docs`."""

from __future__ import annotations

import re
from pathlib import Path

from escalade import build_decision_graph
from escalade.app.settings import Settings

ROOT = Path(__file__).resolve().parents[1]


def drawing() -> str:
    """The decision graph as a Mermaid block."""
    mermaid = build_decision_graph("tic_tac_toe").get_graph().draw_mermaid()
    # The header only sets the drawing's style, which readers of Markdown show as text.
    return f"```mermaid\n{re.sub(r'(?s)^---.*?---', '', mermaid).strip()}\n```"


def settings_table() -> str:
    """Every setting as a row: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        variable = field.validation_alias or f"ESCALADE_{name.upper()}"
        default = field.default
        if name == "defaults":
            shown = "`{}`"
        elif default is None:
            shown = ""
        else:
            shown = f"`{list(default) if isinstance(default, tuple) else default}`".replace("'", '"')
        rows.append(f"| `{variable}` | {shown} | {field.description} |")
    return "\n".join(rows)


def written(text: str, mark: str, content: str) -> str:
    """The text with what stands between `<!-- mark: … -->` and `<!-- end -->` replaced."""
    pattern = rf"(?s)(<!-- {mark}:[^>]*-->\n).*?(<!-- end -->)"
    return re.sub(pattern, lambda found: f"{found[1]}{content}\n{found[2]}", text)


def pages() -> dict[Path, str]:
    """Every page with what it should hold."""
    readme, settings = ROOT / "README.md", ROOT / "docs" / "settings.md"
    return {
        readme: written(readme.read_text(), "drawing", drawing()),
        settings: written(settings.read_text(), "settings", settings_table()),
    }


if __name__ == "__main__":
    for path, content in pages().items():
        path.write_text(content)
