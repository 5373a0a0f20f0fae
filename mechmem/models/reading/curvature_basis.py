"""Weights in the eigenbasis of their loss curvature, and copies of the network without the flattest directions."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mechmem.core.config import check_fraction
from mechmem.core.in_words import shown
from mechmem.core.randomness import generator
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError, unknown_name
from mechmem.math.logits import check_finite
from mechmem.models.hooks.hooking import warn_of_leftovers
from mechmem.models.reading.kronecker_factors import (
    Labelling,
    drawn_labels,
    has_factors,
    kronecker_factors,
    own_probabilities,
    parameter_of,
    some_examples,
)
from mechmem.models.reading.separate import check_subject

Labels = Literal["model", "drawn", "given"]

TIES = 1e-9
"""Curvatures that differ by no more than this share are the same: nothing tells their directions apart."""
ROUNDING = 1e-12
"""Curvature below this share of the largest is the rounding of 0 in float64."""


@dataclasses.dataclass(frozen=True, eq=False)
class CurvatureBasis:
    """The eigenbasis of a layer's Kronecker-factored curvature, in float64.

    Attributes:
        outputs: eigenvectors u_i of the gradients' second moments, in columns. Shape (output, output).
        inputs: eigenvectors v_j of the inputs' second moments, in columns. Shape (input, input).
        mass: curvature λ_i μ_j along u_i v_jᵀ, as a share of the layer's; 0 everywhere if the loss does not depend on
            the layer. Shape (output, input).
    """

    outputs: Float[Tensor, "output output"]
    inputs: Float[Tensor, "input input"]
    mass: Float[Tensor, "output input"]

    @functools.cached_property
    def _descending(self) -> tuple[Float[Tensor, " direction"], Int[Tensor, " direction"]]:
        """The curvatures, largest first, and their places; a curve asks for them at every share."""
        return self.mass.flatten().sort(descending=True, stable=True)

    def kept(self, keep: float) -> Bool[Tensor, "output input"]:
        """Return the directions with the largest curvature that together have this share of it.

        Directions of the same curvature are kept or dropped together, since any rotation of them is as good a basis.
        """
        if keep >= 1 or not self.mass.any():
            return torch.ones_like(self.mass, dtype=torch.bool)
        ordered, _ = self._descending
        reached = ordered.cumsum(0) >= keep * (1 - TIES)
        last = int(reached.nonzero()[0]) if reached.any() else len(ordered) - 1
        return self.mass >= ordered[last] * (1 - TIES)

    def shuffled(self, kept: Bool[Tensor, "output input"], draw: torch.Generator) -> Bool[Tensor, "output input"]:
        """Return as many of the directions with any curvature, drawn by their place in the order of it."""
        _, order = self._descending
        # The rest is an eigenspace of 0, in which no basis is better than another.
        curved = max(int((self.mass > ROUNDING * self.mass.max()).sum()), int(kept.sum()))
        chosen = torch.randperm(curved, generator=draw)[: int(kept.sum())]
        found = torch.zeros_like(kept).flatten()
        found[order[chosen]] = True
        return found.reshape(kept.shape)

    def projected(
        self, weights: Float[Tensor, "output ..."], kept: Bool[Tensor, "output input"]
    ) -> Float[Tensor, "output ..."]:
        """Return a layer's weights without the directions that are not kept."""
        matrix = rearrange(weights.detach().cpu().double(), "output ... -> output (...)")
        turned = self.outputs.T @ matrix @ self.inputs
        return (self.outputs @ (turned * kept) @ self.inputs.T).reshape(weights.shape).to(weights)


def curvature_bases(
    subject: Subject, layers: str = "", labels: Labels = "model", examples: int = 2000, seed: int = 0
) -> dict[str, CurvatureBasis]:
    """Return the curvature bases of some weights by the parameter's name; computed once per subject and state.

    Args:
        subject: any network.
        layers: names or patterns of the weights of nn.Linear and nn.Conv2d, with spaces between them; by default all
            that act in the network's pass but the readout's, or the only one there is.
        labels: labels of the gradients: every class with the network's own probability ("model"), one class per example
            drawn from these ("drawn"), or the given one ("given").
        examples: number of training examples in the means.
        seed: seed of the draws.

    Raises:
        UnknownNameError: a name or pattern matches no such weight.
        MissingNeedError: the network has none, or a named layer takes no part in the network's pass or acts several
            times in it.
        NotFiniteError: a weight, an input of a layer or a logit is NaN or infinite.
        UnsteadyNetworkError: the network is random in evaluation mode, or examples act on each other in it.
    """
    key = f"curvature bases {layers!r} {labels} {examples} {seed}"
    return subject.memo(key, lambda: _bases(subject, layers, labels, examples, seed))


def without_flat_directions(
    subject: Subject, bases: Mapping[str, CurvatureBasis], keep: float, shuffle: int | None = None
) -> Subject:
    """Return the subject with a copy of its model whose weights lack the directions of the least curvature.

    Args:
        subject: the network that the bases are of.
        bases: bases by the parameter's name.
        keep: share of each layer's curvature to keep; with 1 the weights stay as they are.
        shuffle: seed with which as many directions are drawn instead, or None.
    """
    model = subject.copy_model()
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for number, (name, basis) in enumerate(bases.items()):
        kept = basis.kept(keep)
        if kept.all():
            continue
        if shuffle is not None:
            kept = basis.shuffled(kept, generator(shuffle, "directions", number))
        with torch.no_grad():
            parameters[name].copy_(basis.projected(parameters[name], kept))
    return subject.with_model(model)


def check_keep(keep: float) -> None:
    """Refuse a share of curvature that is not above 0 and at most 1."""
    check_fraction("keep", keep)
    if keep == 0:
        raise ConfigError(f"keep must be above 0 and at most 1, got {shown(keep)}")


def edited_weights(subject: Subject, layers: str = "") -> list[str]:
    """Return the names of the weights that `layers` stands for; see `curvature_bases`.

    Raises:
        UnknownNameError: a name or pattern matches no such weight.
        MissingNeedError: the network has none.
    """
    modules = subject.model.named_modules()
    found = [
        parameter_of(name, "weight")
        for name, module in modules
        if has_factors(module) and isinstance(module._parameters.get("weight"), nn.Parameter)
    ]
    if not found:
        raise MissingNeedError("curvature directions are those of nn.Linear, and of nn.Conv2d without groups")
    if not layers.strip():
        readout = "" if subject.roles.readout is None else subject.roles.readout.names[-1]
        return [name for name in found if name != (readout or found[-1])] or found
    wanted = set[str]()
    for pattern in layers.split():
        matched = fnmatch.filter(found, pattern)
        if not matched:
            raise unknown_name("weight of a linear layer or convolution", pattern, found)
        wanted.update(matched)
    return [name for name in found if name in wanted]


def _bases(subject: Subject, layers: str, labels: Labels, examples: int, seed: int) -> dict[str, CurvatureBasis]:
    warn_of_leftovers(subject.model)
    check_subject(subject)
    names = edited_weights(subject, layers)
    parameters = dict(subject.model.named_parameters(remove_duplicate=False))
    for name in names:
        check_finite(parameters[name].detach(), f"the weights of {name!r}")
    twin = subject.with_model(subject.copy_model().eval())
    twin.model.requires_grad_(False)
    ids = some_examples(twin, examples, seed)
    asked = {name.rpartition(".")[0]: ("weight",) for name in names}
    factors = kronecker_factors(twin, asked, ids, _labellings(twin, labels, ids, seed))
    found = {}
    for layer, name in zip(asked, names, strict=True):
        if layer in factors:
            found[name] = _basis(*factors[layer], name)
        elif layers.strip():
            raise MissingNeedError(f"the layer {layer!r} takes no part in the network's pass: choose other layers")
    if not found:
        raise MissingNeedError("no linear layer or convolution but the readout takes part in the network's pass")
    return found


def _labellings(subject: Subject, labels: Labels, ids: Int[Tensor, " example"], seed: int) -> Sequence[Labelling]:
    probabilities = own_probabilities(subject, ids)
    if labels == "given":
        return [Labelling(subject.task.given(ids))]
    if labels == "drawn":
        return [Labelling(drawn_labels(subject, ids, seed))]
    return [
        Labelling(torch.full((len(ids),), label), probabilities[:, label]) for label in range(probabilities.shape[1])
    ]


def _basis(inputs: Float[Tensor, "input input"], outputs: Float[Tensor, "output output"], name: str) -> CurvatureBasis:
    for factor, what in ((inputs, "inputs"), (outputs, "gradients")):
        check_finite(factor, f"the second moments of the {what} of {name!r}")
    (mu, v), (rates, u) = torch.linalg.eigh(inputs), torch.linalg.eigh(outputs)
    mass = rates.clamp_min(0)[:, None] * mu.clamp_min(0)
    return CurvatureBasis(u, v, mass / mass.sum() if mass.any() else torch.zeros_like(mass))
