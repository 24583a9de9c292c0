"""What `langgraph.json` names: the decision graph of the first domain in the settings, which counts into the same
metrics as the HTTP app beside it, the training graph, and who may use the server's own routes."""

from __future__ import annotations

from langgraph_sdk import Auth

from escalade.app.auth import CHALLENGE, REFUSED, caller
from escalade.app.metrics import METRICS
from escalade.app.settings import read_settings
from escalade.app.wiring import open_decider
from escalade.graph.training import TrainingResources, build_training_graph

_settings = read_settings()

decision_graph = open_decider(
    _settings,
    _settings.domains[0],
    sinks=[METRICS.record],
    failure_sinks=[METRICS.record_failure],
    limits=_settings.limits,
).graph
training_graph = build_training_graph(TrainingResources(root=_settings.runs))

auth = Auth()


@auth.authenticate
async def authenticate(headers: dict[bytes, bytes]) -> Auth.types.MinimalUserDict:
    """Raises 401 where the key is missing or not one of ours."""
    told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers.items()}
    identity = caller(told, _settings.api_keys)
    if identity is None:
        raise Auth.exceptions.HTTPException(status_code=401, detail=REFUSED, headers=CHALLENGE)
    return {"identity": identity, "is_authenticated": True}
