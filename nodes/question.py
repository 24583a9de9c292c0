"""A question on its way: what is asked, and what it has taken so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from langchain_core.messages import BaseMessage

from escalade.nodes.structured import Form, Way
from escalade.nodes.usage import Usage


@dataclass
class Question:
    """One question to a language model, from its first call to its last."""

    form: Form
    """Of the answer."""
    messages: list[BaseMessage]
    """What is told."""
    sampled: bool = False
    """Whether it is one of several, whose answers may differ."""
    metadata: Mapping[str, Any] | None = None
    """Of its runs, where they are traced."""
    usages: list[Usage | None] = field(default_factory=list)
    """Of each call, None without a record."""
    costs: list[float | None] = field(default_factory=list)
    """USD of each call, None where not known."""
    attempts: int = 0
    """Calls so far."""
    tried: set[Way] = field(default_factory=set)
    """Ways in which it was asked in vain."""
    learnt: list[str] = field(default_factory=list)
    """What refusals of it said is to be left out."""

    @property
    def cost_usd(self) -> float | None:
        """Of all calls so far."""
        return None if None in self.costs else math.fsum(filter(None, self.costs))

    @cached_property
    def listed(self) -> frozenset[str]:
        """Lines of the messages that list a name, with its description if it has one."""
        lines = (line for one in self.messages for line in one.text.splitlines())
        return frozenset(line[2:] for line in lines if line.startswith("- "))
