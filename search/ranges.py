"""Which stretches of an arena are free."""

from __future__ import annotations

from bisect import bisect


class Ranges:
    """First fit over whole numbers 0 .. size - 1; what is given back joins its neighbours."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free: list[tuple[int, int]] = [(0, size)]  # (start, end), in order, never touching

    def take(self, length: int) -> int | None:
        """The start of a free stretch, which is no longer free; None if there is none so long."""
        for place, (start, end) in enumerate(self._free):
            if end - start >= length:
                if end - start == length:
                    del self._free[place]
                else:
                    self._free[place] = (start + length, end)
                return start
        return None

    def give_back(self, start: int, length: int) -> None:
        end = start + length
        place = bisect(self._free, (start, end))
        if place < len(self._free) and self._free[place][0] == end:
            end = self._free.pop(place)[1]
        if place > 0 and self._free[place - 1][1] == start:
            start = self._free.pop(place - 1)[0]
            place -= 1
        self._free.insert(place, (start, end))
