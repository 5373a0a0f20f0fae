"""Check that an edit at a hook point reaches the logits."""

from __future__ import annotations

import contextlib
import warnings

import torch
from torch import Tensor

from mechmem.core.inputs import run_on
from mechmem.core.subject import Subject
from mechmem.errors import DiscardedEditError
from mechmem.models.hooks.hooking import hooked
from mechmem.models.hooks.running import device_of, evaluating
from mechmem.models.networks.subnetworks import mask_layers, of_examples

_EXAMPLES = 4


def check_edit(subject: Subject, point: str) -> None:
    """Refuse a point at which edits are discarded, so that they are not mistaken for edits without an effect.

    Some points only display a value that the model has already used, or computes a second time for display:
    `hook_attn_scores` of a `TransformerBridge` whose attention is left to the wrapped module. The model runs on a few
    training examples, and the point passes if the logits depend on its value: if there is a path of derivatives from
    it to the logits, or, if the model records none, if other values there change the logits. A path along which the
    derivative happens to be zero counts. The check runs once per subject and state of its model.

    Args:
        subject: the model, its task and its roles.
        point: name of a hook point; `name#i` for firing i of a point that fires several times.

    Raises:
        DiscardedEditError: no edit at the point reaches the logits.
        UnknownNameError: there is no such point.
        ActivationError: the point did not fire, or does not hold what its name says.
        ConfigError: the model is compiled.
    """
    if not subject.memo(f"edits at {point} reach the logits", lambda: _reaches(subject, point)):
        raise DiscardedEditError(
            f"an edit at {point!r} has no effect: in this model the logits do not depend on the value of this point"
        )


def _reaches(subject: Subject, point: str) -> bool:
    model, leaves = subject.model, []

    def cut(value: Tensor) -> Tensor | None:
        if not value.is_floating_point():
            return None
        leaves.append(value.detach().clone().requires_grad_())
        return leaves[0].clone()

    def logits() -> Tensor:
        ids = subject.task.train_ids[:_EXAMPLES]
        with of_examples(mask_layers(model), subject.task.source(ids)):
            return subject.roles.output.read(run_on(model, subject.task.batch(ids)[0].to(device_of(model))))

    # Even if the caller has disabled gradients: without a graph the check sees nothing.
    with evaluating(model), torch.inference_mode(False), warnings.catch_warnings():
        # The bridge's own warning about such an edit; here it is an error.
        warnings.filterwarnings("ignore", message=".*The edit is discarded")
        # A model that leaves torch and returns may refuse differentiation; it is then tried with other values.
        with torch.enable_grad(), contextlib.suppress(RuntimeError):
            with hooked(model, point, cut):
                found = logits()
            if leaves and found.requires_grad:
                if torch.autograd.grad(found.sum(), leaves, allow_unused=True)[0] is not None:
                    return True
        with torch.no_grad():
            plain = logits()
            with hooked(model, point, other_values):
                return not torch.equal(plain.nan_to_num(), logits().nan_to_num())


def other_values(value: Tensor) -> Tensor:
    """Return different values that are valid at the same point."""
    if value.is_floating_point() or value.is_complex():
        return value + (1 + value.abs()) * torch.linspace(0.5, 1.5, value.numel()).to(value).reshape(value.shape)
    return value.flatten().roll(1).reshape(value.shape)  # symbols and positions stay valid
