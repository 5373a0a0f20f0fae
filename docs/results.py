"""The figures of the reference that belong to many plugins at once: python docs/results.py

Writes `results/*.safetensors` from the gallery's runs, and the pictures of them, which need Chromium.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import mechmem as mm
from mechmem.core.export import one_browser
from mechmem.core.plugins import plugins
from mechmem.core.results import Result

HERE = Path(__file__).parent
RUNS = HERE.parent / "examples" / "runs"

SURGERIES = (
    "raw",
    "quadratic",
    "cosine_ideal",
    "drop(fraction=0.3)",
    "keep(fraction=0.3)",
    "embedding_frequencies(5)",
    "readout_frequencies(5)",
    "frequency",
    "random_frequency",
    "only_frequencies((1,2,3,4,5))",
    "without_frequencies((1,2,3,4,5))",
    "low_rank",
    "velpic_readout",
    "shared_subspaces",
    "shuffled_subspaces",
)
EDITS = ("curvature_directions", "random_directions", "low_rank(layers.*)", "drop(weight_norm(of=w))")
PAIRS = (
    "raw",
    "additive_free",
    "same_answer",
    "shared_activations",
    "energy_ranked",
    "diagonal",
    "neuron_filtration",
)
LAYERS = ("raw", "class_mean", "knn", "linear_probe", "masc", "qda", "velpic")


def example_tied() -> mm.Subject:
    """Train a network whose dropout gives every training image units of its own."""
    task = mm.ImageConfig("digits", train=500, test=300, noise=mm.LabelNoise(0.2))
    model = mm.ImageMLPConfig(widths=(128, 128), masks=mm.ExampleTied())
    return mm.train(mm.TrainConfig(task, model, lr=0.003, weight_decay=0.0, batch_size=50, steps=1500), progress=False)


def recited(network: mm.Subject) -> dict[str, Result]:
    """Return what a network of sequences recites by each sequence's own units, and what edits take from it."""
    with mm.subnetwork(network, "own"):
        return {
            "memorized_sequences": mm.memorized_sequences(network, [2, 8, 16]),
            "sequence_edits": mm.sequence_edits(
                network, ["drop_memory", "drop(random,0.3)", "low_rank(blocks.1.mlp.W_out,8)"]
            ),
        }


def results(runs: Path) -> dict[str, Result]:
    """Return the results by name; the controls that they need are trained in copies of the runs."""
    add, digits, turn_over = (mm.load(runs / run) for run in ("add_31", "digits", "turn_over"))
    neurons, examples = (
        # Removing one neuron changes a loss, and no accuracy: its effect is measured by the loss.
        [
            name.replace("ablation_effect", "ablation_effect(measure=loss)")
            for name, cls in sorted(plugins(kind).items())
            if name == cls.name
        ]
        for kind in ("neuron_scores", "example_scores")
    )
    return {
        "surgeries": mm.audit(add, SURGERIES),
        "masks": mm.audit(turn_over, ["raw", "flip_masks", "flipped"]),
        "edit_curves": mm.edit_curves(digits, EDITS),
        "example_tied": mm.audit(example_tied(), ["raw", "drop_memory"]),
        **recited(mm.load(runs / "sequences")),
        "readouts_pairs": mm.audit(add, PAIRS),
        "readouts_layers": mm.audit(digits, LAYERS),
        "neuron_scores": mm.neuron_scores(add, neurons),
        "example_scores": mm.example_scores(turn_over, examples),
    }


if __name__ == "__main__":
    with one_browser(), tempfile.TemporaryDirectory() as copies:
        shutil.copytree(RUNS, copies, dirs_exist_ok=True)
        for name, result in results(Path(copies)).items():
            result.save(HERE / "results" / f"{name}.safetensors")
            result.export(HERE / "results" / f"{name}.svg")
