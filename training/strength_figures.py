"""From results of games and episodes to the figures of a run's strength (`escalade.training.strength`)."""

from __future__ import annotations

from typing import Any

from escalade.training.rating import Games, Rating, rating_of
from escalade.training.returns import return_of
from escalade.training.run import Run

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


def strengths(run: Run) -> dict[int, dict[str, Any]]:
    """What was measured of each iteration, on the scale of the newest one: opponents are known better in the end."""
    paths = sorted((run.folder / "iterations").glob("[0-9]*/strength.json"))
    measured = {int(path.parent.name): run.read(path)["figures"] for path in paths}
    measured = {number: figures for number, figures in measured.items() if figures}
    if not measured:
        return {}
    last = measured[max(measured)]
    if last["unit"] != "elo":
        return measured
    anchors = {one["name"]: one for one in last["anchors"]}
    return {
        number: figures_of("elo", {one["name"]: one for one in figures["players"]}, anchors)
        for number, figures in measured.items()
    }


def without_results(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures without single games: small enough for the state of a graph."""
    return {
        name: [{key: value for key, value in one.items() if key != "results"} for one in part]
        if isinstance(part, list)
        else part
        for name, part in figures.items()
    }
