"""Hashes of what users compute, to hold two versions of the package against each other bit for bit.

    OMP_NUM_THREADS=1 python tests/support/figures.py

prints one line per result: a hash of its figures and its name. Only public names are used, so that the script runs on
any version whose names are the same. Numbers are hashed by their bits, texts by their characters; the words of a report
are hashed apart from its numbers, since wording may change where figures must not.
"""

import dataclasses
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
import torch

import mechmem as mm


def digest(*parts: object) -> str:
    """Return sixteen hexadecimal digits that stand for frames, arrays and texts."""
    found = hashlib.sha256()
    for part in parts:
        for piece in _pieces(part):
            found.update(piece)
    return found.hexdigest()[:16]


def _pieces(part: object) -> Iterator[bytes]:
    if isinstance(part, pd.DataFrame):
        # Words may be rewritten, and columns renamed: the numbers are what must stay.
        for name in part.columns:
            column = part[name]
            if pd.api.types.is_numeric_dtype(column):
                yield np.ascontiguousarray(column.to_numpy(dtype=float, na_value=np.nan)).tobytes()
    elif isinstance(part, torch.Tensor):
        yield np.ascontiguousarray(part.detach().double().numpy()).tobytes()
    else:
        yield str(part).encode()


def visible(page: str) -> str:
    """Return the text of a page that a reader sees."""
    page = re.sub(r"(?s)<(script|style)\b.*?</\1>", " ", page)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def numbers(text: str) -> str:
    """Return the numbers of a text, in order."""
    return " ".join(re.findall(r"(?<![\w.])[-−+]?\d+(?:\.\d+)?", text))


def figures(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the hash of each result."""
    torch.set_num_threads(1)
    task = mm.ModularConfig(p=13, train_fraction=0.8, noise=mm.LabelNoise(0.3))
    config = mm.TrainConfig(task, mm.MLPConfig(width=48), steps=400, lr=0.01, evaluations=6, checkpoints=4)
    run = mm.train(config, out=folder / "modular", progress=False)
    yield "training run: weights", digest(*run.model.state_dict().values())
    yield "training run: history", digest((folder / "modular" / "history.jsonl").read_text(encoding="utf-8"))

    card = mm.audit(run, extractors=["raw", "frequency", "frequency+quadratic", "keep(ipr,0.5)+additive_free"])
    yield "scorecard", digest(card.to_frame())
    yield "scorecard: held-out structure", digest(card.structure.S, card.structure.kappa, card.structure.Z)
    yield "comparison of scorecards", digest(mm.compare([card, dataclasses.replace(card, name="again")]).to_frame())
    yield "pruning curve", digest(mm.ablate(run, by="ipr", order=("low", "high", "random")).to_frame())
    yield "patch effects: neurons", digest(mm.patch(run, units="neuron").to_frame())
    yield "patch effects: frequencies", digest(mm.patch(run, units="frequency", direction="denoising").to_frame())
    edits = [mm.Edit("hook_hidden", "zero", neurons=[0, 3]), mm.Edit("hook_hidden", "mean")]
    yield "interventions", digest(mm.intervene(run, edits).to_frame())
    neurons = mm.neuron_scores(run, ["ipr", "strength", "weight_norm", "ablation_effect(train_noisy)"])
    yield "table of neuron scores", digest(neurons.to_frame())
    for name in ("fourier_classification", "suppression", "partition", "progress_measures", "frequency_reconstruction"):
        yield f"analysis: {name}", digest(mm.analyse(run, name).to_frame())
    yield "neuron's card", digest(mm.neuron(run, 3).to_frame())
    over = mm.over_training(run, ["raw", "frequency+quadratic", "ipr", "structure", "loss"])
    yield "table over training", digest(over.to_frame(), over.frame("structure"))
    mm.write_report([(run, card)], folder / "report.html")
    text = visible((folder / "report.html").read_text(encoding="utf-8"))
    yield "report: numbers", digest(numbers(text))
    yield "report: words", digest(text)

    images = mm.ImageConfig("digits", train=150, test=80, noise=mm.LabelNoise(0.2))
    masked = mm.ImageMLPConfig(widths=(48, 48), biases=False, masks=mm.TurnOver(layers=(0, -1)))
    settings = {"optimizer": "sgd", "lr": 0.01, "weight_decay": 0.0, "batch_size": 32}
    digits = mm.train(
        mm.TrainConfig(images, masked, steps=200, evaluations=5, checkpoints=4, **settings),
        out=folder / "digits",
        progress=False,
    )
    for probe in ("class_mean", "masc", "knn"):
        yield f"probe table: {probe}", digest(mm.probe_layers(digits, probe=probe).to_frame())
    scores = ["loss", "margin", "self_influence", "learning_speed", "forgetting_events", "input_curvature"]
    table = mm.example_scores(digits, scores)
    yield "table of example scores", digest(table.to_frame())
    for name in ("class_manifolds", "layer_similarity", "prediction_depth", "memorized_examples"):
        yield f"analysis: {name}", digest(mm.analyse(digits, name).to_frame())
    influence = mm.influence(digits, targets=digits.task.test_ids[:10])
    yield "influence", digest(influence.to_frame())
    ledger = mm.reproduce("doshi_2024", scale="smoke", out=folder / "recipe", workers=1, progress=False)
    yield "recipe at smoke scale", digest(ledger.to_frame())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        for name, found in figures(Path(scratch)):
            sys.stdout.write(f"{found}  {name}\n")
            sys.stdout.flush()
