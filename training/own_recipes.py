"""Recipes for any domain with a simulator, from nothing and without a solver: those of games of one's own.

They are meant for runs by minutes, which size their rounds to the time (`escalade.training.budget`): so their numbers
of games and passes are what is worth doing at most.
"""

from __future__ import annotations

from escalade.search.config import SearchConfig
from escalade.training.evaluate import EvaluationConfig
from escalade.training.learner import LearnerConfig
from escalade.training.recipe import Network, Recipe
from escalade.training.self_play import SelfPlayConfig
from escalade.training.window import WindowConfig

VECTOR = Recipe(
    iterations=12,
    untaught="random",
    network=Network(kind="residual", hidden=(128, 128)),
    games=2000,
    games_a_task=100,
    self_play=SelfPlayConfig(
        SearchConfig(simulations=24, algorithm="gumbel"), at_once=64, opening_plies=None, max_plies=None
    ),
    rows=500_000,
    recent=0.6,
    window=WindowConfig(outcome_weight=0.6, validation=0.04),
    passes=6,
    last_passes=16,
    learner=LearnerConfig(batch_size=256, learning_rate=2e-3, average=0.99),
    # Matches of the networks alone cost next to nothing, and all games are learned from whoever wins them.
    evaluation=EvaluationConfig(simulations=(0, 64), players=(0,), games=40),
)
