"""A weight matrix of a network in terms of its singular values, and copies of the network with fewer of them."""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from mechmem.core.config import check_whole
from mechmem.core.in_words import shown
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError, unknown_name
from mechmem.math.logits import check_finite


@dataclasses.dataclass(frozen=True, eq=False)
class Decomposed:
    """The singular value decomposition of a parameter, in float64.

    Attributes:
        layer: the parameter's name.
        left: left singular vectors. Shape (matrix, row, rank).
        values: singular values, largest first. Shape (matrix, rank).
        right: right singular vectors. Shape (matrix, rank, column).
    """

    layer: str
    left: Float[Tensor, "matrix row rank"]
    values: Float[Tensor, "matrix rank"]
    right: Float[Tensor, "matrix rank column"]

    @property
    def full(self) -> int:
        """The largest rank that such a matrix can have."""
        return self.values.shape[1]

    def kept(self, rank: int | float) -> int:
        """Return how many singular values a rank keeps.

        Args:
            rank: that number itself, or as a fraction of the full rank, rounded down but at least 1.

        Raises:
            ConfigError: the number is greater than the full rank.
        """
        check_rank("rank", rank)
        if not isinstance(rank, int):
            # 0.29 of 100 is 28.999999999999996.
            return max(1, math.floor(rank * self.full + 1e-9))
        if rank > self.full:
            raise ConfigError(f"rank must be at most {self.full}, the full rank of {self.layer!r}, got {rank}")
        return rank

    def truncated(self, subject: Subject, rank: int | float) -> Subject:
        """Return the subject with a copy of its model in which the parameter has this rank; as it is at full rank.

        Raises:
            ConfigError: the rank is greater than the full rank.
        """
        return truncated(subject, [self], rank)

    def write(self, model: nn.Module, rank: int | float) -> None:
        """Lower the parameter's rank in a model; at full rank it stays as it is."""
        kept = self.kept(rank)
        if kept < self.full:
            parameter = _matrices(model)[self.layer]
            product = (self.left[..., :kept] * self.values[:, None, :kept]) @ self.right[:, :kept]
            with torch.no_grad():
                parameter.copy_(product.reshape(parameter.shape))


def truncated(subject: Subject, parts: Sequence[Decomposed], rank: int | float) -> Subject:
    """Return the subject with a copy of its model in which these parameters have this rank.

    Raises:
        ConfigError: the rank is greater than a full rank.
    """
    model = subject.copy_model()
    for each in parts:
        each.write(model, rank)
    return subject.with_model(model)


def check_rank(setting: str, rank: int | float) -> None:
    """Refuse a rank that is neither a whole number of at least 1 nor a fraction between 0 and 1."""
    if isinstance(rank, int):
        check_whole(setting, rank, 1)
    elif not isinstance(rank, float) or not 0 < rank < 1:
        raise ConfigError(
            f"{setting} must be a whole number of at least 1, or a fraction of the full rank between 0 and 1, "
            f"got {shown(rank)}"
        )


def decomposed(subject: Subject, layer: str = "") -> Decomposed:
    """Return the singular value decomposition of a parameter, computed once per subject and state.

    A convolution's kernel is decomposed as the matrix (out, everything else). Any other parameter of more than two axes
    is a stack of matrices on its last two, such as those of attention heads.

    Args:
        subject: any network.
        layer: a parameter with at least two axes; by default that of the role `readout`, or the last there is.

    Raises:
        UnknownNameError: there is no such parameter; the message suggests the nearest.
        MissingNeedError: no parameter has two axes.
        NotFiniteError: a weight is NaN or infinite.
    """
    found = _matrices(subject.model)
    if not found:
        raise MissingNeedError("a network without a parameter of at least two axes has no rank to lower")
    readout = "" if subject.roles.readout is None else subject.roles.readout.names[-1]
    layer = layer or (readout if readout in found else next(reversed(found)))
    if layer not in found:
        raise unknown_name("parameter with at least two axes", layer, found)
    weights = found[layer].detach()
    check_finite(weights, f"the weights of {layer!r}")
    pattern = "out ... -> 1 out (...)" if layer in _kernels(subject.model) else "... row column -> (...) row column"
    matrices = rearrange(weights.cpu().double(), pattern)
    return subject.memo(
        f"singular values of {layer}", lambda: Decomposed(layer, *torch.linalg.svd(matrices, full_matrices=False))
    )


def matching(subject: Subject, layers: str) -> list[str]:
    """Return the parameters with at least two axes that match names or patterns with spaces between them.

    Raises:
        UnknownNameError: a name or pattern matches none; the message suggests the nearest.
    """
    found = _matrices(subject.model)
    wanted = set[str]()
    for pattern in layers.split():
        matched = [pattern] if pattern in found else fnmatch.filter(found, pattern)
        if not matched:
            raise unknown_name("parameter with at least two axes", pattern, found)
        wanted.update(matched)
    return [name for name in found if name in wanted]


def _matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    return {
        name: parameter
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if parameter.ndim >= 2 and parameter.numel() and parameter.is_floating_point()
    }


def _kernels(model: nn.Module) -> set[str]:
    """Return the names of the convolutions' kernels."""
    modules = model.named_modules(remove_duplicate=False)
    return {f"{name}.weight".lstrip(".") for name, module in modules if isinstance(module, _ConvNd)}
