"""What is to be proven."""

from __future__ import annotations

from dataclasses import dataclass

from escalade.domains.errors import SettingsError
from escalade.search.config import whole


@dataclass(frozen=True)
class Promise:
    """What is to be proven: at most a share alpha of the decisions is worse than the reference's, with confidence
    1 - delta. max_cost_s: mean seconds of work a decision may take; the most accurate setting within that is chosen,
    where else the cheapest one is."""

    alpha: float = 0.05
    delta: float = 0.05
    max_cost_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("alpha", "delta"):
            if not 0 < getattr(self, name) < 1:
                raise SettingsError(f"{name} must be between 0 and 1, not {getattr(self, name):g}")


@dataclass(frozen=True)
class CertifyConfig:
    """A certificate for each of the alphas, from so many states of casual games labelled by the exact solver, for the
    ladder of policy, value and a search of so many simulations."""

    alphas: tuple[float, ...] = (0.05,)
    delta: float = 0.05
    states: int = 4000
    simulations: int = 600

    def __post_init__(self) -> None:
        for alpha in self.alphas:
            Promise(alpha, self.delta)
        for name in ("states", "simulations"):
            whole(name, getattr(self, name), 1)
