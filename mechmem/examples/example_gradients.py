"""Gradients of single examples with respect to a network's trained parameters, in blocks; and blocks for libraries."""

from __future__ import annotations

import contextlib
import fnmatch
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mechmem.core.inputs import Inputs, NamedInputs, run_on
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.errors import MissingNeedError, UnknownNameError
from mechmem.math.blocks import blocks
from mechmem.models.hooks.hooking import warn_of_leftovers
from mechmem.models.hooks.running import block_rows, device_of, differentiating, full_precision
from mechmem.models.networks.masks import SAME_FOR_ALL
from mechmem.models.networks.subnetworks import mask_layers, of_examples
from mechmem.models.reading.forward import check_scale
from mechmem.models.reading.separate import check_subject

Labels = Int[Tensor, " example"]

AT_ONCE = 2**25
"""Numbers in the gradients of the examples of one block: 128 MB in float32."""

MOST_HELD = 2**29
"""Most numbers of gradients that a method may hold: 2 GB in float32."""


class ExampleGradients:
    """Gradients of each example's loss, the cross-entropy with its label, in evaluation mode.

    A row holds the gradient with respect to all chosen parameters, one after the other, in the network's order and in
    its precision; the loss is computed in float64. Parameters that the loss does not depend on have gradient 0, and a
    loss that is not finite has gradient NaN.

    Args:
        subject: the network and its task; no augmentation is applied, and a copy of the network is differentiated.
        parameters: names or patterns of parameters, such as "readout.*", with spaces between them; by default all that
            were trained. A network frozen as a whole was frozen only for inspection.

    Attributes:
        subject: the subject with the copy.
        chosen: the chosen parameters by name.

    Raises:
        UnknownNameError: a name or pattern matches no trained parameter.
        MissingNeedError: there are no trained parameters.
        UnsteadyNetworkError: the network is random in evaluation mode, or examples act on each other in it.
        ConfigError: the network returns probabilities.
    """

    def __init__(self, subject: Subject, parameters: str = ""):
        warn_of_leftovers(subject.model)
        check_subject(subject)
        check_scale(subject)
        self.subject = subject.with_model(subject.copy_model().eval())
        self.chosen = chosen_parameters(self.subject.model, parameters)
        # Otherwise the passes would also keep what is needed for gradients of everything at once.
        self.subject.model.requires_grad_(False)
        self._in_one_pass = all(layer.part in (None, *SAME_FOR_ALL) for layer in mask_layers(subject.model))

    @property
    def size(self) -> int:
        """Number of the parameters."""
        return sum(each.numel() for each in self.chosen.values())

    def layers(self) -> dict[str, slice]:
        """Return the columns of each layer, by the name of its module: the parameters that one module owns."""
        found: dict[str, slice] = {}
        start = 0
        for name, parameter in self.chosen.items():
            layer, end = name.rpartition(".")[0], start + parameter.numel()
            found[layer] = slice(found[layer].start if layer in found else start, end)
            start = end
        return found

    def split(self, rows: Float[Tensor, "example parameter"]) -> dict[str, Float[Tensor, "example ..."]]:
        """Return the gradients of each parameter, by name, in its shape."""
        parts = rows.split([each.numel() for each in self.chosen.values()], 1)
        return {
            name: part.reshape(len(rows), *parameter.shape)
            for (name, parameter), part in zip(self.chosen.items(), parts, strict=True)
        }

    def blocks(
        self, ids: Int[Tensor, " example"], labels: Labels | None = None, *, at_most: int | None = None
    ) -> Iterator[tuple[slice, Float[Tensor, "row parameter"]]]:
        """Yield the places of some examples and their gradients, on the network's device.

        Args:
            ids: the examples.
            labels: the labels that the loss is with; by default the given ones.
            at_most: most examples at once.
        """
        rows = max(1, min(AT_ONCE // max(self.size, 1), block_rows(self.subject.model)))
        for block in blocks(len(ids), min(rows, at_most or rows)):
            yield block, self(ids[block], None if labels is None else labels[block])

    @differentiating()
    def __call__(
        self, ids: Int[Tensor, " example"], labels: Labels | None = None
    ) -> Float[Tensor, "example parameter"]:
        """Return the gradients of some examples at once, on the network's device."""
        device, (inputs, given) = device_of(self.subject.model), self.subject.task.batch(ids)
        inputs, given = inputs.to(device), (given if labels is None else labels).to(device)
        if self._in_one_pass:
            # What torch cannot map over examples it refuses with these errors, and goes one by one from then on.
            with contextlib.suppress(RuntimeError, AttributeError), warnings.catch_warnings():
                # It loops over the examples itself where it has no rule for an operation.
                warnings.filterwarnings("ignore", "There is a performance drop")
                values = {name: each.detach() for name, each in self.chosen.items()}
                held = inputs.tensors if isinstance(inputs, NamedInputs) else inputs
                return self._flat(*torch.vmap(torch.func.grad_and_value(self._loss), (None, 0, 0))(values, held, given))
            self._in_one_pass = False
        pairs = [self._one(ids[[row]], inputs[[row]], given[[row]]) for row in range(len(ids))]
        slopes = {name: torch.stack([one[place] for one, _ in pairs]) for place, name in enumerate(self.chosen)}
        return self._flat(slopes, torch.stack([loss for _, loss in pairs]))

    def _loss(
        self, values: dict[str, Tensor], x: Tensor | Mapping[str, Tensor], label: Int[Tensor, ""]
    ) -> Float[Tensor, ""]:
        args, named = (
            ((x[None],), {}) if isinstance(x, Tensor) else ((), {name: each[None] for name, each in x.items()})
        )
        return self._read(torch.func.functional_call(self.subject.model, values, args, named), label[None])

    def _one(
        self, ids: Int[Tensor, " one"], x: Inputs, label: Int[Tensor, " one"]
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return the gradients and the loss of one example, in its own subnetwork."""
        parameters = list(self.chosen.values())
        with contextlib.ExitStack() as stack:
            stack.enter_context(of_examples(mask_layers(self.subject.model), self.subject.task.source(ids)))
            for each in parameters:
                stack.callback(each.requires_grad_, False)
                each.requires_grad_(True)
            loss = self._read(run_on(self.subject.model, x), label)
            slopes = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        return slopes, loss.detach()

    def _read(self, returned: Any, label: Int[Tensor, " one"]) -> Float[Tensor, ""]:
        # In float64 the probability of a near-certain label still differs from 1.
        return F.cross_entropy(full_precision(self.subject.roles.output.read(returned)).double(), label)

    def _flat(
        self, slopes: dict[str, Float[Tensor, "example ..."]], losses: Float[Tensor, " example"]
    ) -> Float[Tensor, "example parameter"]:
        rows = torch.cat([full_precision(rearrange(each, "e ... -> e (...)")) for each in slopes.values()], 1).detach()
        # The gradient of a loss that is no number may be a number.
        return rows.masked_fill(~losses.detach().isfinite()[:, None], torch.nan)


def chosen_parameters(model: nn.Module, parameters: str) -> dict[str, nn.Parameter]:
    """Return the trained parameters that match some of the names or patterns, by name; all for "".

    Raises:
        UnknownNameError: a name or pattern matches no trained parameter.
        MissingNeedError: there are no trained parameters.
    """
    every = {name: each for name, each in model.named_parameters() if each.is_floating_point()}
    trained = {name: each for name, each in every.items() if each.requires_grad} or every
    if not trained:
        raise MissingNeedError("influence needs trained parameters, and the network has none")
    wanted = set[str]()
    for pattern in parameters.split() or ["*"]:
        found = fnmatch.filter(trained, pattern)
        if not found:
            shown = ", ".join(list(trained)[:10]) + (", …" if len(trained) > 10 else "")
            raise UnknownNameError(f"no trained parameter {pattern!r}; the network has {shown}")
        wanted.update(found)
    return {name: each for name, each in trained.items() if name in wanted}


def check_held(what: str, examples: int, size: int, remedy: str) -> None:
    """Refuse to hold gradients that take too much memory.

    Raises:
        MissingNeedError: the gradients of so many examples are more numbers than `MOST_HELD`.
    """
    if examples * size > MOST_HELD:
        most, needed = (math.ceil(4 * each / 2**30) for each in (MOST_HELD, examples * size))
        raise MissingNeedError(
            f"{what} holds {examples:,} vectors of {size:,} numbers, which take {needed} GB, more than {most}: {remedy}"
        )


class ExampleBatches(Dataset):
    """Batches of inputs and given labels of some examples, by number; no augmentation is applied.

    Args:
        task: the task.
        ids: the examples.
        rows: most examples of a batch.
        device: where they are put.
    """

    def __init__(self, task: Task, ids: Int[Tensor, " example"], rows: int, device: torch.device):
        self._task, self._parts, self._device = task, ids.split(rows), device

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._parts)

    def __getitem__(self, number: int) -> tuple[Inputs, Tensor]:
        """Return inputs and given labels of a batch."""
        inputs, given = self._task.batch(self._parts[number])
        return inputs.to(self._device), given.to(self._device)

    def loader(self) -> DataLoader:
        """Return a loader of the batches, in order."""
        # Its own generator, since the loader draws a seed even without workers.
        return DataLoader(self, batch_size=None, generator=torch.Generator())
