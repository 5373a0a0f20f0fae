"""Networks of one config trained on random subsets of the training examples (Feldman & Zhang 2020)."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.core import files, storage
from mechmem.core.arguments import checked
from mechmem.core.config import check_choice, check_whole
from mechmem.core.ids import as_ids
from mechmem.core.processes import interruptible
from mechmem.core.results import Saved
from mechmem.core.storage import record
from mechmem.core.task import Ids, Task
from mechmem.errors import RunDirectoryError, TrainingFailedError, UnknownNameError
from mechmem.math.detection import SubsetEstimate, memorization, subset_influence
from mechmem.models.hooks.running import as_configured
from mechmem.tasks.config import SPLITS
from mechmem.tasks.splits import labelled_splits
from mechmem.training.config import TrainConfig
from mechmem.training.header import check_folder_of_runs
from mechmem.training.progress import reporter
from mechmem.training.subset_pool import in_processes
from mechmem.training.subset_trainer import Answers, Plan, SubsetTrainer, stack_size

How = Literal["auto", "stacked", "loop"]


@record
@dataclasses.dataclass(frozen=True, eq=False)
class SubsetNetworks(Saved):
    """Predictions of networks trained on random subsets; the networks themselves are not kept.

    Attributes:
        ids: every example of the task. Shape (example).
        given: their labels: given labels of training examples, true labels of test examples. Shape (example).
        sources: the training examples from which subsets are drawn. Shape (source).
        test_ids: the test examples. Shape (test).
        member: which networks were trained on which sources. Shape (network, source).
        predictions: predictions of each network on every example. Shape (network, example).
        test_logits: its logits on the test examples, or None if not requested. Shape (network, test, class).
        how: method of training, "stacked" or "loop".
    """

    ids: Int[Tensor, " example"]
    given: Int[Tensor, " example"]
    sources: Int[Tensor, " source"]
    test_ids: Int[Tensor, " test"]
    member: Bool[Tensor, "network source"]
    predictions: Int[Tensor, "network example"]
    test_logits: Float[Tensor, "network test class"] | None
    how: str

    def __len__(self) -> int:
        """Number of networks."""
        return len(self.member)

    def right(self, ids: Ids) -> Bool[Tensor, "network chosen"]:
        """Return which networks predict the given label of which of these examples.

        Raises:
            ConfigError: the argument is not a list of ids.
            UnknownNameError: an id is not one of the task's.
        """
        wanted, order = as_ids(ids), torch.argsort(self.ids)
        rows = order[torch.searchsorted(self.ids[order], wanted).clamp(max=len(order) - 1)]
        if not torch.equal(self.ids[rows], wanted):
            raise UnknownNameError(f"no example id {int(wanted[self.ids[rows] != wanted][0])} in these networks' task")
        return self.predictions[:, rows] == self.given[rows]

    def memorization(self) -> SubsetEstimate:
        """Return each source's memorization: how much likelier its label is predicted by networks trained on it."""
        return memorization(self.member, self.right(self.sources))

    def influence(self, ids: Ids | None = None) -> SubsetEstimate:
        """Return each source's influence on correct predictions of examples, by default of the test examples."""
        return subset_influence(self.member, self.right(self.test_ids if ids is None else ids))


@checked
@as_configured()
def train_subsets(
    config: TrainConfig,
    *,
    networks: int,
    fraction: float = 0.7,
    seed: int = 0,
    steps: int | None = None,
    workers: int = 1,
    how: How = "auto",
    logits: bool = False,
    out: str | Path | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> SubsetNetworks:
    """Train networks that differ in a random subset of the training examples and in their seed.

    Every subset has round(fraction · n) examples; with fixed views, all views of an example are in it or none is.
    Everything else, including the number of steps, follows the config, except that `stop_when` is ignored. Network k
    depends only on (config, fraction, seed, k), up to rounding in stacks; its subset depends on (fraction, seed, k) and
    the number of examples.

    Two methods give the same networks up to rounding. "loop" trains the networks one by one with the same step as
    `train`, in one or several processes. "stacked" trains up to 32 at once, as one network whose parameters have an
    additional axis, which turns many small products into few large ones; it is impossible with muon, bf16, BatchNorm,
    dropout or example masks. "auto" is "stacked" if that is possible, there is one process, there are no convolutions,
    and the product of weights and examples per step is at most `mechmem.training.subset_trainer.FEW_PRODUCTS`, beyond
    which single products are large enough.

    The same call gives the same bits on the same machine and thread count. Several processes have one thread each.

        subsets = mm.train_subsets(config, networks=4, out="runs/subsets")

    Args:
        config: training config of each network.
        networks: number of networks.
        fraction: fraction of the training examples in each subset.
        seed: seed of the subsets and of the networks.
        steps: number of steps, if different from the config's.
        workers: number of processes, for "loop"; each takes some seconds to start. A script that uses several needs
            `if __name__ == "__main__":`.
        how: "auto", "stacked" or "loop".
        logits: whether to keep logits on the test examples.
        out: directory for the results, which are kept in a folder named by a hash of all settings, one file per network
            or stack: existing files are read, and only missing networks are trained. With a different number of
            networks the last stack may differ.
        device: where to train.
        progress: whether to show a bar (plain lines if standard error is not a terminal).

    Raises:
        ConfigError: a setting is invalid, or networks of this config cannot be trained by the requested method.
        RunDirectoryError: a file in `out` is damaged, or another process writes the same results.
        TrainingFailedError: a loss is not a number, a process died, or a result could not be written.
    """
    plan = Plan(config, fraction, seed, bool(logits), device, steps)
    check_whole("networks", networks, 1, 10**6)
    if out is not None:
        check_folder_of_runs(out)
    check_whole("workers", workers, 1)
    workers = min(workers, networks)
    check_choice("way to train subset networks", how, get_args(How))
    trainer = SubsetTrainer(plan)
    size = stack_size(trainer, how, workers)
    chosen = "loop" if size is None else "stacked"
    decides = _decides(plan, chosen, 1 if workers > 1 else torch.get_num_threads())
    folder = None if out is None else Path(out) / f"{chosen}-{_digest(decides)}"
    units = [range(first, min(first + (size or 1), networks)) for first in range(0, networks, size or 1)]
    try:
        with interruptible(), contextlib.nullcontext() if folder is None else files.alone(folder):
            found = {} if folder is None else _opened(folder, decides, units, trainer)
            _train_missing(trainer, units, found, folder, workers, stacked=size is not None, progress=progress)
    except OSError as error:
        raise TrainingFailedError(f"could not write to {folder}: {error}") from error
    return _assembled(trainer.task, [found[unit] for unit in units], chosen)


def _train_missing(
    trainer: SubsetTrainer,
    units: Sequence[range],
    found: dict[range, Answers],
    folder: Path | None,
    workers: int,
    *,
    stacked: bool,
    progress: bool,
) -> None:
    """Train the networks that have not been found, and add them to those that have."""
    steps = trainer.plan.config.steps
    left, done = [unit for unit in units if unit not in found], steps * sum(len(unit) for unit in found)
    with reporter("subset networks", done, steps * sum(map(len, units)), show=progress) as report:

        def moved(count: int) -> None:
            nonlocal done
            done += count
            report.step(done, None)

        if workers > 1:
            trained = in_processes(trainer.plan, left, workers, moved)
        else:
            trained = ((unit, trainer.stack(unit, moved) if stacked else trainer.one(unit[0], moved)) for unit in left)
        # Closed here, so that an interrupt at any point ends the processes.
        with contextlib.closing(trained):
            for unit, answers in trained:
                found[unit] = answers
                if folder is not None:
                    _write(folder, unit, answers, trainer)
                report.step(done, _accuracies(trainer.task, found))


def _decides(plan: Plan, how: str, threads: int) -> dict[str, Any]:
    """Return every setting that the networks depend on."""
    return {
        "format": 1,
        "config": plan.config.to_dict(),
        "fraction": plan.fraction,
        "seed": plan.seed,
        "logits": plan.logits,
        "how": how,
        "device": plan.device,
        "threads": threads,
        "torch": torch.__version__,
    }


def _digest(decides: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(decides, sort_keys=True).encode(), digest_size=6).hexdigest()


def _opened(
    folder: Path, decides: dict[str, Any], units: Sequence[range], trainer: SubsetTrainer
) -> dict[range, Answers]:
    """Return the results that are in a folder."""
    files.sweep(folder, "plan.json", "networks_*.safetensors")
    if not (folder / "plan.json").exists():
        files.write_json(folder / "plan.json", decides)
    elif files.read_json(folder / "plan.json") != decides:
        raise RunDirectoryError(f"{folder / 'plan.json'} is damaged: it is the plan of other networks")
    found = {unit: _read(folder, unit, trainer) for unit in units if (folder / _name(unit)).exists()}
    if not all(stored.hashed for stored in found.values()):
        storage.warn_unchecked(folder)
    tensors = {unit: stored.tensors for unit, stored in found.items()}
    return {
        unit: Answers(each["member"], each["predictions"], each.get("test_logits")) for unit, each in tensors.items()
    }


def _name(unit: range) -> str:
    return f"networks_{unit[0]}_to_{unit[-1]}.safetensors"


def _about(folder: Path, unit: range, trainer: SubsetTrainer) -> dict[str, str]:
    return {"plan": folder.name, "networks": f"{unit[0]} to {unit[-1]}", "task": trainer.task.digest}


def _write(folder: Path, unit: range, answers: Answers, trainer: SubsetTrainer) -> None:
    tensors = {"member": answers.member, "predictions": answers.predictions}
    tensors |= {} if answers.test_logits is None else {"test_logits": answers.test_logits}
    storage.write_tensors(folder / _name(unit), tensors, _about(folder, unit, trainer))


def _read(folder: Path, unit: range, trainer: SubsetTrainer) -> storage.Stored:
    path, task = folder / _name(unit), trainer.task
    stored = storage.read_stored(path)
    expected: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "member": ((len(unit), len(task.sources)), torch.bool),
        "predictions": ((len(unit), len(task.ids)), torch.int32),
    }
    if trainer.plan.logits:
        expected["test_logits"] = (len(unit), len(task.test_ids), task.n_classes), torch.float32
    found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in stored.tensors.items()}
    if found != expected:
        raise RunDirectoryError(f"{path} is damaged: it holds {found}, expected {expected}")
    about = _about(folder, unit, trainer)
    if stored.hashed and stored.about != about:
        raise RunDirectoryError(f"{path} is damaged: it is of {stored.about}, not of {about}")
    return stored


def _accuracies(task: Task, found: dict[range, Answers]) -> dict[str, Any]:
    """Return the four accuracies as means over networks, in the form of a history row."""
    predictions = torch.cat([answers.predictions for answers in found.values()])
    row: dict[str, Any] = dict.fromkeys(SPLITS)
    for split in labelled_splits(task):
        row[split.name] = float((predictions[:, task.rows(split.ids)] == split.labels).double().mean())
    return row


def _assembled(task: Task, answers: list[Answers], how: str) -> SubsetNetworks:
    logits = [each.test_logits for each in answers if each.test_logits is not None]
    return SubsetNetworks(
        ids=task.ids,
        given=task.given(task.ids),
        sources=task.sources,
        test_ids=task.test_ids,
        member=torch.cat([each.member for each in answers]),
        predictions=torch.cat([each.predictions for each in answers]),
        test_logits=torch.cat(logits) if logits else None,
        how=how,
    )
