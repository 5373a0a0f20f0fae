"""Observations of a run: what its training passes said of each training example, one file per epoch.

observations/epoch_N.safetensors    right, loss and margin of every training example, in the task's order; and how
                                    often each was seen, if any was seen more than once

An example takes two bytes for each of loss and margin, and a bit for whether the answer was right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from mechmem.core.storage import read_stored, write_tensors
from mechmem.errors import RunDirectoryError

FOLDER, PATTERN = "observations", "epoch_*.safetensors"
_HALF = torch.finfo(torch.float16).max
_OFTEN = torch.iinfo(torch.int16).max
_SMALL = 2**16
"""Bytes that a file has beside its numbers, at most."""


@dataclasses.dataclass(frozen=True, eq=False)
class Observations:
    """What the training passes said of each training example in each epoch, before the update on its batch.

    The network was in training mode (dropout, BatchNorm over the batch), and went on changing during the epoch. Of an
    example that was seen several times in an epoch these are means; of one that was not seen they are NaN.

    Attributes:
        step: number of updates made by the end of each epoch. Shape (epoch).
        ids: the training examples. Shape (example).
        count: how often each example was seen. Shape (epoch, example).
        right: share of the times that the answer was the given label. Shape (epoch, example).
        loss: cross-entropy of the given label, in nats, to three digits. Shape (epoch, example).
        margin: logit of the given label minus the largest other one, to three digits. Shape (epoch, example).
    """

    step: Int[Tensor, " epoch"]
    ids: Int[Tensor, " example"]
    count: Int[Tensor, "epoch example"]
    right: Float[Tensor, "epoch example"]
    loss: Float[Tensor, "epoch example"]
    margin: Float[Tensor, "epoch example"]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per epoch and example: epoch, step, id, count, right, loss, margin."""
        epochs, examples = self.count.shape
        return pd.DataFrame(
            {
                "epoch": np.repeat(np.arange(1, epochs + 1), examples),
                "step": np.repeat(self.step.numpy(), examples),
                "id": np.tile(self.ids.numpy(), epochs),
                **{name: getattr(self, name).numpy().ravel() for name in ("count", "right", "loss", "margin")},
            }
        )


@dataclasses.dataclass(eq=False)
class Epoch:
    """Sums over the times that each training example was seen in an epoch.

    Attributes:
        count: how often it was seen. Shape (example).
        right: how often the answer was the given label. Shape (example).
        loss: sum of its losses. Shape (example).
        margin: sum of its margins. Shape (example).
    """

    count: Int[Tensor, " example"]
    right: Int[Tensor, " example"]
    loss: Float64[Tensor, " example"]
    margin: Float64[Tensor, " example"]

    @classmethod
    def empty(cls, examples: int) -> Epoch:
        """Return an epoch in which no example has been seen."""
        whole, sums = torch.zeros(2, examples, dtype=torch.long), torch.zeros(2, examples, dtype=torch.float64)
        return cls(whole[0], whole[1], sums[0], sums[1])

    def write(self, path: Path, run: str, number: int, step: int) -> None:
        """Write the means over an epoch.

        Args:
            path: the run directory.
            run: hash of the run's header.
            number: number of the epoch, from 1.
            step: number of updates made by its end.
        """
        seen = self.count > 0
        tensors = {
            name: (total / self.count).clamp(-_HALF, _HALF).where(seen, torch.nan).half()
            for name, total in (("loss", self.loss), ("margin", self.margin))
        }
        if int(self.count.max()) > 1:
            # No bits: an example may have been right one time of two.
            tensors |= {name: getattr(self, name).clamp(max=_OFTEN).short() for name in ("count", "right")}
        else:
            tensors["right"] = torch.from_numpy(np.packbits(self.right.bool().numpy()))
        write_tensors(epoch_file(path, number), tensors, _about(run, number, step))


def epoch_file(path: Path, number: int) -> Path:
    """Return the path of an epoch's observations.

    Args:
        path: the run directory.
        number: number of the epoch, from 1.
    """
    return path / FOLDER / PATTERN.replace("*", f"{number:04d}")


def epochs_of(path: Path) -> list[int]:
    """Return the numbers of the epochs that were observed in a run directory, in order."""
    before, after = PATTERN.split("*")
    numbers = (each.name.removeprefix(before).removesuffix(after) for each in (path / FOLDER).glob(PATTERN))
    return sorted(int(number) for number in numbers if number.isdecimal())


def keep_until(path: Path, run: str, step: int) -> None:
    """Delete the epochs of a run that ended after a step, and so will end again."""
    for number in epochs_of(path):
        if _read(path, run, number, 0)[0] > step:
            epoch_file(path, number).unlink()


def read_observations(path: Path, run: str, ids: Int[Tensor, " example"], written: int) -> Observations:
    """Read what was observed in a run.

    Args:
        path: the run directory.
        run: hash of the run's header.
        ids: the task's training examples.
        written: number of epochs that must be there at least.

    Raises:
        RunDirectoryError: an epoch is missing, damaged, or of another run.
    """
    numbers = epochs_of(path)
    whole = range(1, max([written, *numbers], default=0) + 1)
    lost = next((number for number in whole if number not in numbers), None)
    if lost is not None:
        raise RunDirectoryError(f"{path} has lost the observations of epoch {lost}")
    read = [_read(path, run, number, len(ids)) for number in whole]
    steps = [step for step, _ in read]
    if steps != sorted(steps):
        raise RunDirectoryError(f"{path / FOLDER} is damaged: its epochs end at steps {steps}")
    columns = [list(_decoded(tensors, len(ids))) for _, tensors in read]
    count, right, loss, margin = (torch.stack(list(column)) for column in zip(*columns, strict=True))
    return Observations(torch.tensor(steps), ids.clone(), count, right, loss, margin)


def _read(path: Path, run: str, number: int, examples: int) -> tuple[int, dict[str, Tensor]]:
    """Return the step at which an epoch ended, and its tensors; of 0 examples these are not looked at."""
    file = epoch_file(path, number)
    stored = read_stored(file, most=8 * examples + _SMALL if examples else None)
    step = stored.about.get("step")
    if not stored.hashed or type(step) is not int or stored.about != _about(run, number, step):
        raise RunDirectoryError(f"{file} is damaged: it is not of epoch {number} of this run")
    expected = {"loss": examples, "margin": examples, "right": -(-examples // 8)}
    if "count" in stored.tensors:
        expected |= {"right": examples, "count": examples}
    found = {name: tuple(tensor.shape) for name, tensor in stored.tensors.items()}
    if examples and found != {name: (length,) for name, length in expected.items()}:
        raise RunDirectoryError(f"{file} is damaged: it holds {found}, for {examples} training examples")
    return step, stored.tensors


def _decoded(tensors: dict[str, Tensor], examples: int) -> Iterator[Tensor]:
    """Yield count, share of right answers, loss and margin per example."""
    loss = tensors["loss"].float()
    if "count" in tensors:
        count = tensors["count"].int()
        share = tensors["right"] / count
    else:
        count = (~loss.isnan()).int()
        bits = np.unpackbits(tensors["right"].numpy(), count=examples)
        share = torch.from_numpy(bits).float().where(count > 0, torch.nan)
    yield from (count, share, loss, tensors["margin"].float())


def _about(run: str, number: int, step: int) -> dict[str, str | int]:
    return {"run": run, "epoch": number, "step": step}
