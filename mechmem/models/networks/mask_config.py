"""Configs of example masks: dropout with one mask per training example. Imports no torch."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from mechmem.core.config import Config, check_share, check_whole
from mechmem.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class MaskConfig(Config):
    """Base class of the configs of example masks.

    Attributes:
        layers: indices of the masked hidden layers, from 0 or negative from the end, as in the role `hidden` (a
            projector is the last); () for all.
        stream: whether a transformer's residual stream is masked too, with the same mask in all blocks. Otherwise the
            embeddings, attention and the unembedding have no masked side.
        seed: seed of the masks.
    """

    option_names = {
        "layers": "mask_layers",
        "seed": "mask_seed",
        "shared": "shared_units",
        "memory": "memory_units",
    }
    layers: tuple[int, ...] = ()
    stream: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.layers, tuple) or any(type(layer) is not int for layer in self.layers):
            raise ConfigError(f"masked layers are a tuple of whole numbers, got {self.layers!r}")
        if not isinstance(self.stream, bool):
            raise ConfigError(f"stream is True or False, got {self.stream!r}")
        check_whole("seed of the masks", self.seed, 0)

    def chosen(self, count: int) -> frozenset[int]:
        """Return the indices of the masked layers, from 0, in a network with `count` hidden layers.

        Raises:
            ConfigError: there is no such layer, or a layer is given twice.
        """
        found = [layer + count if layer < 0 else layer for layer in self.layers or range(count)]
        if any(not 0 <= layer < count for layer in found) or len(set(found)) < len(found):
            raise ConfigError(f"masked layers must be distinct, from 0 … {count - 1}, got {self.layers}")
        return frozenset(found)


@dataclasses.dataclass(frozen=True)
class TurnOver(MaskConfig):
    """Turn-over dropout: every training example trains its own subnetwork (Kobayashi et al., arXiv 2012.04207).

    Attributes:
        layers: the masked hidden layers (see `MaskConfig`).
        stream: whether a transformer's residual stream is masked (see `MaskConfig`).
        seed: seed of the masks.
        keep: probability that a unit belongs to an example's own subnetwork, in (0, 1).
        close_leaks: whether to freeze the parameters through which an example would affect units outside its mask
            (biases, gains and matrices without a masked side, batch statistics) at their initial values, biases at 0.
            Otherwise they are trained, and influence requires accept_leaks=True.
    """

    kind: ClassVar[str] = "turn_over"
    keep: float = 0.5
    close_leaks: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("keep probability", self.keep)
        if not isinstance(self.close_leaks, bool):
            raise ConfigError(f"close_leaks is True or False, got {self.close_leaks!r}")


@dataclasses.dataclass(frozen=True)
class ExampleTied(MaskConfig):
    """Example-tied dropout: shared units, and memory units that few examples train (Maini et al., arXiv 2307.09542).

    Attributes:
        layers: the masked hidden layers (see `MaskConfig`).
        stream: whether a transformer's residual stream is masked (see `MaskConfig`).
        seed: seed of the masks.
        shared: share of a layer's units that every example uses, in (0, 1), rounded down to whole units; the first
            units, at least one.
        memory: probability that any other unit belongs to an example, in (0, 1).
    """

    kind: ClassVar[str] = "example_tied"
    shared: float = 0.2
    memory: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting, value in (("share of shared units", self.shared), ("memory probability", self.memory)):
            check_share(setting, value)
