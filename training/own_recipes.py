"""Recipes for any domain: those of games of one's own, from nothing and without a solver, and of labelled texts.

Those of games are meant for runs by minutes, which size their rounds to the time (`escalade.training.budget`): their
numbers of games and passes are what is worth doing at most.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from escalade.domains.base import Domain
from escalade.domains.lengths import has_one_player
from escalade.search.config import SearchConfig
from escalade.training.evaluate import EvaluationConfig
from escalade.training.optimizers import LearnerConfig
from escalade.training.recipe import Network, Recipe
from escalade.training.self_play import SelfPlayConfig
from escalade.training.window import WindowConfig

VECTOR = Recipe(
    iterations=12,
    # They cost nothing but the rules, and after them a search knows at least how games end.
    untaught="random",
    network=Network(kind="residual", hidden=(128, 128)),
    games=2000,
    games_a_task=100,
    self_play=SelfPlayConfig(
        SearchConfig(simulations=24, algorithm="gumbel", rescale=True), at_once=64, opening_plies=None, max_plies=None
    ),
    rows=500_000,
    recent=0.75,
    window=WindowConfig(outcome_weight=0.6, validation=0.04),
    passes=6,
    last_passes=16,
    learner=LearnerConfig(batch_size=256, learning_rate=2e-3, average=0.99),
    # Matches of the networks alone cost next to nothing, and all games are learned from whoever wins them.
    evaluation=EvaluationConfig(simulations=(0, 64), players=(0,), games=40),
)
"""Minutes: a small network, which a Python rule costs more than."""

HOUR = replace(
    VECTOR,
    iterations=40,
    network=Network(kind="residual", hidden=(256, 256, 256)),
    games=20_000,
    self_play=replace(VECTOR.self_play, search=SearchConfig(simulations=48, algorithm="gumbel", rescale=True)),
    rows=2_000_000,
    passes=2,
    last_passes=8,
    learner=LearnerConfig(batch_size=512, learning_rate=2e-3, average=0.995),
)
"""An hour and more: a network with room for what so many games show."""


LABELLED = Recipe(
    iterations=12,
    games=0,
    network=Network(hidden=(256,), dropout=0.3),
    passes=2,
    last_passes=2,
    window=WindowConfig(validation=0.1),
    learner=LearnerConfig(batch_size=128),
)
"""Without a simulator: labels of other stores, passed over until what was held out shows that it learns no more."""


def own_recipes(domain: Domain[Any]) -> dict[str, Recipe]:
    """The recipes of a domain by name: "default", "hour", and "board" where an observation is planes [C, H, W]; without
    a simulator "default" alone. In domains with one player all experience is learned from, but the random games."""
    if not domain.has_simulator:
        return {"default": LABELLED}
    found = {"default": VECTOR, "hour": HOUR}
    if len(domain.observation_shape) == 3:
        board = Network(kind="convolutional", hidden=(32, 32, 32), features=128)
        found["board"] = replace(VECTOR, network=board)
    if has_one_player(domain):
        # Who plays well sees no more of what failing looks like, and forgets it, unless it is kept.
        found = {name: replace(recipe, recent=1.0) for name, recipe in found.items()}
    return found
