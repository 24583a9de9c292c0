"""The populations of `promise.py`: what the rungs answered in many states, what labels say of it, and the true losses.

Labels can be made wrong at random: the reference then names one action that is not right, so that whatever is measured
against it, the oracle included, counts the noise as loss.
"""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from escalade.domains.catalog import load_domain
from escalade.neural.bundle import read_bundle
from escalade.neural.certificate import Covers
from escalade.neural.confidence import policy_features
from escalade.neural.fixed_sequence import p_value
from escalade.neural.novelty import fit_novelty
from escalade.neural.sources import bundle_folder
from escalade.training.calibrate import fit_calibrator
from escalade.training.exact_labels import exact_labels
from escalade.training.recorded import NOMINAL_S, Recorded, record
from escalade.training.threshold_path import Answers, decide, swept, threshold_grid

POLICY_S = 0.0002
"""What a policy's answer about a text is taken to cost, in seconds."""


@dataclass(frozen=True, eq=False)
class Source:
    """Recorded decisions in N states, and what is right there: `acceptable` `[N, A]` bool, of the `legal` `[N, A]`."""

    recorded: Recorded
    acceptable: NDArray[np.bool_]
    legal: NDArray[np.bool_]


def played(
    name: str, bundle: str, states: int, simulations: int, seed: int, folder: Path, positions: Path | None = None
) -> Source:
    """So many decisions of each rung of a bundle in casual games, the solver's answers kept in `folder`; or all those
    in a file of solved positions."""
    import torch

    torch.set_num_threads(1)
    domain = load_domain(name)
    opened = read_bundle(bundle_folder(bundle), domain)
    with Progress(console=Console(stderr=True)) as progress:
        bars: dict[str, Any] = {}

        def tell(what: str, done: int, of: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=of)
            progress.update(bars[what], completed=done)

        labelled = exact_labels(
            domain,
            path=positions,
            count=states,
            seed=seed,
            bundle=opened,
            folder=folder,
            on_progress=lambda done, of: tell("solver", done, of),
        )
        recorded = record(domain, opened, labelled, simulations=simulations, seed=seed, on_progress=tell)
    legal = np.zeros(labelled.acceptable.shape, np.bool_)
    for row, text in enumerate(labelled.states):
        legal[row, list(domain.legal_actions(domain.parse(text)))] = True
    return Source(recorded, labelled.acceptable, legal)


def classified(folder: Path, teach: int, seed: int) -> Source:
    """Labelled texts (`train.csv` and `test.csv`, columns `text` and `category`): a logistic regression on the hashed
    n-grams of domain `intents` is fitted to `teach` of the train texts, and decides all the others."""
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    splits = []
    for name in ("train.csv", "test.csv"):
        with (folder / name).open(newline="", encoding="utf-8") as file:
            splits.append([(row["text"], row["category"]) for row in csv.DictReader(file)])
    labels = sorted({label for rows in splits for _, label in rows})
    domain: Any = load_domain("intents", {"labels": labels})
    order = np.random.default_rng(seed).permutation(len(splits[0]))
    taught = [splits[0][place] for place in order[:teach]]
    others = [splits[0][place] for place in order[teach:]] + splits[1]
    model = LogisticRegression(C=30, max_iter=300)
    model.fit(csr_matrix(domain.encode([text for text, _ in taught])), [label for _, label in taught])
    texts = tuple(domain.format(domain.parse(text)) for text, _ in others)
    observations = domain.encode(texts)
    chances = np.zeros((len(others), len(labels)), np.float32)
    chances[:, [domain.parse_action(str(name)) for name in model.classes_]] = model.predict_proba(
        csr_matrix(observations)
    )
    acceptable = np.zeros(chances.shape, np.bool_)
    acceptable[np.arange(len(others)), [domain.parse_action(label) for _, label in others]] = True
    legal = np.ones(chances.shape, np.bool_)
    actions = np.stack([chances.argmax(axis=1), acceptable.argmax(axis=1)], axis=1)
    recorded = Recorded(
        states=texts,
        rungs=("policy", "reference"),
        actions=actions,
        features={"policy": policy_features(chances, legal, np.zeros(len(others), np.float32))},
        right=np.take_along_axis(acceptable, actions, axis=1),
        observations=observations,
        cost_s=np.array([POLICY_S, NOMINAL_S]),
        group=np.arange(len(others)),
        tried=np.zeros(len(others), np.int64),
        ruled_out=np.zeros((len(others), 1), np.bool_),
    )
    return Source(recorded, acceptable, legal)


def mislabelled(source: Source, noise: float, seed: int) -> Recorded:
    """The same decisions, where in a share `noise` of the states with a wrong action the reference names one of those,
    at random. A rung that is the reference itself goes along."""
    random = np.random.default_rng((seed, round(1000 * noise)))
    faults = source.legal & ~source.acceptable
    turned = np.flatnonzero((random.random(len(faults)) < noise) & faults.any(axis=1))
    named = np.where(faults[turned], random.random((len(turned), faults.shape[1])), -1.0).argmax(axis=1)
    acceptable = source.acceptable.copy()
    acceptable[turned] = False
    acceptable[turned, named] = True
    right = np.take_along_axis(acceptable, source.recorded.actions, axis=1)
    if source.recorded.rungs[-1] == "reference":
        right[:, -1] = True
    return dataclasses.replace(source.recorded, right=right)


def population(recorded: Recorded, fit: int, seed: int) -> Answers:
    """The decisions with the confidences that calibrators, fitted to so many others, make of them."""
    order = np.random.default_rng(seed).permutation(len(recorded))
    fitted, rest = recorded.take(order[:fit]), recorded.take(order[fit:])
    calibrators = {
        rung: fit_calibrator(rung, fitted.features[rung], fitted.right[:, place], seed=seed)
        for place, rung in enumerate(recorded.rungs[:-1])
    }
    return rest.answers(calibrators, fit_novelty(fitted.observations, fitted.states))


class Losses:
    """Counts of a set of decisions for each of some settings: networks' own and wrong ones, all and wrong ones."""

    def __init__(self, answers: Answers, path: NDArray[np.float64], covers: Covers) -> None:
        neural, self.covers = len(answers.rungs) - 1, covers
        rows = []
        for vector in path:
            found = decide(answers, vector)
            own = found.source < neural
            rows.append((own.sum(), found.wrong[own].sum(), len(own), found.wrong.sum()))
        self.counts = np.array(rows, np.int64).reshape(-1, 4)

    @property
    def worst(self) -> NDArray[np.float64]:
        """The larger of both shares, for each setting; of the networks' own where only they are covered."""
        own, wrong_own, every, wrong = self.counts.T
        alone = wrong_own / np.maximum(own, 1)
        return alone if self.covers == "own" else np.maximum(alone, wrong / every)

    def p_values(self, alpha: float) -> list[float]:
        """Of each setting."""
        own = [p_value(b, a, alpha) for a, b, _, _ in self.counts.tolist()]
        every = [p_value(d, c, alpha) for _, _, c, d in self.counts.tolist()]
        return own if self.covers == "own" else list(map(max, own, every))


class Oracle:
    """What who knows the true losses would do. share: of states that networks decide at the boldest setting within
    alpha; best `[R - 1]`: the setting whose loss is the most standard errors below alpha."""

    def __init__(self, everything: Answers, alpha: float, covers: Covers) -> None:
        neural = len(everything.rungs) - 1
        grids = [threshold_grid(everything, rung) for rung in range(neural)]
        if neural == 1:
            grids = [np.unique(np.concatenate((everything.confidence[:, 0], [1.0])))]
        accepted, wrong, wrong_all, _ = (each.ravel() for each in swept(everything, grids))
        own = wrong / np.maximum(accepted, 1)
        within = (own <= alpha) & (accepted > 0)
        errors = (alpha - own) * np.sqrt(accepted)
        if covers == "all":
            within &= wrong_all <= alpha
            errors = np.minimum(errors, (alpha - wrong_all) * np.sqrt(len(everything)))
        self.share = float(accepted[within].max(initial=0)) / len(everything)
        vectors = np.stack([axis.ravel() for axis in np.meshgrid(*grids, indexing="ij")], axis=1)
        self.best: NDArray[np.float64] = vectors[errors.argmax()]
