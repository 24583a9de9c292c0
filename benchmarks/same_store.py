"""What a store that taught a network can prove of it, on Banking77: a network is trained on experience labelled by a
language model that is right 90 % of the time (simulated: true labels, a tenth replaced by others at random), and
certified by `--reference llm` on the same store, as a user would. What is promised is held against fresh texts,
labelled by the same simulated model.

    python benchmarks/same_store.py ../shared/data/intents/banking77

Prints a line a seed, and how many certificates have an error on the fresh texts that exceeds alpha by more than the
binomial error of that measurement (one-sided, 95 %).
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import binom

from escalade.domains.base import legal_mask
from escalade.domains.intents import Intents
from escalade.neural.bundle import read_bundle
from escalade.training.certified_report import measured
from escalade.training.recorded import record
from escalade.training.reference import Labelled
from escalade.training.rows import Rows
from escalade.training.store import ExperienceStore

RECIPE = {
    "games": 0,
    "iterations": 1,
    "network": {"hidden": [256], "dropout": 0.3},
    "last_passes": 12,
    "learner": {"batch_size": 128},
}


def read(path: Path, most: int | None) -> tuple[list[str], list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    chosen = np.random.default_rng(0).permutation(len(rows))[:most].tolist()
    return [rows[place]["text"] for place in chosen], [rows[place]["category"] for place in chosen]


def labelled_by_model(actions: np.ndarray, right: float, count: int, seed: int) -> np.ndarray:
    """The labels, but for a share that is another one."""
    random = np.random.default_rng(seed)
    others = (actions + random.integers(1, count, len(actions))) % count
    return np.where(random.random(len(actions)) < right, actions, others)


def experience(folder: Path, domain: Intents, texts: list[str], actions: np.ndarray) -> None:
    count = len(texts)
    states = [domain.parse(text) for text in texts]
    ids = np.array([f"d{number}" for number in range(count)])
    nothing = np.full(count, np.nan, np.float32)
    rows = Rows(
        game=ids,
        ply=np.zeros(count, np.int32),
        state=np.array(states),
        observation=domain.encode(states),
        legal=legal_mask(domain, states),
        policy=np.eye(domain.num_actions, dtype=np.float32)[actions],
        action=actions.astype(np.int32),
        value=nothing,
        outcome=nothing,
        source=np.full(count, "llm"),
        model=np.full(count, "simulated"),
        decision=ids,
    )
    ExperienceStore(folder, domain).add(rows, "decisions")


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = [
        str(Path(sys.executable).with_name("escalade")),
        words[0],
        "intents",
        "-o",
        "labels=labels.json",
        *words[1:],
    ]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of Banking77: train.csv and test.csv")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--texts", type=int, default=None, help="of train.csv; default all")
    parser.add_argument("--right", type=float, default=0.9, help="share of its labels that the model has right")
    parser.add_argument("--alpha", type=float, nargs="+", default=[0.12, 0.15, 0.2])
    parser.add_argument("--passes", type=int, default=12)
    given = parser.parse_args()
    texts, names = read(given.folder / "train.csv", given.texts)
    fresh, fresh_names = read(given.folder / "test.csv", given.texts)
    labels = sorted({*names, *fresh_names})
    domain = Intents(labels)
    truth, fresh_truth = (np.array([labels.index(name) for name in some]) for some in (names, fresh_names))
    broken = issued = refused = 0
    print(
        f"{len(texts)} texts, {len(labels)} labels, model right {given.right:.0%} (simulated), {len(fresh)} fresh texts"
    )
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            (folder / "labels.json").write_text(json.dumps(labels))
            (folder / "recipe.json").write_text(json.dumps({**RECIPE, "last_passes": given.passes}))
            experience(folder / "store", domain, texts, labelled_by_model(truth, given.right, len(labels), seed))
            words = ("--experience", "store", "--recipe", "recipe.json", "--seed", str(seed), "--run", "run")
            done = command(folder, "train", *words)
            if done.returncode:
                raise SystemExit(done.stderr)
            alphas = [word for alpha in given.alpha for word in ("--alpha", str(alpha))]
            words = ("--bundle", "out/train/run/champion", "--reference", "llm", "--experience", "store", *alphas)
            done = command(folder, "certify", *words, "--seed", str(seed), "--out", "certified", "--json")
            said = next((line for line in done.stderr.splitlines() if "left out" in line), "nothing left out")
            if not (folder / "certified/bundle").exists():
                refused += len(given.alpha)
                print(f"seed {seed}: {said}; no certificate: {done.stderr.strip().splitlines()[-1]}")
                continue
            bundle = read_bundle(folder / "certified/bundle", domain)
            wanted = labelled_by_model(fresh_truth, given.right, len(labels), 1000 + seed)
            judged = Labelled(
                tuple(domain.parse(text) for text in fresh),
                np.eye(len(labels), dtype=np.bool_)[wanted],
                np.arange(len(fresh)),
                "llm",
                "fresh texts",
            )
            recorded = record(domain, bundle, judged, simulations=1)
            refused += len(given.alpha) - len(bundle.certificates)
            for one in bundle.certificates:
                found = measured(bundle, one, recorded, "fresh texts")
                n, share = found.wrong_alone.count, found.wrong_alone.share or 0.0
                k = round(share * n)
                bad = binom.sf(k - 1, n, one.alpha) < 0.05 if n else False
                issued, broken = issued + 1, broken + bool(bad)
                promised = one.setting.accepted
                print(
                    f"seed {seed}: {said}; alpha {one.alpha:g}: promised {promised.bound:.1%} (wrong {promised.k} of "
                    f"{promised.n}), fresh {share:.1%} ({k} of {n}, {n / len(fresh):.0%} of all)"
                    f"{' BROKEN' if bad else ''}"
                )
    print(f"{issued} certificates, {refused} refused; {broken} with an error above alpha beyond its binomial error")


if __name__ == "__main__":
    main()
