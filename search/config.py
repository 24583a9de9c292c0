"""The knobs of one search, frozen."""

from __future__ import annotations

from dataclasses import dataclass

from escalade.domains.errors import SettingsError


@dataclass(frozen=True)
class SearchConfig:
    """simulations: how many new nodes each tree may gain, at least 1.

    c_puct: weight of the prior's exploration term against the mean value (Silver et al. 2017, "Mastering the game of
        Go without human knowledge", Methods, "Select").
    fpu_reduction: an unvisited action counts as worth its parent's mean value less this (first-play urgency).
    noise_fraction: share of Dirichlet noise mixed into the root prior, in [0, 1]; 0 is none (self-play uses 0.25).
    noise_alpha: concentration of that noise per action; small values favour few actions.
    temperature: of the final choice by visits; 0 takes the best action.
    """

    simulations: int = 400
    c_puct: float = 1.5
    fpu_reduction: float = 0.0
    noise_fraction: float = 0.0
    noise_alpha: float = 1.0
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if self.simulations < 1:
            raise SettingsError(f"simulations must be at least 1, not {self.simulations}")
        if not 0 <= self.noise_fraction <= 1 or not self.noise_alpha > 0:
            raise SettingsError("noise_fraction must be in [0, 1] and noise_alpha positive")
        if not self.c_puct > 0 or not self.fpu_reduction >= 0 or not self.temperature >= 0:
            raise SettingsError("c_puct must be positive, fpu_reduction and temperature not negative")
