"""What `langgraph.json` names: the decision graph of the first domain in the settings, which counts into the same
metrics as the HTTP app beside it, and the training graph."""

from __future__ import annotations

from escalade.app.metrics import METRICS
from escalade.app.settings import read_settings
from escalade.app.wiring import open_decider
from escalade.graph.training import TrainingResources, build_training_graph

_settings = read_settings()

decision_graph = open_decider(_settings, _settings.domains[0], sinks=[METRICS.record]).graph
training_graph = build_training_graph(TrainingResources(root=_settings.runs))
