"""A trained bundle made ready to be shipped: the bundle with its figures, and a model card beside it."""

from __future__ import annotations

import json
import platform
from collections import Counter
from pathlib import Path
from typing import Any

from escalade.domains.evaluator import usable_cores
from escalade.neural.bundle import Bundle, read_bundle, write_bundle
from escalade.neural.certificate import Certificate
from escalade.neural.files import write_whole
from escalade.training.card_of_run import held_out_lines, strength_lines
from escalade.training.evaluate import Evaluation
from escalade.training.intervals import Share
from escalade.training.run import Run, RunError


def champion_of(run: Run) -> tuple[int, Bundle]:
    """The champion's iteration and bundle. Raises RunError if there is none yet."""
    champion = run.champion
    folder = None if champion is None else run.bundle(champion["iteration"])
    if champion is None or folder is None:
        raise RunError(f"run '{run.name}' has no champion yet: train on with --resume")
    return champion["iteration"], read_bundle(folder, run.domain)


def card_of(folder: Path) -> Path:
    """Where a bundle's card is: beside it, for a bundle holds nothing but itself."""
    return folder.with_name(f"{folder.name}.md")


def export_champion(run: Run, folder: Path, evaluation: Evaluation, command: str) -> Bundle:
    """Write the champion of a run to a new folder, with what was measured of it, and its card beside it.

    command: what trained it, as a person would type it. Raises RunError if there is no champion, BundleError if the
    folder exists.
    """
    iteration, bundle = champion_of(run)
    figures = {f"optimal_{row.simulations}": row.all.share for row in evaluation.agreement if row.phase == "all"} | {
        f"optimal_where_moves_differ_{row.simulations}": row.differing.share
        for row in evaluation.agreement
        if row.phase == "all"
    }
    if evaluation.estimates is not None:
        gaps = evaluation.estimates.values
        figures["value_error"] = next(gap.squared_error.mean for gap in gaps if gap.phase == "all")
    metrics = {name: figure for name, figure in figures.items() if figure is not None}
    folder.parent.mkdir(parents=True, exist_ok=True)
    written = write_bundle(
        folder,
        domain=run.domain,
        network=bundle.network,
        value_network=bundle.value_network,
        calibrators=bundle.calibrators,
        novelty=bundle.novelty,
        taught=bundle.taught(),
        certificates=bundle.certificates,
        metrics=metrics,
        created=bundle.manifest.created,
    )
    text = card(run, iteration, written, evaluation, command).encode()
    write_whole(card_of(folder), lambda file: file.write(text))
    return written


def card(run: Run, iteration: int, bundle: Bundle, evaluation: Evaluation, command: str) -> str:
    """The model card, in Markdown: how it was trained, on what, how long, and what was measured of it, on what."""
    spec = bundle.manifest.network
    size = bundle.manifest.weights_bytes / 1e6
    shape = "x".join(map(str, spec.observation_shape))
    lines = [
        f"# {run.domain.name} champion",
        "",
        f"A {spec.kind} network ({', '.join(map(str, spec.hidden))}; {spec.parameters} parameters, {size:.1f} MB) with "
        f"a policy over {spec.num_actions} actions and a value ({spec.value_head}), from {shape} numbers a position. "
        f"Bundle `{bundle.hash}`.",
        "",
        "## Trained",
        "",
        f"    {command}",
        "",
        f"Seed {run.config.seed}, {iteration} of {len(_fits(run))} iterations, {_minutes(run):.3g} minutes of work on "
        f"{usable_cores()} CPU cores ({platform.machine()}).{_budget(run)} {_origin(run)}",
        "",
        *_data(run),
        "",
        _excluded(run),
        "",
        "<details><summary>Recipe</summary>",
        "",
        "```json",
        json.dumps(run.recipe.plain(), indent=1),
        "```",
        "",
        "</details>",
        "",
        "## Measured",
        "",
        *_judged(evaluation),
        *held_out_lines(run),
        *_matches(evaluation),
        *_returns(evaluation),
        *strength_lines(run),
        *_certified(bundle),
    ]
    return "\n".join(lines)


def _judged(evaluation: Evaluation) -> list[str]:
    """By exactly known positions, if there are any."""
    if evaluation.estimates is None:
        return ["Nothing is known exactly of this domain, so there is no share of optimal moves.", ""]
    beside, last = bool(evaluation.without_network), ""
    if beside:
        last = " there, without a network |"
    return [
        f"On {evaluation.positions} positions ({_source(evaluation.positions_source)}), in {evaluation.differing} of "
        f"which legal moves differ in outcome, seed {evaluation.seed}. A move is optimal if it keeps the best of win, "
        "draw and loss under perfect play. In brackets 95 % intervals (Wilson)."
        + (f" {_WITHOUT}: what the rules prove at sight." if beside else ""),
        "",
        f"| simulations | phase | optimal moves | where moves differ |{last}",
        f"|---|---|---|---|{'---|' if beside else ''}",
        *(
            f"| {row.simulations or 'network alone'} | {row.phase} | {_share(row.all)} | {_share(row.differing)} |"
            + (f" {_share(alone) if (alone := evaluation.share_without_network(row)) else ''} |" if beside else "")
            for row in evaluation.agreement
        ),
        "",
        "Mean squared error of the value against the exact outcome: "
        + ", ".join(
            f"{gap.phase} {gap.squared_error.mean:.3f}"
            for gap in evaluation.estimates.values
            if gap.squared_error.mean is not None
        )
        + ".",
        "",
    ]


_WITHOUT = "Without a network: the same search with rollouts at its leaves and all moves alike beforehand"


def _returns(evaluation: Evaluation) -> list[str]:
    """The episodes, where there is one player."""
    if not evaluation.returns:
        return []
    return [
        f"Episodes from random openings, seed {evaluation.seed}; returns from -1 to 1, in brackets 95 % intervals. "
        "Rollouts: the same search without a network.",
        "",
        "| player | episodes | mean return |",
        "|---|---|---|",
        *(
            f"| {one.player} | {one.episodes} | {one.mean:+.3f} ({one.low:+.3f} to {one.high:+.3f}) |"
            for one in evaluation.returns
        ),
        "",
    ]


def _matches(evaluation: Evaluation) -> list[str]:
    """The games, if any were played."""
    if not evaluation.matches:
        return []
    return [
        f"Games in pairs from one random opening with sides swapped, seed {evaluation.seed}; in brackets 95 % "
        "intervals by pairs. Rollouts: the search without a network, with so many simulations.",
        "",
        "| match | games | won, drawn, lost | score | Elo |",
        "|---|---|---|---|---|",
        *(
            f"| {one.first} : {one.second} | {one.games} | {one.wins}, {one.draws}, {one.losses} "
            f"| {one.score:.1%} ({one.score_low:.1%} to {one.score_high:.1%}) "
            f"| {one.elo:+.0f} ({one.elo_low:+.0f} to {one.elo_high:+.0f}) |"
            for one in evaluation.matches
        ),
        "",
    ]


def _certified(bundle: Bundle) -> list[str]:
    """What it may decide alone, and by what proof."""
    if not bundle.certificates:
        return [
            "The probability of its first choice is no calibrated confidence: equally good moves share it. There is no "
            "certificate, so its rungs accept only on a threshold given by hand.",
            "",
        ]
    first = bundle.certificates[0]
    behind = first.ladder[-1] + (f" of {first.simulations} simulations" if first.simulations else "")
    return [
        "## Certified",
        "",
        f"Reference: {first.reference}. {first.tune.count} states to tune, {first.calibrate.count} to prove: "
        f"{first.states}. Behind the networks: {behind}. Each promise holds with confidence 1 - delta, for states "
        "drawn as these were and for this bundle alone; docs/certificates.md says how (own: of what the networks "
        "decide).",
        "",
        "| alpha: proven | delta | decided by networks | wrong of those, bound | of all, bound | work saved |",
        "|---|---|---|---|---|---|",
        *(_promise(one) for one in bundle.certificates),
        "",
    ]


def _promise(one: Certificate) -> str:
    setting, always = one.setting, one.cost_s.get(one.ladder[-1], 0.0)
    told = [one.name, f"{one.delta:g}", f"{setting.accepted.n / setting.all.n:.1%}"]
    told += [f"{tally.k} of {tally.n}, {tally.bound:.2%}" for tally in (setting.accepted, setting.all)]
    told.append(f"{1 - setting.cost_s / always:.1%}" if always > 0 else "")
    return f"| {' | '.join(told)} |"


def _fits(run: Run) -> list[dict[str, Any]]:
    return [run.read(path) for path in sorted((run.folder / "iterations").glob("[0-9]*/fit.json"))]


def _minutes(run: Run) -> float:
    """Collecting, fitting and judging; what ran side by side counts once, as the run's own figures have it."""
    seconds = [fit["seconds"] for fit in _fits(run)]
    judged = [run.read(path)["seconds"] for path in sorted((run.folder / "iterations").glob("[0-9]*/evaluation.json"))]
    return (sum(seconds) + sum(judged) + _collecting(run)) / 60


def _collecting(run: Run) -> float:
    from escalade.training.shards import shard_notes

    parallel = run.read(run.folder / "collectors.json") or {"parallel": 1}
    total = sum(shard_notes(path).get("seconds", 0.0) for path in run.store.shards_folder.glob("*.parquet"))
    return float(total / parallel["parallel"])


def _budget(run: Run) -> str:
    """What was changed on the way of how long the run was to take, which the recipe does not show."""
    changed = [f"{count:g} {name}" for name, count in run.budget.items() if count is not None]
    return f" Its budget was set to {' and '.join(changed)}, not the recipe's." if changed else ""


def _origin(run: Run) -> str:
    first = run.bundle(0)
    begun = "random weights" if first is None else f"the weights of bundle `{read_bundle(first, run.domain).hash}`"
    others = [Path(folder).name for folder in run.config.experience]
    if others:
        return f"It began with {begun}, and learned from other experience too: {', '.join(others)}."
    return f"It began with {begun} and no experience but its own."


def _data(run: Run) -> list[str]:
    run.store.refresh()
    rows, games = Counter[str](), sum(entry.games for entry in run.store.entries)
    for entry in run.store.entries:
        rows.update(entry.sources)
    if not rows:
        return ["It collected no experience of its own."]
    told = ", ".join(f"{count} {source.replace('_', '-')}" for source, count in rows.most_common())
    return [f"Rows of experience: {told}; {games} games (families of casual positions count as one each)."]


def _excluded(run: Run) -> str:
    positions = run.positions()
    named = [Path(path).name for path in run.config.exclude]
    if positions is not None and positions.seed is not None:
        named.insert(0, f"the {len(positions)} positions that chose the champion")
    if positions is None and not run.domain.has_simulator:
        named.insert(0, f"the held-out rows that chose the champion ({run.recipe.window.validation:.0%} of the games)")
    if not named and positions is None:
        return "No position was kept apart from learning: games chose the champion."
    if not named:
        return "No position was kept apart from learning: it is judged by all there are."
    images = ", and their mirror images" if run.domain.symmetries() else ""
    return f"Never learned from: {', '.join(named)}{images}."


def _source(source: str) -> str:
    return Path(source).name if source.endswith(".csv") else source


def _share(share: Share) -> str:
    if share.share is None or share.low is None or share.high is None:
        return ""
    return f"{share.share:.1%} ({share.low:.1%} to {share.high:.1%}, n={share.count})"
