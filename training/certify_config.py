"""What is to be proven."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from escalade.domains.errors import SettingsError
from escalade.neural.certificate import Covers, promise_name
from escalade.search.config import whole


@dataclass(frozen=True)
class Promise:
    """What is to be proven: at most a share alpha of the decisions is worse than the reference's, with confidence 1 -
    delta. covers: "all" decisions of the ladder as well as those that the networks make on their own, or the latter
    alone ("own"), which can be proven where the rung behind them is itself worse than alpha. max_cost_s: mean seconds
    of work a decision may take; the most accurate setting within that is chosen, where else the cheapest one is."""

    alpha: float = 0.05
    delta: float = 0.05
    covers: Covers = "all"
    max_cost_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("alpha", "delta"):
            if not 0 < getattr(self, name) < 1:
                raise SettingsError(f"{name} must be between 0 and 1, not {getattr(self, name):g}")
        if self.covers not in get_args(Covers):
            raise SettingsError(f"covers must be {' or '.join(get_args(Covers))}, not '{self.covers}'")

    @property
    def name(self) -> str:
        """For people."""
        return promise_name(self.alpha, self.covers)


@dataclass(frozen=True)
class CertifyConfig:
    """A certificate for each of the alphas, and one of the networks' own decisions for each of `own`, from so many
    states of casual games labelled by the exact solver, for the ladder of policy, value and a search of so many
    simulations."""

    alphas: tuple[float, ...] = (0.05,)
    own: tuple[float, ...] = ()
    delta: float = 0.05
    states: int = 4000
    simulations: int = 600

    def __post_init__(self) -> None:
        if not self.promises:
            raise SettingsError("alphas or own must name a loss to prove: give 0.05, or no certify at all")
        for name in ("states", "simulations"):
            whole(name, getattr(self, name), 1)

    @property
    def promises(self) -> list[Promise]:
        """What is to be proven, one by one."""
        whole_ladder = [Promise(alpha, self.delta) for alpha in self.alphas]
        return whole_ladder + [Promise(alpha, self.delta, "own") for alpha in self.own]
