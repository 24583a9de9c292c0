"""Tokens by a provider's usage record, and what they cost.

Providers count differently: some leave the tokens of thinking out of the answer's and have them in the total alone,
some give no count of the answer's. What is not known stays unknown; what makes no sense counts as not reported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Usage = dict[str, Any]
"""Tokens of one call or several: `input_tokens` and `output_tokens`, None where not known, and `cached_input_tokens`,
those of the input that the provider had in its cache and which most sell cheaper, if there were some."""


@dataclass(frozen=True)
class TokenPrices:
    """USD per million tokens; None: not known."""

    input_usd: float | None
    output_usd: float | None
    cached_usd: float | None = None
    """Of input tokens in the provider's cache; None: as all input tokens, which is then the most they can cost."""

    def cost(self, usage: Mapping[str, Any] | None) -> float | None:
        """USD; None where it cannot be known."""
        if self.input_usd is None or self.output_usd is None:
            return None
        usage = usage or {}
        read, written = usage.get("input_tokens"), usage.get("output_tokens")
        cached = usage.get("cached_input_tokens") or 0
        fresh = None if read is None else max(0, read - cached)
        cheap = self.input_usd if self.cached_usd is None else self.cached_usd
        parts = ((fresh, self.input_usd), (cached, cheap), (written, self.output_usd))
        # What is free costs nothing, however much of it there was.
        costs = [0.0 if price == 0 else None if count is None else count * price for count, price in parts]
        return None if None in costs else math.fsum(filter(None, costs)) / 1e6

    def is_upper_bound(self, usage: Mapping[str, Any] | None) -> bool:
        """Whether a cost counts cached tokens at the full price, for want of their own."""
        return self.cached_usd is None and bool(self.input_usd) and bool((usage or {}).get("cached_input_tokens"))


def usage_of(message: Any) -> Usage | None:
    """By the record that came with an answer, or with a failed call (`CallFailed`), None without one."""
    if isinstance(found := (getattr(message, "details", None) or {}).get("usage"), dict):
        return found
    metadata = getattr(message, "response_metadata", None) or {}
    found = usage_of_record(metadata.get("token_usage"))
    return found if found is not None else usage_of_record(getattr(message, "usage_metadata", None))


def usage_of_record(record: Any) -> Usage | None:
    """By a record in OpenAI's form, LangChain's or Anthropic's; None if there is none that makes sense."""
    if record is None or isinstance(record, str | int | float | list):
        return None
    given = record if isinstance(record, Mapping) else getattr(record, "model_dump", dict)()
    read, written, total = (
        _first(given, *names)
        for names in (
            ("prompt_tokens", "input_tokens"),
            ("completion_tokens", "output_tokens"),
            ("total_tokens",),
        )
    )
    if not any((read, written, total)) or any(_is_negative(given.get(name)) for name in given):
        return None  # an answer takes some
    thought = _inside(
        given,
        ("completion_tokens_details", "output_tokens_details", "output_token_details"),
        ("reasoning_tokens", "reasoning"),
    )
    if written is not None and thought is not None and thought > written:  # then it is not part of it
        written += thought
    if read is not None and total is not None and total - read > (written or 0):
        written = total - read
    if read is None and written is not None and total is not None and total >= written:
        read = total - written
    found: Usage = {"input_tokens": read, "output_tokens": written}
    cached = _inside(
        given, ("prompt_tokens_details", "input_tokens_details", "input_token_details"), ("cached_tokens", "cache_read")
    )
    cached = cached or _first(given, "prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens")
    if cached and read:
        found["cached_input_tokens"] = min(cached, read)
    return found


def added(parts: Sequence[Usage | None]) -> Usage | None:
    """The tokens of several calls; of those without a record nothing is known."""
    known = [one for one in parts if one is not None]
    if not known:
        return None
    total: Usage = {name: _sum(known, name) for name in ("input_tokens", "output_tokens")}
    if cached := _sum(known, "cached_input_tokens"):
        total["cached_input_tokens"] = cached
    return total


def total_usd(one: float | None, other: float | None) -> float | None:
    """A sum of costs, of which any may be unknown."""
    return None if one is None or other is None else one + other


def total_tokens(usage: Usage | None) -> int | None:
    """Input and output together; None where one is not known."""
    counts = [usage.get("input_tokens"), usage.get("output_tokens")] if usage else [None]
    return int(sum(filter(None, counts))) if all(map(_is_count, counts)) else None


def _sum(parts: Sequence[Mapping[str, Any]], name: str) -> int | float | None:
    counts = [one[name] for one in parts if one.get(name) is not None]
    return sum(counts) if counts else None


def _inside(given: Mapping[str, Any], groups: Sequence[str], names: Sequence[str]) -> int | None:
    for group in groups:
        if isinstance(inner := given.get(group), Mapping) and (found := _first(inner, *names)) is not None:
            return found
    return None


def _first(given: Mapping[str, Any], *names: str) -> int | None:
    """The first of these counts that is one."""
    return next((found for name in names if (found := _count(given.get(name))) is not None), None)


def _count(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 16 else None
    return int(value) if _is_count(value) else None


def _is_negative(value: Any) -> bool:
    return isinstance(value, int | float) and value < 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
