"""Domains by name: installed ones (entry point group `escalade.domains`), or `module:Class` of a user's own.

A name runs code: it may import any module. Take names from whoever starts the program, never from a request.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from escalade.domains.base import Domain
from escalade.domains.errors import CatalogError, EscaladeError

GROUP = "escalade.domains"


def domain_names() -> list[str]:
    """Names of all installed domains, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load_domain(name: str, options: Mapping[str, Any] | None = None) -> Domain[Any]:
    """The domain of an installed name or of `module:Class`, built with `options` as keyword arguments.

    Raises CatalogError for an unknown name, a class that is not a domain or fails to build, or options it does not
    take. The cause of a failure in somebody's own code is kept as `__cause__`.
    """
    factory = domain_class(name)
    if not isinstance(options, Mapping | None):
        raise CatalogError(f"domain '{name}': options are names with values, not {type(options).__name__}")
    options = dict(options or {})
    try:
        inspect.signature(factory).bind(**options)
    except (TypeError, ValueError) as error:
        given = f"with options {', '.join(map(str, options))}" if options else "without options"
        raise CatalogError(f"domain '{name}' cannot be built {given}: {error}") from None
    try:
        domain = factory(**options)
    except EscaladeError:
        raise
    except (Exception, SystemExit) as error:
        raise CatalogError(f"domain '{name}' cannot be built: {_told(error)}") from error
    missing = [field for field in ("name", "num_actions", "observation_shape") if not hasattr(domain, field)]
    if not isinstance(domain, Domain) or missing:
        what = f"lacks {', '.join(missing)}" if missing else "does not inherit from escalade.Domain"
        raise CatalogError(f"'{name}' is not a domain: it {what}")
    return domain


def domain_class(name: str) -> Any:
    """The class behind a name, not yet built. Raises CatalogError."""
    if not isinstance(name, str):
        raise CatalogError(f"a domain is named by a text, not {type(name).__name__}")
    module_name, colon, attribute = name.partition(":")
    if not colon:
        return _installed(name)
    if not all(part.isidentifier() for part in module_name.split(".")) or not attribute.isidentifier():
        raise CatalogError(f"'{name}' is not of the form module:Class, such as my_package.my_module:MyDomain")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise CatalogError(f"domain '{name}' cannot be imported: {_told(error)}") from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise CatalogError(f"domain '{name}': module '{module_name}' has no '{attribute}'") from None


def _installed(name: str) -> Any:
    # By value: an editable install beside its own source folder lists every entry point twice.
    points = {point.value: point for point in entry_points(group=GROUP, name=name)}
    if not points:
        raise CatalogError(
            f"no domain named '{name}': choose one of {', '.join(domain_names())}, or name your own as module:Class"
        )
    if len(points) > 1:
        raise CatalogError(f"more than one installed domain is named '{name}': choose one of {', '.join(points)}")
    (point,) = points.values()
    try:
        return point.load()
    except (Exception, SystemExit) as error:
        raise CatalogError(f"domain '{name}' ({point.value}) cannot be imported: {_told(error)}") from error


def _told(error: BaseException) -> str:
    """An error of somebody else's code in one line; a missing module speaks for itself."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ModuleNotFoundError) else f"{type(error).__name__}: {text}".removesuffix(": ")
