"""Repeated discrete decisions on a ladder: neural policy, neural value, LLM, tree search, a person."""

__version__ = "0.1.0"
