"""Resuming a run: its config compared, and the newest state restored whose history is whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from mechmem.core.storage import warn_unchecked
from mechmem.errors import RestartWarning, RunDirectoryError, warn_caller
from mechmem.training.config import TrainConfig
from mechmem.training.header import Header, read_header
from mechmem.training.history import no_history
from mechmem.training.optimizers import Optimizers
from mechmem.training.recorder import Recorder
from mechmem.training.run import OPTIMIZER, Run


def same_run(path: Path, config: TrainConfig) -> Header:
    """Return the header of a run that has been begun.

    Raises:
        RunDirectoryError: it is damaged, or the run has another config.
    """
    header = read_header(path)
    recorded, wanted = header.settings, config.to_dict()
    if recorded is None:
        raise RunDirectoryError(f"{path} was recorded from another training loop; choose another directory")
    if recorded != wanted:
        changed = [key for key in wanted if recorded.get(key) != wanted[key]]
        raise RunDirectoryError(
            f"{path} holds a run of another config (it differs in {', '.join(changed)}); choose another directory"
        )
    return header


def restore(run: Run, recorder: Recorder, model: nn.Module, optimizers: Optimizers) -> tuple[int | None, bool]:
    """Restore the newest state whose history is whole: of the network, the optimiser and the history.

    Returns:
        its step, or None if the run must begin anew; and whether the run has finished there.

    Raises:
        RunDirectoryError: a checkpoint is damaged or missing.

    Warns:
        RestartWarning: evaluations were lost, so that the state is not the newest one.
        UncheckedWarning: an older version saved the run, without hashes.
    """
    if not run.header.hashed:
        warn_unchecked(run.path)
    saved, end, history = run.checkpoint_steps(), run.finished(), run.read_history()
    if end is not None and end["step"] not in saved:
        raise RunDirectoryError(f"{run.path} has lost its last checkpoint, of step {end['step']}")
    if end is not None and not history.fault and run.complete(history, end["step"]):
        run.load_state(model, end["step"])
        return end["step"], True
    resumable = [step for step in run.checkpoint_steps(OPTIMIZER) if step in saved]
    if saved and not resumable:
        raise RunDirectoryError(f"{run.path} has no optimiser state to resume from")
    whole = [step for step in resumable if run.complete(history, step)]
    last = whole[-1] if whole else None
    if resumable and last != resumable[-1]:
        warn_caller(
            f"{run.path} has lost evaluations before step {resumable[-1]}: it is trained again from step {last or 0}",
            RestartWarning,
        )
    if last is None:
        recorder.resume_at(0, no_history(run.header.run))
        return None, False
    run.load_state(model, last)
    optimizers.load_state_tensors(run.read_checkpoint(last, model, OPTIMIZER))
    recorder.resume_at(last, history.up_to(last))
    return last, False


@contextlib.contextmanager
def recorded_threads(count: int | None) -> Iterator[None]:
    """Run the block with a run's number of threads, on which the rounding of sums depends; None for the present one."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
