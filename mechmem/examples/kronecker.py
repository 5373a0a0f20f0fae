"""Kronecker-factored curvature with corrected eigenvalues (EK-FAC) of linear layers and convolutions."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.examples.example_gradients import ExampleGradients, chosen_parameters
from mechmem.examples.influence_score import Curvature, Rows
from mechmem.models.hooks.running import differentiating, full_precision
from mechmem.models.reading.kronecker_factors import (
    Labelling,
    drawn_labels,
    has_factors,
    kronecker_factors,
    parameter_of,
    some_examples,
)

NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
"""Layers whose few parameters are left out."""


def factored_parameters(subject: Subject, parameters: str, what: str) -> tuple[str, str]:
    """Return the patterns of the parameters that have Kronecker factors, and a note of those left out.

    Those of normalizations are left out unless they are named.

    Raises:
        MissingNeedError: a layer with chosen parameters is neither linear nor a convolution without groups.
        UnknownNameError: a pattern matches no parameter.
    """
    modules = dict(subject.model.named_modules())
    chosen = chosen_parameters(subject.model, parameters)
    owners = {name: modules[name.rpartition(".")[0]] for name in chosen}
    norms = [name for name, owner in owners.items() if isinstance(owner, NORMS)] if not parameters.strip() else []
    kept = [name for name in chosen if name not in norms]
    other = [f"{name} ({type(owners[name]).__name__})" for name in kept if not _factored(owners[name], name)]
    if other or not kept:
        named = ", ".join((other or norms)[:5]) + (", …" if len(other or norms) > 5 else "")
        raise MissingNeedError(
            f"{what} treats parameters of nn.Linear, and of nn.Conv2d without groups; this network's include {named}"
        )
    return " ".join(kept), f"without the {len(norms)} parameters of normalizations" if norms else ""


def _factored(module: nn.Module, name: str) -> bool:
    return has_factors(module) and name.rpartition(".")[2] in ("weight", "bias")


class KroneckerCurvature(Curvature):
    """The inverse of a damped Fisher matrix that is block-diagonal over layers.

    A layer's gradient is a matrix G with a row per output and a column per input, and one for the bias. With A the mean
    of the inputs' outer products, S that of the gradients at the outputs, and U and V their eigenvectors, the Fisher
    matrix is taken to be diagonal in the basis V ⊗ U. Its eigenvalues there are the means of the squared entries of
    Vᵀ G U. (George et al. 2018, arXiv 1806.03884.) Labels are drawn from the network's own probabilities, so that it is
    the Fisher matrix and not the empirical one.

    Args:
        gradients: those of the network.
        damping: added to a layer's eigenvalues, as a share of their mean.
        examples: number of training examples in the means.
        seed: seed of the draw of examples and labels.
    """

    @differentiating()
    def __init__(self, gradients: ExampleGradients, damping: float, examples: int, seed: int):
        self._gradients = gradients
        subject = gradients.subject
        ids = some_examples(subject, examples, seed)
        labels = drawn_labels(subject, ids, seed)
        like = next(iter(gradients.chosen.values()))
        layers: dict[str, list[str]] = {}
        for name in gradients.chosen:
            layer, _, parameter = name.rpartition(".")
            layers.setdefault(layer, []).append(parameter)
        factors = kronecker_factors(subject, layers, ids, [Labelling(labels)])
        missing = [name for name in layers if name not in factors]
        if missing:
            raise MissingNeedError(
                f"the layer {missing[0]!r} takes no part in the network's pass: choose other parameters"
            )
        self._bases = {
            name: tuple(torch.linalg.eigh(each)[1].to(full_precision(like)) for each in factors[name])
            for name in factors
        }
        means: dict[str, Tensor] = {}
        for _, rows in gradients.blocks(ids, labels):
            for name, turned in self._turned(rows).items():
                means[name] = means.get(name, 0) + turned.square().sum(0) / len(ids)
        self._scales = {name: (each + damping * each.mean()) for name, each in means.items()}
        unused = sum(not each.any() for each in means.values())
        self.note = f"curvature of {len(ids):,} examples" + (f"; {unused} layers without gradient" if unused else "")

    def squares(self, rows: Rows) -> Float[Tensor, " example"]:
        """Return gᵀ H⁻¹ g of each gradient g."""
        found = rows.new_zeros(len(rows))
        for name, turned in self._turned(rows).items():
            if self._scales[name].any():
                found += (turned.square() / self._scales[name]).sum((1, 2))
        return found

    def solve(self, rows: Rows) -> Rows:
        """Return H⁻¹ g of each gradient g."""
        found: dict[str, Tensor] = {}
        for name, turned in self._turned(rows).items():
            scale, (inputs, outputs) = self._scales[name], self._bases[name]
            scaled = turned / scale if scale.any() else torch.zeros_like(turned)
            found |= self._parted(name, outputs @ scaled @ inputs.T)
        return torch.cat([rearrange(found[name], "e ... -> e (...)") for name in self._gradients.chosen], 1)

    def _turned(self, rows: Rows) -> dict[str, Float[Tensor, "example output input"]]:
        """Return the gradient of each layer in the basis of its eigenvectors."""
        each = self._gradients.split(rows)
        found: dict[str, Tensor] = {}
        for name, (inputs, outputs) in self._bases.items():
            parts = [
                rearrange(each[key], "e out ... -> e out (...)")
                for key in (parameter_of(name, "weight"), parameter_of(name, "bias"))
                if key in each
            ]
            found[name] = outputs.T @ torch.cat(parts, 2) @ inputs
        return found

    def _parted(self, name: str, matrix: Float[Tensor, "example output input"]) -> dict[str, Tensor]:
        """Return a layer's matrix as its parameters' values."""
        weight, bias = parameter_of(name, "weight"), parameter_of(name, "bias")
        found = {bias: matrix[:, :, -1]} if bias in self._gradients.chosen else {}
        if weight in self._gradients.chosen:
            shape = self._gradients.chosen[weight].shape
            found[weight] = matrix[:, :, : shape[1:].numel()].reshape(len(matrix), *shape)
        return found
