"""The largest share of decisions that any thresholds could leave to the networks within a promise.

Of s accepted decisions at least (1 - alpha) s must be right, and at most 1 - mu can be, mu being the error of deciding
all: no rule accepts more than (1 - mu) / (1 - alpha), however well it knows which decisions are right (arXiv
2606.29054). Where several networks may decide, a state counts as right if any of them is; where the promise covers all
decisions, those of the rung behind the networks count too.
"""

from __future__ import annotations

from dataclasses import dataclass

from escalade.neural.certificate import Covers
from escalade.training.threshold_path import Answers


@dataclass(frozen=True)
class AcceptanceLimit:
    """Estimated on tune states."""

    share: float
    """Of all decisions, the most that the networks could make; 0: the promise cannot be kept at all."""
    error: float
    """mu: share of states that no network may decide and decides as well as the reference."""
    hopeless: float
    """Share of states that no rung decides as well as the reference, the one behind the networks included."""


def acceptance_limit(tune: Answers, alpha: float, covers: Covers) -> AcceptanceLimit:
    """Of at least one state."""
    allowed = ~tune.barred
    solved = (tune.right[:, :-1] & allowed).any(axis=1)
    missed, behind = allowed.any(axis=1) & ~solved, tune.right[:, -1]
    right = float(solved.mean())
    hopeless = float((~solved & ~behind).mean())
    # Wrong decisions to accept beside the right ones: as many as alpha allows among those accepted,
    errors = min(alpha / (1 - alpha) * right, float(missed.mean()))
    if covers == "all":
        if hopeless > alpha:
            return AcceptanceLimit(0.0, 1 - right, hopeless)
        # and of those that the rung behind would decide rightly as many as alpha allows among all.
        spoilt = min(float((missed & behind).mean()), alpha - hopeless)
        errors = min(errors, float((missed & ~behind).mean()) + spoilt)
    return AcceptanceLimit(right + errors, 1 - right, hopeless)
