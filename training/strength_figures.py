"""From results of games and episodes to the figures of a run's strength (`escalade.training.strength`)."""

from __future__ import annotations

from typing import Any

from escalade.training.rating import Games, Rating, rating_of
from escalade.training.returns import return_of

FIRST = "the run's first network"
"""The opponent of all later ones."""
ENDS = ("value", "low", "high")


def figures_of(unit: str, players: dict[str, Any], anchors: dict[str, Any]) -> dict[str, Any]:
    """The figures of players and anchors by name, each with `simulations` and `results`; see `_Measured.games`."""
    if unit == "return":
        values = {name: return_of(one["results"]) for name, one in {**anchors, **players}.items()}
    else:
        ratings = {name: rating_among(anchors, name) for name in anchors}
        known = {name: rating for name, rating in ratings.items() if rating is not None}
        own = {name: rating_on(known, one["results"]) for name, one in players.items()}
        values = {name: (r.elo, r.low, r.high) for name, r in {**known, **own}.items() if r is not None}

    def plain(several: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {"name": name, **one, "games": _count(one["results"]), **dict(zip(ENDS, values[name], strict=True))}
            for name, one in several.items()
            if name in values
        ]

    return {"unit": unit, "players": plain(players), "anchors": plain(anchors)}


def rating_among(anchors: dict[str, Any], name: str) -> Rating | None:
    """An anchor's rating by its games against those before it; the first one's is 0. None if it is not known."""
    ratings: dict[str, Rating] = {}
    for anchor, one in anchors.items():
        found = Rating(0.0, 0.0, 0.0) if not ratings else rating_on(ratings, one["results"])
        if found is not None:
            ratings[anchor] = found
    return ratings.get(name)


def rating_on(ratings: dict[str, Rating], results: dict[str, list[float]]) -> Rating | None:
    """The rating that results against rated opponents show; None if there are none."""
    games = [Games(ratings[name].elo, pairs) for name, pairs in results.items() if pairs and name in ratings]
    return rating_of(games) if games else None


def _count(results: Any) -> int:
    return len(results) if isinstance(results, list) else 2 * sum(map(len, results.values()))


def rescaled(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The history of a run with all strengths on the scale of the newest iteration: opponents are known better in the
    end."""
    measured = [line["strength"] for line in history if line.get("strength")]
    if not measured or measured[-1]["unit"] != "elo":
        return history
    anchors = {one["name"]: one for one in measured[-1]["anchors"]}
    found = []
    for line in history:
        players = {one["name"]: one for one in (line.get("strength") or {}).get("players", ())}
        found.append({**line, "strength": figures_of("elo", players, anchors)} if players else line)
    return found
