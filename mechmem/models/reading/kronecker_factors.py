"""Kronecker factors of the curvature of the loss in the weights of linear layers and convolutions."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.inputs import run_on
from mechmem.core.randomness import generator
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError, NotFiniteError
from mechmem.math.blocks import blocks
from mechmem.models.hooks.running import block_rows, device_of, differentiating, full_precision
from mechmem.models.networks.subnetworks import mask_layers, of_examples
from mechmem.models.reading.forward import check_logits, logits_of

KINDS = (nn.Linear, nn.Conv2d)

ROWS_OF_PATCHES = 64
"""Most examples whose patches, nine numbers per pixel of a 3×3 convolution, are held at once."""

Factors = tuple[Float[Tensor, "input input"], Float[Tensor, "output output"]]
"""Sums of the outer products of a layer's inputs, and of the gradients at its outputs, in float64 on the CPU."""


@dataclasses.dataclass(frozen=True, eq=False)
class Labelling:
    """Labels with which the loss is differentiated.

    Attributes:
        labels: one class per example. Shape (example).
        weights: weight of each example in the sum of the gradients' outer products; None for 1. Shape (example).
    """

    labels: Int[Tensor, " example"]
    weights: Float[Tensor, " example"] | None = None


def has_factors(module: nn.Module) -> bool:
    """Return whether a module is a linear layer, or a convolution without groups whose padding is zeros."""
    plain = not isinstance(module, nn.Conv2d) or (module.groups == 1 and module.padding_mode == "zeros")
    return isinstance(module, KINDS) and plain


def parameter_of(layer: str, parameter: str) -> str:
    """Return the full name of a layer's parameter; a network that is one layer has no name."""
    return f"{layer}.{parameter}" if layer else parameter


def some_examples(subject: Subject, count: int, seed: int) -> Int[Tensor, " example"]:
    """Return so many of the training examples, drawn at random; all if there are no more."""
    sources = subject.task.sources
    return sources[torch.randperm(len(sources), generator=generator(seed, "curvature"))[:count].sort().values]


def drawn_labels(subject: Subject, ids: Int[Tensor, " example"], seed: int) -> Int[Tensor, " example"]:
    """Return a label for each example, drawn from the network's own probabilities.

    Raises:
        NotFiniteError: a logit is NaN or infinite.
    """
    below = own_probabilities(subject, ids).cumsum(1)
    height = torch.rand(len(ids), 1, generator=generator(seed, "labels of the model"), dtype=torch.float64)
    return (below < height).sum(1).clamp_max(below.shape[1] - 1)


def own_probabilities(subject: Subject, ids: Int[Tensor, " example"]) -> Float[Tensor, "example class"]:
    """Return the network's own probabilities, in float64.

    Raises:
        NotFiniteError: a logit is NaN or infinite.
    """
    logits = logits_of(subject.model, subject.task, ids, subject.roles.output).double()
    check_logits(logits, ids)
    return logits.softmax(1)


@differentiating()
def kronecker_factors(
    subject: Subject,
    layers: Mapping[str, Iterable[str]],
    ids: Int[Tensor, " example"],
    labellings: Sequence[Labelling],
) -> dict[str, Factors]:
    """Return the factors A and S of each layer that takes part in the network's pass, as sums over examples.

    The gradients are those of the cross-entropy with each labelling's labels, and S is the sum over labellings.

    Args:
        subject: a network in evaluation mode that may be differentiated, and whose parameters need no gradients.
        layers: the parameters of each layer, "weight" or "bias" or both, by its module's name; with a bias the inputs
            have a further column of ones.
        ids: the examples.
        labellings: the labels; each costs a backward pass, and without any S is 0.

    Raises:
        MissingNeedError: a layer acts several times in a pass.
        NotFiniteError: a factor is NaN or infinite, as of inputs whose squares are too large.
    """
    model, device = subject.model, device_of(subject.model)
    modules = {name: model.get_submodule(name) for name in layers}
    patches = any(isinstance(each, nn.Conv2d) for each in modules.values())
    sums: dict[str, tuple[Any, Any]] = {}
    for part in blocks(len(ids), ROWS_OF_PATCHES if patches else block_rows(model)):
        held: dict[str, tuple[Tensor, Tensor]] = {}
        with contextlib.ExitStack() as stack:
            for name, module in modules.items():
                handle = module.register_forward_hook(_keeping(held, name))
                stack.callback(handle.remove)
            stack.enter_context(of_examples(mask_layers(model), subject.task.source(ids[part])))
            stack.callback(model.requires_grad_, False)
            model.requires_grad_(True)
            logits = subject.roles.output.read(run_on(model, subject.task.batch(ids[part])[0].to(device)))
        logits = full_precision(logits).double()
        reached = {name: pair for name, pair in held.items() if pair[1].requires_grad}
        for name, (inputs, _) in reached.items():
            a = _columns(modules[name], inputs, set(layers[name]))
            outputs = len(modules[name].weight)  # pyright: ignore[reportArgumentType]
            before = sums.get(name, (0, torch.zeros(outputs, outputs, dtype=torch.float64)))
            sums[name] = before[0] + (a.T @ a).double().cpu(), before[1]
        for number, labelling in enumerate(labellings if reached else (), 1):
            loss = F.cross_entropy(logits, labelling.labels[part].to(device), reduction="sum")
            slopes = torch.autograd.grad(
                loss,
                [out for _, out in reached.values()],
                materialize_grads=True,
                allow_unused=True,
                retain_graph=number < len(labellings),
            )
            for name, slope in zip(reached, slopes, strict=True):
                s = _rows(modules[name], slope, None if labelling.weights is None else labelling.weights[part])
                sums[name] = sums[name][0], sums[name][1] + (s.T @ s).double().cpu()
    for name, factors in sums.items():
        for what, factor in zip(("inputs", "gradients"), factors, strict=True):
            if not factor.isfinite().all():
                raise NotFiniteError(f"the squared {what} of the layer {name!r} are NaN or infinite: scale its inputs")
    return sums


def _columns(module: nn.Module, inputs: Tensor, parameters: set[str]) -> Float[Tensor, "row input"]:
    """Return what each column of a layer's gradient is multiplied with, at every example and position."""
    if isinstance(module, nn.Conv2d):
        # Left, right, top, bottom: "same" padding need not be symmetric.
        padded = F.pad(inputs, module._reversed_padding_repeated_twice)
        patches = F.unfold(padded, module.kernel_size, module.dilation, 0, module.stride)  # pyright: ignore
        found = rearrange(patches, "e input place -> (e place) input")
    else:
        found = rearrange(inputs, "... input -> (...) input")
    found = full_precision(found)
    parts = [found] if "weight" in parameters else []
    return torch.cat(parts + ([found.new_ones(len(found), 1)] if "bias" in parameters else []), 1)


def _rows(module: nn.Module, slope: Tensor, weights: Float[Tensor, " example"] | None) -> Float[Tensor, "row output"]:
    """Return the gradient at a layer's output for every example and position, times the root of its weight."""
    pattern = "e output ... -> (e ...) output" if isinstance(module, nn.Conv2d) else "... output -> (...) output"
    slope = full_precision(slope)
    if weights is not None:
        slope = slope * weights.sqrt().to(slope).reshape(-1, *[1] * (slope.ndim - 1))
    return rearrange(slope, pattern)


def _keeping(held: dict[str, tuple[Tensor, Tensor]], name: str) -> Any:
    def keep(_module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if name in held:
            raise MissingNeedError(f"the layer {name!r} acts several times in a pass, and has no Kronecker factors")
        held[name] = inputs[0].detach(), output
        # The network may change the output in place.
        return output.clone()

    return keep
