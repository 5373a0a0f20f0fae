"""Layers whose dropout mask is decided by the training example, and which of its subnetworks a network runs as."""

from __future__ import annotations

import abc
import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mechmem.core.config import check_choice, check_fraction, check_number, check_whole
from mechmem.core.ids import check_ids, one_or_more
from mechmem.core.randomness import derive_seed
from mechmem.core.subject import Subject
from mechmem.core.task import Ids
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.math.example_masks import example_mask
from mechmem.models.networks.mask_config import ExampleTied, MaskConfig, TurnOver

Part = Literal["full", "own", "flipped", "shared"]


class ExampleMask(nn.Module, abc.ABC):
    """Base of dropout whose mask is a hash of (seed, layer, id of the training example).

    In training every example runs through its own subnetwork, in evaluation through the full network; `subnetwork`
    chooses another. Which examples a forward pass is of is said by `subnetwork` too, or by whatever of mechmem runs the
    network. A final class sets `kind` and `parts` and implements `factor`.

    Args:
        units: how many units the layer has.
        layer: what tells its masks from those of other layers of the same seed.
        seed: seed of the masks.
        axis: the axis of the values on which the units stand: −1 for neurons, 1 for channels.

    Attributes:
        kind: what plugins that need such layers call them.
        parts: the subnetworks that there are.
        part: the one that is run, or None for the usual one.
        ids: the examples that the next forward pass is of; one alone stands for the whole batch where it has no axis.

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
        self.part: Part | None = None
        self.ids: Int[Tensor, "*example"] | None = None

    @property
    def mechmem_subnetwork(self) -> tuple[Part | None, int | None]:
        """Which subnetwork is run, and of which example where one stands for all (see `fingerprint`)."""
        return self.part, None if self.ids is None or self.ids.ndim else int(self.ids)

    @abc.abstractmethod
    def factor(self, part: Part, ids: Int[Tensor, " example"] | None) -> Float[Tensor, "#example unit"]:
        """Return what the units of each example are multiplied with; the full network asks without ids."""

    def mask(self, ids: Int[Tensor, " example"], keep: float) -> Bool[Tensor, "example unit"]:
        """Return the units that belong to each example with this probability."""
        return example_mask(ids, self.units, keep, self._key)

    def forward(self, values: Float[Tensor, "example ..."]) -> Float[Tensor, "example ..."]:
        """Multiply units with what the chosen subnetwork of each example has there.

        Raises:
            MissingNeedError: it is not known which examples these are.
            ConfigError: they are as many as the rows, or the values have other units.
        """
        part = self.part or ("own" if self.training else "full")
        axis = self.axis % values.ndim
        if values.shape[axis] != self.units:
            raise ConfigError(f"a mask layer of {self.units} units was given values of shape {tuple(values.shape)}")
        factor = self.factor(part, None if part in ("full", "shared") else self._told(len(values)))
        between, behind = ("1 " * (axis - 1), "1 " * (values.ndim - 1 - axis))
        return values * rearrange(factor.to(values), f"example unit -> example {between}unit {behind}")

    def _told(self, rows: int) -> Int[Tensor, " example"]:
        if self.ids is None:
            raise MissingNeedError(
                "example masks need to know which examples a forward pass is of: with mm.subnetwork(model, 'own', ids):"
            )
        if self.ids.ndim and len(self.ids) != rows:
            raise ConfigError(f"{len(self.ids)} example ids were given for a forward pass of {rows} examples")
        return self.ids.reshape(-1)

    def extra_repr(self) -> str:
        """Show the units, and the subnetwork that is run."""
        return f"units={self.units}, part={self.part}"


class TurnOverDropout(ExampleMask):
    """Dropout by which each training example trains its own units; the others are its flipped subnetwork.

    With m the example's mask and p the probability: "own" is x ⊙ m / p, "flipped" x ⊙ (1 − m) / (1 − p), which the
    example has not trained, and "full" x. (Kobayashi et al. 2020, arXiv 2012.04207, section 3; they have p = ½, and
    divide both by p.)

    Args:
        units: how many units the layer has.
        keep: p, in (0, 1).
        layer: what tells its masks from those of other layers of the same seed.
        seed: seed of the masks.
        axis: −1 for neurons, 1 for channels.
    """

    kind = TurnOver.kind
    parts: ClassVar[tuple[Part, ...]] = ("full", "own", "flipped")

    def __init__(self, units: int, keep: float = 0.5, layer: int | str = 0, seed: int = 0, axis: int = -1):
        super().__init__(units, layer, seed, axis)
        check_number("keep probability", keep, above=0)
        if keep >= 1:
            raise ConfigError(f"keep probability must be below 1, got {keep}")
        self.keep = keep

    def factor(self, part: Part, ids: Int[Tensor, " example"] | None) -> Float[Tensor, "#example unit"]:
        """Return 1, m / p or (1 − m) / (1 − p)."""
        if ids is None:
            return torch.ones(1, self.units)
        mask = self.mask(ids, self.keep)
        return mask.float() / self.keep if part == "own" else (~mask).float() / (1 - self.keep)


class ExampleTiedDropout(ExampleMask):
    """Dropout by which all examples train the shared units, and each a few memory units of its own.

    "own" is what an example trains: its shared units and its memory units. "full" is the network as it is tested, with
    the memory units times the probability with which one belongs to an example. "shared" drops them, and multiplies the
    shared units with (shared + memory) / shared. (Maini et al. 2023, arXiv 2307.09542, section 5, and their public
    code.)

    Args:
        units: how many units the layer has.
        shared: share of the units that are shared, in (0, 1); they are the first, at least one.
        memory: probability that a memory unit belongs to an example, in (0, 1).
        layer: what tells its masks from those of other layers of the same seed.
        seed: seed of the masks.
        axis: −1 for neurons, 1 for channels.
    """

    kind = ExampleTied.kind
    parts: ClassVar[tuple[Part, ...]] = ("full", "own", "shared")

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
        check_fraction("share of shared units", shared)
        check_fraction("memory probability", memory)
        self.shared, self.memory = shared, memory
        self.first_memory = max(1, math.ceil(shared * units - 1e-9))

    def factor(self, part: Part, ids: Int[Tensor, " example"] | None) -> Float[Tensor, "#example unit"]:
        """Return what shared and memory units are multiplied with."""
        if ids is not None:
            found = self.mask(ids, self.memory).float()
            found[:, : self.first_memory] = 1
            return found
        found = torch.full((1, self.units), self.memory if part == "full" else 0.0)
        found[:, : self.first_memory] = 1 if part == "full" else (self.shared + self.memory) / self.shared
        return found


def mask_layers(model: nn.Module) -> tuple[ExampleMask, ...]:
    """Return the layers of a model whose masks the examples decide."""
    return tuple(module for module in model.modules() if isinstance(module, ExampleMask))


@contextlib.contextmanager
def of_examples(layers: Sequence[ExampleMask], ids: Int[Tensor, "*example"]) -> Iterator[None]:
    """Tell mask layers which examples the forward passes inside are of.

    Where one example was chosen to stand for all (`subnetwork(model, part, 5)`), it goes on to.

    Args:
        layers: the mask layers.
        ids: one id per row, or a single one without an axis for all rows.
    """
    before = [layer.ids for layer in layers]
    for layer in layers:
        if layer.ids is None or layer.ids.ndim:
            layer.ids = ids
    try:
        yield
    finally:
        for layer, ids_before in zip(layers, before, strict=True):
            layer.ids = ids_before


@contextlib.contextmanager
def subnetwork(model: nn.Module | Subject, part: Part, ids: Ids | int | None = None) -> Iterator[None]:
    """Run a network with example masks as one of its subnetworks.

        with mm.subnetwork(subject, "flipped", ids):
            logits = subject.model(inputs)

    Afterwards, and after an error, the network is as it was.

    Args:
        model: a network with mask layers, or a subject.
        part: "full"; "own", what each example trains; "flipped", the units that it does not train (turn-over dropout);
            "shared", without memory units (example-tied dropout).
        ids: the examples that forward passes inside are of, one per row; or one id for all rows, also of what mechmem
            itself runs inside. Without any, what mechmem runs shows each example to its own masks.

    Raises:
        MissingNeedError: the network has no mask layers.
        UnknownNameError: one of them has no such subnetwork.
        ConfigError: the ids are not whole numbers of at least 0.
    """
    task = model.task if isinstance(model, Subject) else None
    layers = _with_part(model.model if isinstance(model, Subject) else model, part)
    found = None if ids is None else one_or_more(ids)
    if task is not None and found is not None:
        # An id that is not the task's is a mask that no example has trained.
        found = found if not found.ndim else task.source(check_ids(task, found))
    before: list[tuple[Part | None, Tensor | None]] = [(layer.part, layer.ids) for layer in layers]
    for layer in layers:
        layer.part, layer.ids = part, layer.ids if found is None else found
    try:
        yield
    finally:
        for layer, (part_before, ids_before) in zip(layers, before, strict=True):
            layer.part, layer.ids = part_before, ids_before


def as_subnetwork(subject: Subject, part: Part) -> Subject:
    """Return the subject with a copy of its model that runs as one of its subnetworks, for good.

    Raises:
        MissingNeedError: the network has no mask layers.
        UnknownNameError: one of them has no such subnetwork.
    """
    model = subject.copy_model()
    for layer in _with_part(model, part):
        layer.part = part
    return subject.with_model(model)


def _with_part(model: nn.Module, part: Part) -> tuple[ExampleMask, ...]:
    """Return the mask layers of a model, each of which has this subnetwork; at least one."""
    layers = mask_layers(model)
    if not layers:
        raise MissingNeedError("the network has no layer with example masks (TurnOverDropout, ExampleTiedDropout)")
    for layer in layers:
        check_choice("subnetwork", part, layer.parts)
    return layers


def mask_layer(
    config: MaskConfig | None, units: int, layer: int | str, layers: int, axis: int = -1
) -> ExampleMask | nn.Identity:
    """Return the mask layer that a config asks for at a place of a network, or what leaves values as they are.

    Args:
        config: the masks, or None.
        units: how many units stand there.
        layer: number of the hidden layer, or "stream".
        layers: how many hidden layers the network has.
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
