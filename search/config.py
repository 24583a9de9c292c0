"""The knobs of one search, frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from escalade.domains.errors import SettingsError


@dataclass(frozen=True)
class SearchConfig:
    """simulations: how many new leaves each tree may add, at least 1.

    algorithm: "puct" balances values and priors in every node; "gumbel" shares the simulations among a few actions of
        the root by sequential halving, which needs far fewer of them, and gives a better training target
        (search/gumbel.py).
    proofs: back up exact wins, draws and losses, stop once the root is proven, and look one move ahead for ends of the
        game where the domain says them cheaply.

    c_puct: weight of the prior's exploration term against the mean value (Silver et al. 2017, "Mastering the game of
        Go without human knowledge", Methods, "Select"); the default is AlphaZero's (Silver et al. 2018, supplement).
        Noisy values without a prior, such as one rollout a leaf, want more: about 2.
    fpu_reduction: an unvisited action counts as worth its parent's mean value less this (first-play urgency).
    noise_fraction: share of Dirichlet noise mixed into the root prior, in [0, 1]; 0 is none (self-play uses 0.25).
        Only "puct": a Gumbel search has chance of its own.
    noise_alpha: concentration of that noise per action; small values favour few actions.
    temperature: of the final choice by visits; 0 takes the best action. Only "puct".
    final_move: among actions still open, the most visited, or the one with the greatest lower confidence bound,
        `deviations` standard errors below its mean value. Only "puct": a Gumbel search ranks by its own rule.

    considered: at most so many actions enter sequential halving.
    c_visit, c_scale: Q in [0, 1] weighs (c_visit + visits) * c_scale against logits. The paper took 50 and 1 for Go and
        chess; a smaller scale trusts noisy estimates less, and gives softer training targets.
    rescale: weigh Q by the range that a node's actions span rather than by [-1, 1]. It learns faster where a single
        action changes little of what is expected, as in most positions of a young network; the fixed range gives softer
        policies, which tell how much an action matters. Only "gumbel".
    gumbel_scale: of the chance in a Gumbel search: 1 samples from the improved policy, 0 takes the best action.
    """

    simulations: int = 400
    algorithm: Literal["puct", "gumbel"] = "puct"
    proofs: bool = True
    c_puct: float = 1.25
    fpu_reduction: float = 0.0
    noise_fraction: float = 0.0
    noise_alpha: float = 1.0
    temperature: float = 0.0
    final_move: Literal["visits", "lower_bound"] = "visits"
    deviations: float = 2.0
    considered: int = 16
    c_visit: float = 50.0
    c_scale: float = 0.1
    rescale: bool = False
    gumbel_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("simulations", "considered"):
            object.__setattr__(self, name, whole(name, getattr(self, name), 1, 2**31 - 1))
        if self.algorithm not in ("puct", "gumbel"):
            raise SettingsError(f"algorithm must be 'puct' or 'gumbel', not {self.algorithm!r}")
        if self.final_move not in ("visits", "lower_bound"):
            raise SettingsError(f"final_move must be 'visits' or 'lower_bound', not {self.final_move!r}")
        for name, (above, least, most) in _RANGES.items():
            value = getattr(self, name)
            number = isinstance(value, int | float | np.number)
            if not number or not least <= value <= most or (above and value == least):
                bounds = f"{'above' if above else 'at least'} {least} and at most {most:g}"
                raise SettingsError(f"{name} must be a number {bounds}, not {value!r}")
            object.__setattr__(self, name, float(value))
        for name in ("proofs", "rescale"):
            if not isinstance(getattr(self, name), bool):
                raise SettingsError(f"{name} must be True or False, not {getattr(self, name)!r}")


def whole(name: str, value: object, least: int, most: int | None = None) -> int:
    """A whole number within bounds as a plain int. Raises SettingsError for anything else."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | np.integer)
        or value < least
        or (most is not None and value > most)
    ):
        bounds = f"at least {least}" + ("" if most is None else f" and at most {most}")
        raise SettingsError(f"{name} must be a whole number, {bounds}, not {value!r}")
    return int(value)


_MOST = 1e6
"""Numbers beyond it would only overflow."""
_RANGES = {
    "c_puct": (True, 0, _MOST),
    "fpu_reduction": (False, 0, _MOST),
    "noise_fraction": (False, 0, 1),
    "noise_alpha": (True, 0, _MOST),
    "temperature": (False, 0, _MOST),
    "deviations": (False, 0, _MOST),
    "c_visit": (False, 0, _MOST),
    "c_scale": (True, 0, _MOST),
    "gumbel_scale": (False, 0, _MOST),
}
"""Whether it must be more than the least value; the least, and the greatest."""
