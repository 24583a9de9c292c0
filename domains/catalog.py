"""Domains by name: installed ones (entry point group `escalade.domains`), or `module:Class` of a user's own."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from escalade.domains.base import Domain
from escalade.domains.errors import CatalogError

GROUP = "escalade.domains"


def domain_names() -> list[str]:
    """Names of all installed domains, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load_domain(name: str, options: Mapping[str, Any] | None = None) -> Domain[Any]:
    """The domain of an installed name or of `module:Class`, built with `options` as keyword arguments.

    Raises CatalogError for an unknown name, a class that is not a domain, or options it does not take.
    """
    factory = domain_class(name)
    options = dict(options or {})
    try:
        inspect.signature(factory).bind(**options)
    except TypeError as error:
        given = f"with options {', '.join(options)}" if options else "without options"
        raise CatalogError(f"domain '{name}' cannot be built {given}: {error}") from None
    domain = factory(**options)
    missing = [field for field in ("name", "num_actions", "observation_shape") if not hasattr(domain, field)]
    if not isinstance(domain, Domain) or missing:
        what = f"lacks {', '.join(missing)}" if missing else "does not inherit from escalade.Domain"
        raise CatalogError(f"'{name}' is not a domain: it {what}")
    return domain


def domain_class(name: str) -> Any:
    """The class behind a name, not yet built."""
    module_name, colon, attribute = name.partition(":")
    try:
        if colon:
            return getattr(importlib.import_module(module_name), attribute)
        (point,) = {point.value: point for point in entry_points(group=GROUP, name=name)}.values()
        return point.load()
    except ValueError:
        raise CatalogError(
            f"no domain named '{name}': choose one of {', '.join(domain_names())}, or name your own as module:Class"
        ) from None
    except ModuleNotFoundError as error:
        raise CatalogError(f"domain '{name}' cannot be imported: {error}") from None
    except AttributeError:
        raise CatalogError(f"domain '{name}': module '{module_name}' has no '{attribute}'") from None
