"""The decision graph inside other people's graphs: as a node, as a tool, as a member of a multi-agent team; and what it
is made of as tools for other agents. docs/embedding.md is the guide."""

from escalade.graph.embed.agent import DecisionAgent, decision_agent
from escalade.graph.embed.node import DecisionNode
from escalade.graph.embed.tool import decision_tool, neural_tools

__all__ = ["DecisionAgent", "DecisionNode", "decision_agent", "decision_tool", "neural_tools"]
