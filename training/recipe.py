"""How a domain is learned: what is collected, how it is fitted, how the result is judged. One frozen config a run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from escalade.domains.base import Domain
from escalade.domains.errors import SettingsError
from escalade.neural.manifest import first_fault
from escalade.neural.spec import NetworkSpec
from escalade.search.config import SearchConfig, whole
from escalade.training.certify_config import CertifyConfig
from escalade.training.collect import Untaught
from escalade.training.evaluate import EvaluationConfig
from escalade.training.optimizers import LearnerConfig
from escalade.training.self_play import SelfPlayConfig
from escalade.training.solved import SolvedConfig
from escalade.training.window import WindowConfig


@dataclass(frozen=True)
class Network:
    """As in `escalade.neural.spec.NetworkSpec`, which checks it: here what is wrong for any domain, before anything is
    collected, and with the domain (`Recipe.spec`) the rest."""

    kind: Literal["perceptron", "residual", "convolutional"] = "perceptron"
    hidden: tuple[int, ...] = (256, 256, 128)
    value_head: Literal["tanh", "wdl"] = "wdl"
    dropout: float = 0.0
    planes: tuple[int, int, int] | None = None
    features: int | None = None
    passes: int | None = None

    def __post_init__(self) -> None:
        self.spec(self.planes or (1, 1, 2), 1)

    def spec(self, observation_shape: tuple[int, ...], num_actions: int) -> NetworkSpec:
        """The network for these shapes. Raises SettingsError naming the field at fault."""
        try:
            return NetworkSpec(**asdict(self), observation_shape=observation_shape, num_actions=num_actions)
        except ValidationError as error:
            raise SettingsError(first_fault(error)) from None


@dataclass(frozen=True)
class Recipe:
    """iterations: how many, if the run says neither that nor how many minutes.

    games, games_a_task: of self-play in an iteration, and in one piece of work. A run by minutes has fewer, and other
        pieces, if they would take longer than its iterations have (`escalade.training.budget`).
    families, families_a_task: positions for the exact solver (`SolvedConfig`), where there is one. 0 is none; with none
        of either a run learns from other stores alone. solve_games: the solver labels self-played games too.
    sparring, sparring_a_task: games against the exact solver (`escalade.training.sparring`), where there is one.
    relabelled: at the end so many of the newest self-played positions are searched anew by `relabel`; 0 is none.
    untaught: who plays while there is no network: searches with rollouts ("rollouts") or without anything ("uniform"),
        or random moves ("random"; see `escalade.training.collect.CollectTask`).
    rows: of experience that are learned from, the newest.
    recent: share of the iterations that are learned from, the newest (and the one before them); 1 is all.
    passes, last_passes: over them in an iteration, and in the last one.
    half_weights: whether bundles hold float16 numbers, half as many bytes.
    positions: to judge by, exactly solved, never learned from; where there is no solver, matches of
        `evaluation.games` against the champion judge; where there is no simulator, held-out rows.
    patience: in a domain without a simulator, the run ends after so many iterations in a row that did not lower the
        loss on held-out rows (`window.validation` of the games): the same rows, learned again, only get known by
        heart. 0: it never ends for that reason.
    strength: at most this share of the time of the run, in [0, 1), goes into showing how strong its networks are
        (`escalade.training.strength`): games against fixed opponents and searches without a network. They choose
        nothing. 0 is none.
    certify: what is to be proven of the champion at the end; None is nothing.
    """

    iterations: int = 10
    untaught: Untaught = "rollouts"
    network: Network = field(default_factory=Network)
    games: int = 512
    games_a_task: int = 256
    self_play: SelfPlayConfig = field(default_factory=SelfPlayConfig)
    families: int = 0
    families_a_task: int = 200
    sparring: int = 0
    sparring_a_task: int = 25
    solve_games: bool = False
    solved: SolvedConfig = field(default_factory=SolvedConfig)
    relabelled: int = 0
    relabel: SearchConfig = field(default_factory=lambda: SearchConfig(simulations=600))
    rows: int = 500_000
    recent: float = 1.0
    window: WindowConfig = field(default_factory=WindowConfig)
    passes: int = 2
    last_passes: int = 4
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    half_weights: bool = False
    positions: int = 500
    patience: int = 3
    strength: float = 0.1
    evaluation: EvaluationConfig = field(default_factory=lambda: EvaluationConfig(simulations=(0, 64)))
    certify: CertifyConfig | None = None

    def __post_init__(self) -> None:
        pieces = ("games_a_task", "families_a_task", "sparring_a_task")
        for name in ("iterations", *pieces, "rows", "passes", "last_passes", "positions"):
            whole(name, getattr(self, name), 1)
        for name in ("games", "families", "sparring", "relabelled", "patience"):
            whole(name, getattr(self, name), 0)
        if not 0 <= self.strength < 1:
            raise SettingsError(f"strength must be at least 0 and below 1, not {self.strength!r}")
        if not 0 < self.recent <= 1:
            raise SettingsError(f"recent must be above 0 and at most 1, not {self.recent!r}")

    def spec(self, domain: Domain[Any]) -> NetworkSpec:
        """The network of a domain. Raises SettingsError for one that cannot be."""
        try:
            return self.network.spec(tuple(domain.observation_shape), domain.num_actions)
        except SettingsError as error:
            raise SettingsError(f"recipe: network: {error}") from None

    def plain(self) -> dict[str, Any]:
        """The recipe as JSON."""
        plain: dict[str, Any] = _RECIPE.dump_python(self, mode="json")
        return plain

    @staticmethod
    def of(plain: dict[str, Any]) -> Recipe:
        """The recipe that `plain` gave. Raises SettingsError naming the field at fault. Strict, as JSON is: "60" and
        true are no numbers."""
        try:
            recipe = _RECIPE.validate_json(json.dumps(plain), strict=True)
        except ValidationError as error:
            raise SettingsError(f"recipe: {first_fault(error)}") from None
        except (TypeError, ValueError) as error:
            raise SettingsError(f"recipe: it must be plain JSON: {error}") from None
        if (unknown := _unknown(plain, recipe.plain())) is not None:
            raise SettingsError(f"recipe: there is no field '{unknown}'")
        return recipe


_RECIPE = TypeAdapter(Recipe)


def _unknown(given: Any, known: Any) -> str | None:
    """The first field of JSON that the same JSON, once read, does not have."""
    if not isinstance(given, dict) or not isinstance(known, dict):
        return None
    for name, value in given.items():
        if name not in known:
            return str(name)
        if (inner := _unknown(value, known[name])) is not None:
            return f"{name}.{inner}"
    return None


def over_base(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """JSON of a recipe with some fields, at any depth, replaced by those of another."""
    found = dict(base)
    for name, value in changes.items():
        inner = found.get(name)
        found[name] = over_base(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return found


def recipe_from(given: str | dict[str, Any], domain: Domain[Any]) -> Recipe:
    """The recipe of a domain that a name means, or JSON, whose field `base` names the recipe that its other fields
    change; without it they change the defaults of `Recipe`. Raises SettingsError naming what is wrong."""
    if isinstance(given, str):
        return recipe_for(domain, given)
    base = given.get("base")
    if base is None:
        return Recipe.of({name: value for name, value in given.items() if name != "base"})
    if not isinstance(base, str):
        raise SettingsError(f"recipe: base: the name of a recipe, not {base!r}")
    try:
        known = recipe_for(domain, base).plain()
    except SettingsError as error:
        raise SettingsError(f"recipe: base: {error}") from None
    changes = {name: value for name, value in given.items() if name != "base"}
    if (unknown := _unknown(changes, known)) is not None:
        raise SettingsError(f"recipe: there is no field '{unknown}'")
    return Recipe.of(over_base(known, changes))


def recipe_for(domain: Domain[Any], name: str = "default") -> Recipe:
    """A recipe by name: those made for the domain, or those that suit any (`escalade.training.own_recipes`). Raises
    SettingsError for unknown names."""
    from escalade.training.own_recipes import own_recipes

    named = {"default": Recipe(), **own_recipes(domain), **RECIPES.get(domain.name, {})}
    if name not in named:
        known = ", ".join(sorted({"default", *named}))
        raise SettingsError(f"there is no recipe '{name}' for domain '{domain.name}'; there is: {known}")
    return named[name]


# Under a minute on two cores.
_TIC_TAC_TOE = Recipe(
    iterations=16,
    network=Network(hidden=(128, 128)),
    games=1500,
    games_a_task=1500,
    # Random openings of any length meet every position; the search proves most of them.
    self_play=SelfPlayConfig(SearchConfig(simulations=50, algorithm="gumbel"), at_once=512, opening_plies=7),
    rows=100_000,
    window=WindowConfig(outcome_weight=0.5, validation=0.02, duplicate_power=0.0),
    passes=8,
    last_passes=40,
    learner=LearnerConfig(batch_size=256, learning_rate=4e-3, average=0.98),
    evaluation=EvaluationConfig(simulations=(0, 25)),
    certify=CertifyConfig(alphas=(0.05, 0.01), simulations=25),
)

# About half an hour on two idle cores: the solver's labels teach what self-play alone would take far longer to find
# out, games against it and against itself what good players come to. Every opening of 7 plies is labelled at once, by
# the solver's opening book.
_CONNECT_FOUR = Recipe(
    iterations=4,
    network=Network(kind="residual", hidden=(384, 384, 384)),
    games=200,
    games_a_task=50,
    self_play=SelfPlayConfig(SearchConfig(simulations=32, algorithm="gumbel"), at_once=64, opening_plies=8),
    families=10_000,
    families_a_task=200,
    sparring=200,
    solve_games=True,
    # Earlier roots take the solver most of its time: one of 8 plies as long as forty of 14. A search needs no help with
    # what is nearly over.
    solved=SolvedConfig(first_ply=9, last_ply=20, branches=2, depth=5, openings=7),
    rows=4_000_000,
    # There are few openings, and every game depends on them.
    window=WindowConfig(outcome_weight=0.75, validation=0.02, duplicate_power=0.75, balance=0.5),
    passes=2,
    last_passes=8,
    learner=LearnerConfig(
        batch_size=4096,
        learning_rate=3e-3,
        weight_decay=0.02,
        optimizer="muon",
        repeats=16,
        average=0.998,
        threads=2,
        precision="auto",
    ),
    positions=1000,
    evaluation=EvaluationConfig(simulations=(0, 64, 600)),
    certify=CertifyConfig(),
)

# For what is shipped: twice the weights, and millions of positions. Five iterations, since a network that has learned
# what it lost by comes to other positions. Hours, not minutes.
_CONNECT_FOUR_CHAMPION = replace(
    _CONNECT_FOUR,
    iterations=5,
    network=Network(kind="residual", hidden=(512, 512, 512)),
    games=150,
    families=12_000,
    families_a_task=250,
    sparring=800,
    solved=replace(_CONNECT_FOUR.solved, first_ply=8, last_ply=22),
    rows=10_000_000,
    learner=replace(_CONNECT_FOUR.learner, average=0.999),
    # A game has some twenty decisions of a player, and one that is wrong may lose it: at 0.001 each, one game in fifty.
    certify=CertifyConfig(alphas=(), own=(0.001,), states=40_000),
)

# What it becomes with two more blocks and positions that it has not seen: `--start` that champion, with another seed.
_CONNECT_FOUR_DEEPER = replace(
    _CONNECT_FOUR_CHAMPION,
    iterations=1,
    network=Network(kind="residual", hidden=(512,) * 5),
    families=100_000,
    last_passes=10,
    learner=replace(_CONNECT_FOUR_CHAMPION.learner, learning_rate=1e-3),
    half_weights=True,
)

# The same with convolutions over the board: slower to ask by far on a CPU, for who has a GPU.
_CONNECT_FOUR_CONVOLUTIONAL = replace(
    _CONNECT_FOUR,
    network=Network(kind="convolutional", hidden=(48, 48, 48, 48), planes=(5, 6, 7), features=256),
)

RECIPES: dict[str, dict[str, Recipe]] = {
    "tic_tac_toe": {"default": _TIC_TAC_TOE},
    "connect_four": {
        "default": _CONNECT_FOUR,
        "champion": _CONNECT_FOUR_CHAMPION,
        "deeper": _CONNECT_FOUR_DEEPER,
        "convolutional": _CONNECT_FOUR_CONVOLUTIONAL,
    },
}
