"""Networks like a run's, trained on random subsets of its training examples and kept in its directory."""

from __future__ import annotations

import os

from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.tasks.build import build_task
from mechmem.training.subsets import SubsetNetworks, train_subsets
from mechmem.training.train import ConfigRetrainer


def networks_on_subsets(
    subject: Subject,
    what: str,
    *,
    networks: int,
    fraction: float,
    seed: int,
    logits: bool = False,
    progress: bool = False,
) -> SubsetNetworks:
    """Train networks with the run's config and number of steps on random subsets, or open those that are there.

    Args:
        subject: the run.
        what: the measurement, for errors.
        networks: number of networks.
        fraction: share of the training examples in each subset.
        seed: seed of the subsets and of the networks.
        logits: whether to keep logits on the test examples.
        progress: whether to show a bar.

    Raises:
        MissingNeedError: the network was not trained from a config, or its task is not the subject's.
    """
    retrainer = subject.retrainer
    if not isinstance(retrainer, ConfigRetrainer) or subject.run is None:
        raise MissingNeedError(f"{what!r} needs a run that was trained from a config, to train others like it")
    if build_task(retrainer.config.task).digest != subject.task.digest:
        raise MissingNeedError(f"{what!r} trains on the task of the run's config, but the subject's differs")
    writable = os.access(subject.run.path, os.W_OK)
    return train_subsets(
        retrainer.config,
        networks=networks,
        fraction=fraction,
        seed=seed,
        steps=retrainer.steps,
        logits=logits,
        out=subject.run.path / "subsets" if writable else retrainer.folder / "subsets",
        device=retrainer.device,
        progress=progress,
    )
