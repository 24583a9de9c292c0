"""Games in a limited time: how long they take, by those played before, and how many more there is time for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

UNFINISHED = 2.0
"""Games that were not over in some time are taken to need so many times as long."""
LEAST = 0.2
"""Games cost at least this part of the dearest ones, where time is shared: a moment would be too short for any."""

Clock = Callable[[], float]


class Pace:
    """What is left until a deadline of the clock, and seconds a game by kind: the name of a player, or "player :
    opponent". costs: what is known of it; it is added to."""

    def __init__(self, deadline: float, clock: Clock, costs: dict[str, float]) -> None:
        self.deadline, self.clock, self.costs = deadline, clock, costs

    @property
    def left(self) -> float:
        return self.deadline - self.clock()

    def cost(self, kind: str) -> float | None:
        """Seconds that the quickest games of a player took, None where there were none yet."""
        costs = [cost for name, cost in self.costs.items() if name == kind or name.startswith(f"{kind} : ")]
        return min(costs, default=None)

    def slice_end(self, turns: Sequence[tuple[str, float]]) -> float:
        """Until when the first of several players may play. turns: of each the kind and how much it counts; the time is
        shared by what their games cost, so that each plays about as many, those of quick games some more."""
        costs = [self.cost(kind) for kind, _ in turns]
        dearest = max((cost for cost in costs if cost), default=1.0)
        parts = [max(cost or dearest, LEAST * dearest) * counts for (_, counts), cost in zip(turns, costs, strict=True)]
        return self.clock() + self.left * parts[0] / sum(parts)

    def affordable(self, kind: str, done: int, most: int, ends: float) -> int:
        """How many more games to play at once: as many as there were, one at first, none that would end too late."""
        left, cost, wanted = ends - self.clock(), self.costs.get(kind), min(max(done, 1), most - done)
        return 0 if left <= 0 else wanted if cost is None else min(wanted, int(left / max(cost, 1e-9)))

    def timed(self, kind: str, began: float, size: int, *, finished: bool) -> None:
        """So many games were played since a time of the clock, or begun and not finished."""
        took = (self.clock() - began) / size
        self.costs[kind] = took if finished else max(UNFINISHED * took, self.costs.get(kind, 0.0))
