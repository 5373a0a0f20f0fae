"""Networks trained on random subsets: as a stack, and in two processes, against one after the other.

The first is timed by the processor time that it takes, so that what else runs on the machine counts less. The second is
by the clock, and says nothing on a machine whose cores are not free.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import timing
import torch
from timing import add as add_row

import mechmem as mm
from mechmem.training.subsets import SubsetNetworks, train_subsets

NETWORKS = 32
NOISE = mm.LabelNoise(0.2)
IMAGES = mm.TrainConfig(
    task=mm.ImageConfig("digits", train=1200, test=300, noise=NOISE),
    model=mm.ImageMLPConfig((128, 128)),
    optimizer="sgd",
    lr=0.01,
    weight_decay=0.01,
    batch_size=32,
    steps=100,
)
PAIRS = mm.TrainConfig(task=mm.ModularConfig(p=23, noise=NOISE), model=mm.MLPConfig(width=128), steps=100)


def seconds(call: Callable[[], SubsetNetworks], clock: Callable[[], float]) -> tuple[float, SubsetNetworks]:
    start = clock()
    found = call()
    return clock() - start, found


def compared(
    plain: Callable[[], SubsetNetworks],
    fast: Callable[[], SubsetNetworks],
    clock: Callable[[], float],
    rounds: int,
    flips: float,
) -> tuple[float, float]:
    """Median seconds of two ways in turns; they have to agree on all predictions but a share."""
    times: tuple[list[float], list[float]] = ([], [])
    rounds = timing.ROUNDS or rounds
    for turn in range(rounds):
        (first, one), (second, other) = seconds(plain, clock), seconds(fast, clock)
        assert torch.equal(one.member, other.member), "the two ways draw other subsets"
        differ = float((one.predictions != other.predictions).double().mean())
        assert differ <= flips, f"the two ways disagree on {differ:.2%} of the predictions"
        if turn or rounds == 1:
            times[0].append(first)
            times[1].append(second)
    return sorted(times[0])[len(times[0]) // 2], sorted(times[1])[len(times[1]) // 2]


def run(add: Callable[..., None] = add_row) -> None:
    for what, config in (
        (f"{NETWORKS} subset networks, digits, (128, 128), batch 32", IMAGES),
        (f"{NETWORKS} subset networks, p=23, N=128, full batch", PAIRS),
    ):

        def trained(how: str, config: mm.TrainConfig = config) -> Callable[[], SubsetNetworks]:
            return lambda: train_subsets(config, networks=NETWORKS, how=how, progress=False)

        # Where a pre-activation is 0 but for rounding, a ReLU takes another side: one answer in a thousand may follow.
        times = compared(trained("loop"), trained("stacked"), time.process_time, 4, 1e-3)
        add(f"{what}, stacked", *times, 1.5, speedup=True)

    def in_processes(workers: int) -> Callable[[], SubsetNetworks]:
        longer = {"networks": NETWORKS, "steps": 1000, "how": "loop"}
        return lambda: train_subsets(IMAGES, workers=workers, progress=False, **longer)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = compared(in_processes(1), in_processes(2), time.perf_counter, 1, 0.0)
    finally:
        torch.set_num_threads(threads)
    add(f"{NETWORKS} subset networks, digits, 1000 steps, two processes", *times, 1.7, speedup=True)
