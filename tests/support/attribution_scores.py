"""How good every method of influence is on digits: python tests/support/attribution_scores.py OUT.csv

Trains the network of docs/label_errors.md, others like it on random halves of its training set, and others without
single or without the most helpful examples; OUT.csv is what docs/attributions.csv holds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import mechmem as mm
from mechmem.examples.influence_score import influence_scores

CONFIG = mm.TrainConfig(
    task=mm.ImageConfig("digits", train=500, test=200, noise=mm.LabelNoise(0.1)),
    model=mm.ImageMLPConfig((64, 64)),
    batch_size=32,
    steps=500,
)


def main(out: Path) -> None:
    """Measure."""
    torch.set_num_threads(1)
    run = mm.train(CONFIG, progress=False)
    methods = [*sorted(influence_scores()), "knn_shapley(point=inputs)"]
    found = mm.attribution_quality(run, methods, networks=64, left_out=40, removals=(20, 60), flipped=10)
    found.to_frame().round(4).to_csv(out, index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
