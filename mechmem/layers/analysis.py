"""Base class of analyses that measure every layer, and its choice of layers and examples."""

from __future__ import annotations

import dataclasses
from typing import get_args

import torch
from jaxtyping import Int
from torch import Tensor

from mechmem.core.config import check_choice
from mechmem.core.plugins import Analysis
from mechmem.core.randomness import generator
from mechmem.core.subject import Subject
from mechmem.layers.features import Pool, layer_points, read_layers


@dataclasses.dataclass(frozen=True)
class LayerAnalysis(Analysis):
    """Base of analyses that measure every layer.

    Attributes:
        points: the layers: hook points, patterns such as "layers.*.hook_hidden", "hidden.2" for the third of the role
            `hidden`, "inputs" for the inputs themselves; several with spaces between them. By default the role
            `hidden`.
        pool: "mean" averages features of shape (example, channel, …) over all axes after the channels first; a layer
            with one number per neuron is left unchanged.
    """

    points: str = ""
    pool: Pool = "none"

    def __post_init__(self) -> None:
        check_choice("pooling", self.pool, get_args(Pool))

    def wants(self) -> frozenset[str]:
        """The role `hidden`, unless layers are named."""
        return self.needs if self.points.strip() else self.needs | {"role:hidden"}

    def asked(self, subject: Subject) -> tuple[str, ...]:
        """Return the hook points and patterns in `points`, checked without running the network.

        Raises:
            MissingNeedError: no layer is named, and the role `hidden` names none; or something else is missing.
            UnknownNameError: a name or pattern matches no point.
        """
        self.require(subject)
        return layer_points(subject, self.points)

    def layers(self, subject: Subject) -> tuple[str, ...]:
        """Return the layers in firing order, inputs first, from one pass of two rows.

        Raises:
            MissingNeedError: no layer is named, and the role `hidden` names none; or something else is missing.
            UnknownNameError: a name or pattern matches no point.
            ActivationError: a point does not fire.
        """
        two = subject.task.train_ids[:1].repeat(2)
        return next(read_layers(subject, self.asked(subject), two, logits=False)).layers


def some(ids: Int[Tensor, " example"], limit: int, seed: int) -> Int[Tensor, " chosen"]:
    """Return at most `limit` of the ids, drawn with a seed, in their own order."""
    drawn = torch.randperm(len(ids), generator=generator(seed, "examples of a layer"))[:limit]
    return ids[drawn.sort().values]
