"""Where a bundle is: a folder, or `builtin:NAME` for one that came with the package."""

from __future__ import annotations

from pathlib import Path

from escalade.domains.errors import BundleError

BUILTIN = "builtin:"
REGISTERED = "models:/"
_CHAMPIONS = Path(__file__).resolve().parent / "champions"


def builtin_names() -> list[str]:
    """Names of the bundles that came with the package, sorted."""
    if not _CHAMPIONS.is_dir():
        return []
    return sorted(entry.name for entry in _CHAMPIONS.iterdir() if entry.is_dir() and entry.name.isidentifier())


def bundle_folder(source: str | Path) -> Path:
    """The folder that `source` names, for `read_bundle`. A `Path` is always a folder, whatever its name.

    Raises BundleError for a builtin that is not there, and for `models:/…`, which only the application can look up:
    it knows which registry is meant.
    """
    if isinstance(source, str) and source.startswith(BUILTIN):
        name = source.removeprefix(BUILTIN)
        if name not in builtin_names():
            there = ", ".join(builtin_names()) or "none"
            raise BundleError(f"there is no bundle '{source}': those that came with this version: {there}")
        return _CHAMPIONS / name
    if isinstance(source, str) and source.startswith(REGISTERED):
        raise BundleError(
            f"'{source}' is in a registry, which is not known here: give escalade.training.registry.Registry(URI)"
            f".folder('{source}')"
        )
    return Path(source)
