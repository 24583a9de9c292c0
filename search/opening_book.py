"""The exact scores of all Connect Four openings: every unfinished position of at most 8 plies, mirror images once.

The solver takes half a minute for the empty board and a fraction of a second at 9 plies; with the book the first
eight plies cost nothing. `connect_four_book.npy` beside this file was written by

    python -m escalade.search.opening_book search/connect_four_book.npy

which solves the positions of 8 plies, some 91,000, with the solver and deduces the others from them. It takes a few
hours on one core; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from escalade.domains.connect_four import ConnectFour
from escalade.domains.connect_four_boards import WIDTH
from escalade.domains.line_game import LineState

BOOK = Path(__file__).with_name("connect_four_book.npy")
PLIES = 8
"""The longest openings in the book."""
_SCORE_BITS = 6
_MIDDLE = 1 << (_SCORE_BITS - 1)


def key_of(state: LineState) -> int:
    """The number that names a position and its mirror image: 7 bits a column, 49 in all."""
    key = state.mine + (state.mine | state.theirs)
    mirrored = 0
    for column in range(WIDTH):
        mirrored |= ((key >> 7 * column) & 127) << 7 * (WIDTH - 1 - column)
    return min(key, mirrored)


class OpeningBook:
    """entries: `[N]` uint64, sorted, each a key in the high bits and its score plus 32 in the lowest 6."""

    def __init__(self, entries: NDArray[np.uint64]) -> None:
        self.entries = entries

    def score(self, state: LineState) -> int | None:
        """The exact score of an unfinished position, from the view of the player to move; None if it is not in the
        book."""
        if len(state.moves) > PLIES:
            return None
        key = key_of(state)
        place = int(np.searchsorted(self.entries, np.uint64(key << _SCORE_BITS)))
        if place == len(self.entries):
            return None
        entry = int(self.entries[place])
        return (entry & (2 * _MIDDLE - 1)) - _MIDDLE if entry >> _SCORE_BITS == key else None

    @staticmethod
    def of(scores: dict[int, int]) -> OpeningBook:
        """Scores by key."""
        packed = [(key << _SCORE_BITS) | (score + _MIDDLE) for key, score in scores.items()]
        return OpeningBook(np.array(sorted(packed), np.uint64))


@cache
def opening_book() -> OpeningBook:
    """The one that came with the package; an empty one where there is none."""
    return OpeningBook(np.load(BOOK, allow_pickle=False) if BOOK.exists() else np.empty(0, np.uint64))


def openings(plies: int = PLIES) -> Iterator[dict[int, LineState]]:
    """The unfinished positions of 0, 1, … `plies` plies by key, a dictionary for each number of plies."""
    game = ConnectFour()
    level = {key_of(game.initial_state()): game.initial_state()}
    yield level
    for _ in range(plies):
        reached: dict[int, LineState] = {}
        for state in level.values():
            for action in game.legal_actions(state):
                after = game.step(state, action)
                if not game.is_terminal(after):
                    reached.setdefault(key_of(after), after)
        level = reached
        yield level


def deduced(levels: list[dict[int, LineState]], deepest: dict[int, int]) -> dict[int, int]:
    """The scores of all levels by key, from those of the last one."""
    game, scores = ConnectFour(), dict(deepest)
    for level in reversed(levels[:-1]):
        for key, state in level.items():
            best = -100
            for action in game.legal_actions(state):
                after = game.step(state, action)
                # Who is to move in a finished game of so few plies has lost it.
                known = ((len(after.moves) + 1) >> 1) - 22 if game.is_terminal(after) else scores[key_of(after)]
                best = max(best, -known)
            scores[key] = best
    return scores


def build(path: Path, plies: int = PLIES) -> None:
    """Write the book. What is solved is kept beside it, in `PATH.partial`, a line a position, until it is complete."""
    from escalade.search.solve_connect_four import ConnectFourSolver

    solver, levels = ConnectFourSolver(table_bits=25, book=False), list(openings(plies))
    partial = path.with_name(f"{path.name}.partial")
    lines = partial.read_text().splitlines() if partial.exists() else []
    solved = {int(key): int(score) for key, _, score in (line.partition(" ") for line in lines) if score}
    with partial.open("a") as file:
        for number, (key, state) in enumerate(levels[-1].items()):
            if key not in solved:
                solved[key] = solver.score(state)
                file.write(f"{key} {solved[key]}\n")
                file.flush()
            if number % 100 == 0:
                print(f"\r{number} of {len(levels[-1])} positions", end="", flush=True)
    with (unfinished := path.with_name(f".{path.name}.partial")).open("wb") as file:
        np.save(file, OpeningBook.of(deduced(levels, {key: solved[key] for key in levels[-1]})).entries)
    unfinished.replace(path)
    partial.unlink()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    build(parser.parse_args().file)
