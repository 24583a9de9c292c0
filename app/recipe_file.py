"""Recipes in files: JSON of the fields that differ from a base, which is a recipe by name or another file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from escalade.domains.errors import SettingsError

SUFFIX = ".json"


def recipe_option(recipe: str) -> str | dict[str, Any]:
    """What `--recipe` says: the name of a recipe, or the fields of a file over those of the files that it builds on;
    `base` is then a name, or left out. Raises SettingsError naming the file and what is wrong with it."""
    return _of_file(Path(recipe), ()) if recipe.endswith(SUFFIX) else recipe


def _of_file(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """above: the files that build on this one."""
    from escalade.training.recipe import over_base

    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"--recipe: '{path}' cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise SettingsError(f"--recipe: '{path}' is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise SettingsError(f"--recipe: '{path}' is not a JSON object")
    base = document.get("base")
    if not isinstance(base, str) or not base.endswith(SUFFIX):
        return document
    known = (*above, path.resolve())
    below = path.parent / base  # which is `base` itself if that is absolute
    if below.resolve() in known:
        raise SettingsError(f"--recipe: '{path}' is its own base, by way of '{below}'")
    changes = {name: value for name, value in document.items() if name != "base"}
    return over_base(_of_file(below, known), changes)
