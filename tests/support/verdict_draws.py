"""Logits of networks that do not compute a task's rule, or compute it so far, to see what the verdict says of them.

A draw is a function of a task and a seed that returns logits in the order of `task.ids`. `NULLS` have no rule in them,
`PLANTS` another one, `rule(kappa)` the right one at a given strength, and `TRAINED` networks that fitted noisy labels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.scorecard.controls import LogitTable, kernel_ridge, label_grid
from mechmem.scorecard.structure import Structure, held_out_structure
from mechmem.tasks.config import LabelNoise, ModularConfig
from mechmem.tasks.grid_tasks import ModularTask

Draw = Callable[[Task, int], torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Setting:
    """Addition mod p with a share of its cells for training and a share of wrong labels among them."""

    p: int
    fraction: float
    noise: float

    def task(self, seed: int, symmetric: bool = False) -> ModularTask:
        noise = LabelNoise(self.noise, "symmetric" if symmetric else "wrong")
        return ModularTask(ModularConfig(p=self.p, train_fraction=self.fraction, noise=noise, seed=seed))


def structure(logits: torch.Tensor, task: Task) -> Structure:
    """Return the held-out structure of a table of logits."""
    return held_out_structure(Subject(LogitTable(logits.float(), task), task))


def on_grid(task: Task, table: np.ndarray) -> torch.Tensor:
    """Return the rows (a, b) of a table of shape (p, p, classes)."""
    return torch.from_numpy(table)[tuple(task.operands.T)]


def smooth(axes: Sequence[int], modes: float) -> Draw:
    """Gaussian fields of about so many modes along the axes (operands 0 and 1, class 2), independent along others."""

    def draw(task: Task, seed: int) -> torch.Tensor:
        p = task.n_classes
        waves = np.fft.fftn(np.random.default_rng(seed).normal(size=(p, p, p)), axes=axes)
        frequency = np.minimum(np.arange(p), p - np.arange(p))
        for axis in axes:
            shape = np.ones(3, dtype=int)
            shape[axis] = p
            waves *= np.exp(-0.5 * (frequency / modes) ** 2).reshape(shape)
        return on_grid(task, np.fft.ifftn(waves, axes=axes).real)

    return draw


def low_rank(rank: int) -> Draw:
    """Sums of products of a function of a, one of b and one of the class."""

    def draw(task: Task, seed: int) -> torch.Tensor:
        factors = np.random.default_rng(seed).normal(size=(3, task.n_classes, rank))
        return on_grid(task, np.einsum("ar,br,cr->abc", *factors))

    return draw


def student(freedom: float) -> Draw:
    """Independent logits of Student's distribution; infinite freedom is the normal one."""

    def draw(task: Task, seed: int) -> torch.Tensor:
        rng, shape = np.random.default_rng(seed), (task.n_classes,) * 3
        return on_grid(task, rng.normal(size=shape) if math.isinf(freedom) else rng.standard_t(freedom, size=shape))

    return draw


def smooth_ridge(width: float) -> Draw:
    """Kernel ridge regression of the labels, smooth in a and b as numbers."""

    def draw(task: Task, seed: int) -> torch.Tensor:
        inputs, train = task.operands.double(), task.rows(task.train_ids)
        kernel = torch.exp(-torch.cdist(inputs, inputs).square() / (2 * width**2))
        ridge = kernel[train][:, train] + 0.01 * torch.eye(len(train), dtype=torch.float64)
        return kernel[:, train] @ torch.linalg.solve(ridge, label_grid(task)[train].double())

    return draw


def nearest(k: int, mirrored: bool) -> Draw:
    """The labels of the k nearest training cells, ties in random order; with or without their mirror images."""

    def draw(task: Task, seed: int) -> torch.Tensor:
        inputs, train = task.operands.double(), task.rows(task.train_ids)
        distance = torch.cdist(inputs, inputs[train])
        if mirrored:
            distance = torch.minimum(distance, torch.cdist(inputs.flip(1), inputs[train]))
        distance += 1e-3 * torch.rand(distance.shape, generator=torch.Generator().manual_seed(seed))
        return label_grid(task)[train][distance.topk(k, largest=False).indices].mean(1)

    return draw


def mirrored_labels(jitter: float) -> Draw:
    """Every training label, at its cell and at the mirror image, and as much noise."""

    def draw(task: Task, seed: int) -> torch.Tensor:
        table = label_grid(task).reshape(task.symbols, task.symbols, -1)
        logits = (table + table.transpose(0, 1)).flatten(0, 1)
        return logits + jitter * torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed))

    return draw


def elimination(mirrored: bool, jitter: float) -> Draw:
    """1 for classes that the labels of row and column have not used; with or without those of the mirror images."""

    def draw(task: Task, seed: int) -> torch.Tensor:
        used = torch.zeros(2, task.symbols, task.n_classes, dtype=torch.bool)
        a, b = task.operands[task.rows(task.train_ids)].T
        used[0, a, task.given(task.train_ids)] = used[1, b, task.given(task.train_ids)] = True
        row, column = (used.any(0), used.any(0)) if mirrored else used
        a, b = task.operands.T
        logits = (~(row[a] | column[b])).float()
        return logits + jitter * torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed))

    return draw


def rule(kappa: float) -> Draw:
    """Normal logits with the right answer at such a height that κ of all cells is expected to be this."""

    def draw(task: Task, seed: int) -> torch.Tensor:
        p, true = task.n_classes, task.true(task.ids)
        signal = (F.one_hot(true, p).double() - 1 / p) / math.sqrt((1 / p) * (1 - 1 / p))
        noise = torch.randn(signal.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return kappa * signal + math.sqrt(1 - kappa**2) * noise

    return draw


def answers(of: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]) -> Draw:
    """One-hot answers of another rule, clipped to the classes."""
    return lambda task, seed: F.one_hot(
        of(*task.operands.T, task.n_classes).clamp(max=task.n_classes - 1), task.n_classes
    ).double()


NULLS: dict[str, Draw] = {
    "independent": student(math.inf),
    "heavy-tailed (Student, 2 degrees)": student(2),
    "heavy-tailed (Cauchy)": student(1),
    "smooth in (a, b), 3 modes": smooth((0, 1), 3),
    "smooth in (a, b), 1 mode": smooth((0, 1), 1),
    "smooth in all three, 6 modes": smooth((0, 1, 2), 6),
    "smooth in all three, 3 modes": smooth((0, 1, 2), 3),
    "smooth in all three, 1.5 modes": smooth((0, 1, 2), 1.5),
    "smooth in all three, 1 mode": smooth((0, 1, 2), 1),
    "low rank, 1": low_rank(1),
    "low rank, 3": low_rank(3),
    "kernel ridge on one-hot operands": lambda task, seed: kernel_ridge(task),
    "kernel ridge, width 1.5": smooth_ridge(1.5),
    "kernel ridge, width 4": smooth_ridge(4),
    "nearest neighbour": nearest(1, mirrored=False),
    "nearest neighbour or mirror image": nearest(1, mirrored=True),
    "four nearest neighbours": nearest(4, mirrored=False),
    "labels and their mirror images": mirrored_labels(0.0),
    "the same with noise of 0.001": mirrored_labels(1e-3),
    "the same with noise of 0.1": mirrored_labels(0.1),
}

PLANTS: dict[str, Draw] = {
    "a xor b": answers(lambda a, b, p: a ^ b),
    "a or b": answers(lambda a, b, p: a | b),
    "max(a, b)": answers(lambda a, b, p: torch.maximum(a, b)),
    "min(a, b)": answers(lambda a, b, p: torch.minimum(a, b)),
    "|a − b|": answers(lambda a, b, p: (a - b).abs()),
    "a + b + 1": answers(lambda a, b, p: (a + b + 1) % p),
    "2(a + b)": answers(lambda a, b, p: 2 * (a + b) % p),
    "a + 2b": answers(lambda a, b, p: (a + 2 * b) % p),
    "a · b": answers(lambda a, b, p: a * b % p),
    "a − b": answers(lambda a, b, p: (a - b) % p),
    "Latin elimination": elimination(mirrored=False, jitter=0),
    "Latin elimination and mirror images": elimination(mirrored=True, jitter=0),
    "Latin elimination with noise of 0.3": elimination(mirrored=False, jitter=0.3),
}

STRENGTHS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.9)


@dataclasses.dataclass(frozen=True)
class Trained:
    """Two-layer ReLU networks, many at once, trained until they fit labels that are wrong for the most part.

    Attributes:
        inputs: "separate" embeddings of a and b; "shared" with a learned vector per position and a ReLU before the sum;
            "nearly_tied", separate ones that begin within a thousandth of each other.
        only_noise: whether labels are uniform over all classes.
        symmetric: whether the wrong labels of (a, b) and (b, a) are the same.
    """

    inputs: str
    only_noise: bool = False
    symmetric: bool = False
    width: int = 128
    steps: int = 400

    def logits(self, tasks: Sequence[Task], seed: int) -> torch.Tensor:
        """Return the logits of one network per task, all with as many training cells. Shape (network, cell, class)."""
        draw, p, m = torch.Generator().manual_seed(seed), tasks[0].n_classes, len(tasks)
        train = torch.stack([task.rows(task.train_ids) for task in tasks])
        given = torch.stack([task.given(task.train_ids) for task in tasks])
        if self.only_noise:
            given = torch.randint(p, given.shape, generator=draw)
        left = torch.randn(m, p, self.width, generator=draw) / math.sqrt(p)
        near = left + 1e-3 * torch.randn(left.shape, generator=draw) / math.sqrt(p)
        right = near if self.inputs == "nearly_tied" else torch.randn(left.shape, generator=draw) / math.sqrt(p)
        place = torch.randn(m, 2, 1, self.width, generator=draw) / math.sqrt(p)
        hidden, out = (
            torch.randn(m, self.width, size, generator=draw) / math.sqrt(self.width) for size in (self.width, p)
        )
        shared = self.inputs == "shared"
        weights = [left, place, hidden, out] if shared else [left, right, out]
        for each in weights:
            each.requires_grad_()
        network = torch.arange(m)[:, None]

        def run(cells: torch.Tensor) -> torch.Tensor:
            a, b = (tasks[0].operands[:, side][cells] for side in (0, 1))
            if shared:
                first, second = (F.relu(left[network, x] + place[:, i]) for i, x in enumerate((a, b)))
                return F.relu((first + second) @ hidden) @ out
            return F.relu(left[network, a] + right[network, b]) @ out

        optimizer = torch.optim.AdamW(weights, lr=1e-2, weight_decay=0.1)
        for _ in range(self.steps):
            optimizer.zero_grad()
            # Summed over networks, so that each has the gradient that it would have alone.
            loss = F.cross_entropy(run(train).flatten(0, 1), given.flatten(), reduction="sum") / train.shape[1]
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            fitted = (run(train).argmax(2) == given).float().mean()
            if fitted < 0.9:
                raise RuntimeError(f"only {fitted:.2f} of the labels were fitted: these networks are no null")
            return run(torch.arange(len(tasks[0].ids)).expand(m, -1))


TRAINED: dict[str, tuple[Trained, float]] = {
    "trained on noise alone": (Trained("separate", only_noise=True), 0.8),
    "trained, 80 % of the labels wrong": (Trained("separate"), 0.8),
    "shared embedding, noise alone": (Trained("shared", only_noise=True), 0.8),
    "shared embedding, 90 % wrong": (Trained("shared"), 0.9),
    "shared embedding, 80 % wrong": (Trained("shared"), 0.8),
    "shared embedding, 60 % wrong": (Trained("shared"), 0.6),
    "nearly tied, 80 % wrong": (Trained("nearly_tied"), 0.8),
    "shared embedding, symmetric noise, 80 % wrong": (Trained("shared", symmetric=True), 0.8),
}
"""Networks and the share of wrong labels that they were trained on."""
