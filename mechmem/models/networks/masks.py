"""Dropout layers with one mask per training example, and the subnetworks they define."""

from __future__ import annotations

import abc
from typing import ClassVar, Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mechmem.core.arguments import checked
from mechmem.core.config import check_choice, check_fraction, check_share, check_whole
from mechmem.core.randomness import derive_seed
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.math.example_masks import example_mask
from mechmem.models.networks.mask_config import ExampleTied, MaskConfig, TurnOver

Part = Literal["full", "own", "flipped", "shared"]

SAME_FOR_ALL: tuple[Part, ...] = ("full", "shared")
"""Subnetworks that are the same for every example."""


class ExampleMask(nn.Module, abc.ABC):
    """Base class of dropout whose mask is a hash of (seed, layer, id of the training example).

    In training every example runs through its own subnetwork, in evaluation through the full network; `subnetwork`
    chooses another. The ids of the examples in a forward pass are set by `subnetwork`, or by mechmem where it runs the
    network itself. A final class sets `kind` and `parts` and implements `_factor`.

    Args:
        units: number of units of the layer.
        layer: label that distinguishes its masks from those of other layers with the same seed.
        seed: seed of the masks.
        axis: axis of the units: −1 for neurons, 1 for channels.

    Attributes:
        kind: name by which plugins declare that they need such layers.
        parts: the available subnetworks.
        alike: number of ids that follow each other and share a mask, as the predictions in a sequence do.
        part: the subnetwork to run, or None for the usual one.
        ids: ids of the examples in the next forward pass; a scalar applies to every row.

    Raises:
        ConfigError: a setting is not allowed.
    """

    kind: ClassVar[str]
    parts: ClassVar[tuple[Part, ...]]

    def __init__(self, units: int, layer: int | str = 0, seed: int = 0, axis: int = -1):
        super().__init__()
        check_whole("units of a mask layer", units, 1)
        check_whole("seed of the masks", seed, 0)
        self.units, self.layer, self.seed, self.axis = units, layer, seed, axis
        self._key = derive_seed(seed, f"example mask {layer}")
        self.alike = 1
        self.part: Part | None = None
        self.ids: Int[Tensor, "*example"] | None = None

    @property
    def mechmem_subnetwork(self) -> tuple[Part | None, int | None]:
        """The subnetwork to run, and the id of its example if one applies to every row (see `fingerprint`)."""
        return self.part, None if self.ids is None or self.ids.ndim else int(self.ids)

    @checked
    def factor(self, part: Part, ids: Int[Tensor, " example"] | None) -> Float[Tensor, "#example unit"]:
        """Return the factor of each example's units in a subnetwork; ids is None for one that is the same for all.

        Raises:
            ConfigError: there is no such subnetwork, or it differs by example and ids is None.
        """
        check_choice("subnetwork", part, self.parts)
        if (ids is None) != (part in SAME_FOR_ALL):
            raise ConfigError(f"ids must be {'None' if ids is not None else 'given'} for the subnetwork {part!r}")
        return self._factor(part, ids)

    @abc.abstractmethod
    def _factor(self, part: Part, ids: Int[Tensor, " example"] | None) -> Float[Tensor, "#example unit"]:
        """Return the factors of a subnetwork that exists; ids is None if it is the same for all examples."""

    @checked
    def mask(self, ids: Int[Tensor, " example"], keep: float) -> Bool[Tensor, "example unit"]:
        """Return the mask of each example, in which a unit is kept with this probability.

        Raises:
            ConfigError: an id is negative, or the probability is none.
        """
        check_fraction("keep probability", keep)
        if len(ids) and int(ids.min()) < 0:
            raise ConfigError(f"ids must be at least 0, got {int(ids.min())}")
        return example_mask(ids // self.alike, self.units, keep, self._key)

    def forward(self, values: Float[Tensor, "example ..."]) -> Float[Tensor, "example ..."]:
        """Multiply the units by their factors in the chosen subnetwork of each example.

        Raises:
            MissingNeedError: the ids of the examples are not known.
            ConfigError: the number of ids is not that of the rows, or the values have another number of units.
        """
        part = self.part or ("own" if self.training else "full")
        axis = self.axis % values.ndim
        if values.shape[axis] != self.units:
            raise ConfigError(f"a mask layer of {self.units} units was given values of shape {tuple(values.shape)}")
        factor = self.factor(part, None if part in SAME_FOR_ALL else self._told(len(values)))
        between, behind = ("1 " * (axis - 1), "1 " * (values.ndim - 1 - axis))
        return values * rearrange(factor.to(values), f"example unit -> example {between}unit {behind}")

    def _told(self, rows: int) -> Int[Tensor, " example"]:
        if self.ids is None:
            raise MissingNeedError(
                "example masks need the ids of the examples in a forward pass: with mm.subnetwork(model, 'own', ids):"
            )
        if self.ids.ndim and len(self.ids) != rows:
            raise ConfigError(f"{len(self.ids)} example ids were given for a forward pass of {rows} examples")
        return self.ids.reshape(-1)

    def extra_repr(self) -> str:
        """Show the number of units and the subnetwork to run."""
        return f"units={self.units}, part={self.part}"


class TurnOverDropout(ExampleMask):
    """Turn-over dropout: each training example trains its own units; the others are its flipped subnetwork.

    With m the example's mask and p the probability: "own" is x ⊙ m / p, "flipped" x ⊙ (1 − m) / (1 − p), which the
    example has not trained, and "full" x. (Kobayashi et al. 2020, arXiv 2012.04207, section 3, with p = ½.)

    Their public code (soskek/turnover_dropout) keeps a unit with probability ½ whatever p is, and divides by 1 − p
    wherever it is told which examples to flip, also those that are not; at p = ½ that is the same. Its masks, parities
    of a sine in float32, are shared by large ids and by all layers of one width; here every id and layer has its own.

    Args:
        units: number of units of the layer.
        keep: p, in (0, 1).
        layer: label that distinguishes its masks from those of other layers with the same seed.
        seed: seed of the masks.
        axis: −1 for neurons, 1 for channels.
    """

    kind = TurnOver.kind
    parts: ClassVar[tuple[Part, ...]] = ("full", "own", "flipped")

    @checked
    def __init__(self, units: int, keep: float = 0.5, layer: int | str = 0, seed: int = 0, axis: int = -1):
        super().__init__(units, layer, seed, axis)
        check_share("keep probability", keep)
        self.keep = keep

    def _factor(self, part: Part, ids: Int[Tensor, " example"] | None) -> Float[Tensor, "#example unit"]:
        """Return 1, m / p or (1 − m) / (1 − p)."""
        if ids is None:
            return torch.ones(1, self.units)
        mask = self.mask(ids, self.keep)
        return mask.float() / self.keep if part == "own" else (~mask).float() / (1 - self.keep)


class ExampleTiedDropout(ExampleMask):
    """Example-tied dropout: all examples train the shared units, and each trains a few memory units of its own.

    "own" is what an example trains: the shared units and its memory units. "full" is the network as it is tested, with
    the memory units multiplied by the probability that one belongs to an example. "shared" drops the memory units and
    multiplies the shared ones by (shared + memory) / shared. (Maini et al. 2023, arXiv 2307.09542, section 5, and their
    public code, where the id alone seeds a mask: all layers of one width share it.)

    Args:
        units: number of units of the layer.
        shared: share of the units that are shared, in (0, 1), rounded down; the first units, at least one.
        memory: probability that a memory unit belongs to an example, in (0, 1).
        layer: label that distinguishes its masks from those of other layers with the same seed.
        seed: seed of the masks.
        axis: −1 for neurons, 1 for channels.
    """

    kind = ExampleTied.kind
    parts: ClassVar[tuple[Part, ...]] = ("full", "own", "shared")

    @checked
    def __init__(
        self,
        units: int,
        shared: float = 0.2,
        memory: float = 0.1,
        layer: int | str = 0,
        seed: int = 0,
        axis: int = -1,
    ):
        super().__init__(units, layer, seed, axis)
        for setting, value in (("share of shared units", shared), ("memory probability", memory)):
            check_share(setting, value)
        self.shared, self.memory = shared, memory
        self.first_memory = max(1, int(shared * units))

    def _factor(self, part: Part, ids: Int[Tensor, " example"] | None) -> Float[Tensor, "#example unit"]:
        """Return the factors of shared and memory units."""
        if ids is not None:
            found = self.mask(ids, self.memory).float()
            found[:, : self.first_memory] = 1
            return found
        found = torch.full((1, self.units), self.memory if part == "full" else 0.0)
        found[:, : self.first_memory] = 1 if part == "full" else (self.shared + self.memory) / self.shared
        return found


def mask_layer(
    config: MaskConfig | None, units: int, layer: int | str, layers: int, axis: int = -1
) -> ExampleMask | nn.Identity:
    """Return the mask layer of a hidden layer or of the stream under a config, or the identity.

    Args:
        config: the masks, or None.
        units: number of units.
        layer: number of the hidden layer, or "stream".
        layers: number of hidden layers of the network.
        axis: −1 for neurons, 1 for channels.

    Raises:
        ConfigError: the config names a layer that the network does not have.
    """
    if config is None:
        return nn.Identity()
    chosen = config.chosen(layers)
    if not (config.stream if isinstance(layer, str) else layer in chosen):
        return nn.Identity()
    if isinstance(config, TurnOver):
        return TurnOverDropout(units, config.keep, layer, config.seed, axis)
    if isinstance(config, ExampleTied):
        return ExampleTiedDropout(units, config.shared, config.memory, layer, config.seed, axis)
    raise ConfigError(f"no mask layer is built from a {type(config).__name__}")
