"""The order of the examples in the gallery."""

from __future__ import annotations

EXAMPLES = (
    "two_networks",
    "discover_rule",
    "over_training",
    "neurons_and_waves",
    "suppression",
    "pruning",
    "patching",
    "phase_diagram",
    "transformer",
    "layers_of_images",
    "benign_memorization",
    "memorized_images",
    "memorized_passages",
    "finding_wrong_labels",
    "huggingface_trainer",
    "lightning_module",
    "labels_in_a_frame",
    "your_own_network",
    "resnet",
    "bert",
    "plugin",
    "ledger",
)


def place(name: str) -> int:
    """Return where an example stands: sphinx-gallery's key for sorting."""
    return EXAMPLES.index(name.removesuffix(".py"))
