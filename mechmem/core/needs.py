"""Needs of plugins, and the prior knowledge they may declare."""

from __future__ import annotations

from torch import nn

from mechmem.core.subject import Subject

KNOWLEDGE = {
    "pairs": "that an input is a pair",
    "input_group": "the group that the input symbols form",
    "output_group": "the order of the classes in the group",
    "slopes": "that the answer is ±a ±b, not a + 2b",
    "operation": "the operation, hence which inputs share an answer",
    "given_labels": "the labels it was trained on, right or wrong",
    "true_train_labels": "the true labels of the training examples",
    "noise_mask": "which training labels are wrong",
    "test_inputs": "the other held-out inputs (transductive: reads the whole grid)",
    "checkpoints": "earlier states of the network",
    "test_labels": "the test labels (an optimistic figure)",
}
"""Tokens of prior knowledge; an extractor declares those that it uses, checked by contract tests."""

TOLD_NOTHING = frozenset({"pairs", "test_inputs"})
"""Knowledge without which there is no table of answers: that inputs are pairs, and all of them."""


def has(subject: Subject, need: str) -> bool:
    """Return whether a subject has something that a plugin lists in `needs`, e.g. "role:input_embedding" or "pairs"."""
    kind, _, value = need.partition(":")
    if kind == "role":
        return bool(getattr(subject.roles, value))
    if kind == "observations":
        return bool(getattr(subject.run, "observed", False))
    if kind in ("run", "retrainer"):
        return getattr(subject, kind) is not None
    if kind == "pairs":
        return subject.task.operands is not None
    if kind in ("turn_over", "example_tied"):
        return any(getattr(module, "kind", None) == kind for module in subject.model.modules())
    if kind == "linear_layers":
        return any(isinstance(module, nn.Linear | nn.Conv2d) for module in subject.model.modules())
    if kind == "augmentation":
        return getattr(subject.task, "changes", False)
    return getattr(subject.task, kind) is not None
