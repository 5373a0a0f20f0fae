"""How far the rule is read told nothing, over noise and width: python tests/support/told_nothing_frontier.py DIR

A directory of runs and of one line per network; the same command goes on, and several processes share the work
(OMP_NUM_THREADS=1; bfloat16 is slow on processors without units for it). `frontier.csv` in it has the lines of all
networks together.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

import mechmem as mm
from mechmem.models.reading.shared_vectors import shared_vectors
from mechmem.recipes.measures import accuracies, structure

READ = "shared_subspaces+additive_free"
STRONGER = "shared_subspaces(strength=10)+additive_free"
TOLD = "frequency+quadratic"
NOISES = (0.3, 0.5, 0.6, 0.4)
WIDTHS = (128, 512, 2048)
STEPS = 3000


@dataclasses.dataclass(frozen=True)
class Network:
    """One network of the diagram, or several of them read as one.

    Attributes:
        noise: share of wrong labels ξ.
        width: number of neurons N of each network.
        steps: length of the training.
        seeds: number of networks, on the same labels, whose neurons are read together.
    """

    noise: float
    width: int
    steps: int = STEPS
    seeds: int = 1

    def label(self) -> str:
        """Return a name for files."""
        return f"noise_{self.noise:g}_width_{self.width}_steps_{self.steps}_seeds_{self.seeds}"

    def configs(self) -> list[mm.TrainConfig]:
        """Return the config of every network: addition mod 59, α = .8, AdamW at 1e-3, weight decay 1, bfloat16."""
        task = mm.ModularConfig(p=59, train_fraction=0.8, noise=mm.LabelNoise(self.noise), seed=0)
        model = mm.MLPConfig(self.width)
        return [
            mm.TrainConfig(
                task,
                model,
                weight_decay=1.0,
                steps=self.steps,
                precision="bf16",
                seed=seed,
                evaluations=30,
                checkpoints=1,
            )
            for seed in range(self.seeds)
        ]


NETWORKS = (
    *(Network(noise, width) for noise in NOISES for width in WIDTHS),
    *(Network(0.5, 512, seeds=seeds) for seeds in (4, 16)),
    Network(0.5, 512, steps=30_000),
    Network(0.5, 8192),
    Network(0.6, 8192),
)


def rows(subject: mm.Subject) -> Iterator[tuple[str, float]]:
    """Yield what is measured of one network."""
    for quantity, x, value in accuracies("raw", READ, STRONGER, TOLD)(subject):
        if math.isnan(x):
            yield quantity, value
    for quantity, _, value in structure(subject):
        yield quantity, value
    best = max(shared_vectors(subject).tried, key=lambda each: each.excess)
    yield "clusters", float(best.count)
    yield "excess", best.excess


def measured(network: Network, out: Path) -> pd.DataFrame:
    """Train and measure."""
    subjects = [
        mm.train(config, out=out / "runs" / f"{network.noise:g}_{network.width}_{network.steps}_{config.seed}")
        for config in network.configs()
    ]
    line = dataclasses.asdict(network)
    line |= dict(rows(subjects[0] if len(subjects) == 1 else mm.pool_neurons(subjects)))
    return pd.DataFrame([line])


def main(out: Path) -> None:
    """Measure the networks that no other process has begun, and write the lines of all that are there."""
    out.mkdir(parents=True, exist_ok=True)
    for network in NETWORKS:
        try:
            (out / f"{network.label()}.begun").touch(exist_ok=False)
        except FileExistsError:
            continue
        measured(network, out).to_csv(out / f"{network.label()}.csv", index=False)
        lines = [pd.read_csv(path) for path in sorted(out.glob("noise_*.csv"))]
        pd.concat(lines).to_csv(out / "frontier.csv", index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
