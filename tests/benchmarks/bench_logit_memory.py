"""Peak memory and time of everything that reads the logits of a whole grid, at a size where copies of them hurt.

Each job runs in a fresh process on a synthetic table of logits mod p (a rule, memorized labels, row effects, noise) and
reports the highest resident memory since the process began, torch and its libraries included. One table in float32
takes 4 p³ bytes: 527 MB at p = 509. Run `python tests/benchmarks/bench_logit_memory.py [p] [job …]`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from timing import peak_resident_mb

import mechmem as mm
from mechmem.analyses.logits.frequency_reconstruction import FrequencyReconstruction
from mechmem.analyses.logits.logit_spectrum import LogitSpectrum
from mechmem.analyses.logits.operation_scan import OperationScan
from mechmem.analyses.logits.suppression import Suppression
from mechmem.analyses.neurons.direct_logit_attribution import DirectLogitAttribution
from mechmem.core.subject import Subject
from mechmem.scorecard.controls import LogitTable
from mechmem.scorecard.structure import held_out_structure

P, BAR_MB = 509, 6 * 1024


def task_of(p: int) -> mm.ModularTask:
    """Addition, 80 % of the grid trained on, 30 % of it with wrong labels."""
    return mm.ModularTask(mm.ModularConfig(p=p, train_fraction=0.8, noise=mm.LabelNoise(0.3)))


def synthetic_logits(task: mm.ModularTask) -> torch.Tensor:
    """A weak rule, memorized training labels, row effects and noise, built in place in float32."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(len(task.ids), task.n_classes, generator=draw)
    logits += torch.randn(task.symbols, task.n_classes, generator=draw).repeat_interleave(task.symbols, 0)
    every = torch.arange(len(task.ids))
    logits[every, task.true(task.ids)] += 2
    logits[task.train_ids, task.given(task.train_ids)] += 6
    return logits


def reading(name: str) -> Callable[[Subject], object]:
    """Predict all training ids, then all test ids, as an audit does."""

    def run(subject: Subject) -> None:
        predictor = mm.extractor(name)(subject)
        for ids in (subject.task.train_ids, subject.task.test_ids):
            predictor(ids).argmax(1)

    return run


def attribution(p: int) -> None:
    """Attribute the logits of an untrained network of 256 neurons."""
    task = task_of(p)
    from mechmem.models.networks.build import build_model

    model = build_model(mm.MLPConfig(width=256), task, 0)
    DirectLogitAttribution()(Subject(model, task, model.roles))


JOBS: dict[str, Callable[[Subject], object]] = {
    "energy_ranked": reading("energy_ranked"),
    "diagonal": reading("diagonal"),
    "additive_free": reading("additive_free"),
    "held_out_structure": held_out_structure,
    "suppression": Suppression(),
    "frequency_reconstruction": FrequencyReconstruction(),
    "operation_scan": OperationScan(),
    "logit_spectrum": LogitSpectrum(),
}


def run(job: str, p: int) -> float:
    """Do one job and return its seconds, making the table not counted."""
    start = time.perf_counter()
    if job == "direct_logit_attribution":
        attribution(p)
        return time.perf_counter() - start
    task = task_of(p)
    logits = synthetic_logits(task)
    start = time.perf_counter()
    if job == "audit_logits":
        mm.audit_logits(logits, task)
    else:
        subject = Subject(LogitTable(logits, task), task)
        del logits
        JOBS[job](subject)
    return time.perf_counter() - start


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        seconds = run(sys.argv[2], int(sys.argv[3]))
        sys.stdout.write(f"{seconds} {peak_resident_mb()}\n")
        return
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    p = numbers[0] if numbers else P
    jobs = [word for word in sys.argv[1:] if not word.isdigit()] or [*JOBS, "direct_logit_attribution", "audit_logits"]
    table = Table(title=f"logits mod {p}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for head in ("job", "seconds", "peak MB", f"bar ≤ {BAR_MB} MB"):
        table.add_column(head)
    for job in jobs:
        command = [sys.executable, __file__, "--one", job, str(p)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, peak = map(float, done.stdout.split()[-2:])
        table.add_row(job, f"{seconds:.1f}", f"{peak:.0f}", "met" if peak <= BAR_MB else "missed")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
