"""Benchmarks: every line is a ratio against a plain reference written here, both timed in this process.

Each benchmark first checks that the fast and the plain way agree numerically. Run with `make bench`, on a machine that
does nothing else. Nothing here is a test of time: ratios are printed beside the bar they are meant to clear.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

import mechmem as mm
from mechmem.math.filtration import frequency_part, frequency_power, key_frequency
from mechmem.models.forward import block_rows, logits_of
from mechmem.tasks.groups import CyclicGroup
from mechmem.training.loop import training_step, widen_heap
from mechmem.training.optimizers import Optimizers

P, WIDTH = 113, 2048
ROWS: list[tuple[str, str, str, str]] = []


def alternately(plain: Callable[[], object], fast: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median seconds of two ways, measured in turns so that a slow spell of the machine hits both."""
    times: tuple[list[float], list[float]] = ([], [])
    for call in (plain, fast):
        call()
    for _ in range(rounds):
        for seconds, call in zip(times, (plain, fast), strict=True):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def add(what: str, plain: float, fast: float, bar: float, *, speedup: bool) -> None:
    """Note a ratio: plain over fast where more is better, fast over plain where less is."""
    ratio = plain / fast if speedup else fast / plain
    sign = "≥" if speedup else "≤"
    ROWS.append((what, f"{1e3 * plain:.1f} ms", f"{1e3 * fast:.1f} ms", f"{ratio:.2f}× (bar {sign} {bar}×)"))


def config(precision: str) -> mm.TrainConfig:
    task = mm.ModularConfig(p=P, train_fraction=0.8, noise=mm.LabelNoise(0.8))
    return mm.TrainConfig(task=task, model=mm.MLPConfig(width=WIDTH), precision=precision)


def plain_step(task: mm.ModularTask, model: torch.nn.Module) -> Callable[[], torch.Tensor]:
    """The reference: dense one-hot inputs, the full batch at once, autograd, AdamW."""
    pairs, given = task.batch(task.train_ids)
    inputs = F.one_hot(pairs + torch.tensor([0, P]), 2 * P).sum(1).float()
    w_in, w_out = (torch.nn.Parameter(w.detach().clone()) for w in (model.W_in, model.W_out))
    optimizer = torch.optim.AdamW([w_in, w_out], lr=1e-3, weight_decay=0.1)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.relu(inputs @ w_in) @ w_out, given)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def training(precision: str, bar: float) -> None:
    settings = config(precision)
    task = mm.ModularTask(settings.task)
    from mechmem.models.build import build_model

    model = build_model(settings.model, task, 0)
    plain = plain_step(task, model)
    optimizers = Optimizers(settings, model, model.roles)
    inputs, given = task.batch(task.train_ids)
    widen_heap()

    def ours() -> torch.Tensor:
        return training_step(model, optimizers, inputs, given, settings, block_rows(model))

    tolerance = 1e-5 if precision == "fp32" else 2e-3
    for _ in range(3):
        assert abs(float(plain()) - float(ours())) < tolerance * 5, "the two steps disagree"
    add(f"training step, {precision}, p={P}, N={WIDTH}", *alternately(plain, ours, 9), bar, speedup=True)


def filtration() -> None:
    neurons = 16384
    draw = torch.Generator().manual_seed(0)
    embedding, readout = torch.randn(2, P, neurons, generator=draw), torch.randn(neurons, P, generator=draw)
    group = CyclicGroup(P)

    def ours() -> list[torch.Tensor]:
        freq = key_frequency(frequency_power(group, embedding, readout))
        return [frequency_part(group, vectors, freq, "G") for vectors in (*embedding, readout.T)]

    u, v, w = (t.numpy() for t in (*embedding, readout.T))

    def plain() -> list[np.ndarray]:
        kept = [np.zeros_like(x) for x in (u, v, w)]
        for m in range(neurons):
            spectra = [np.fft.rfft(x[:, m]) for x in (u, v, w)]
            energies = [np.abs(s[1:]) ** 2 for s in spectra]
            k = 1 + int(np.argmax(sum(energy / energy.sum() for energy in energies)))
            for x, s in zip(kept, spectra, strict=True):
                only = np.zeros_like(s)
                only[k] = s[k]
                x[:, m] = np.fft.irfft(only, P)
        return kept

    for fast, slow in zip(ours(), plain(), strict=True):
        assert np.abs(fast.numpy() - slow).max() < 1e-4, "filtrations disagree"
    add(f"filtration of {neurons} neurons, p={P}", *alternately(plain, ours, 3), 20, speedup=True)


def caching() -> None:
    from mechmem.models.build import build_model

    task = mm.ModularTask(config("fp32").task)
    model = build_model(mm.MLPConfig(width=WIDTH), task, 0)
    subject = mm.Subject(model, task, model.roles)
    pairs = task.batch(task.ids)[0]
    widen_heap()

    @torch.no_grad()
    def whole() -> torch.Tensor:
        return model(pairs)

    def blocked() -> torch.Tensor:
        return logits_of(model, task, task.ids)

    cached = mm.activations(subject, "*", ids=task.ids)
    assert torch.allclose(cached["hook_logits"], whole(), atol=1e-5), "cached logits disagree"
    mean = mm.activations(subject, "*", ids=task.ids, reduce=mm.Mean)["hook_hidden"]
    assert torch.allclose(mean, cached["hook_hidden"].double().mean(0), atol=1e-6), "reduced means disagree"
    del cached
    for name, plain in (("plain forward", whole), ("forward in row blocks", blocked)):
        every = alternately(plain, lambda: mm.activations(subject, "*", ids=task.ids), 9)
        add(f"caching every point, against the {name}", *every, 1.8, speedup=False)
        point = alternately(plain, lambda: mm.activations(subject, "hook_hidden", ids=task.ids, reduce=mm.Mean), 9)
        add(f"streamed mean of the hidden layer, against the {name}", *point, 1.2, speedup=False)


def memory() -> None:
    from mechmem.models.build import build_model

    task = mm.ModularTask(config("fp32").task)
    model = build_model(mm.MLPConfig(width=WIDTH), task, 0)
    ids = torch.randint(len(task.ids), (10**6,))
    subject = mm.Subject(model, task, model.roles)
    before = peak_resident_mb(reset=True)
    mm.activations(subject, "hook_hidden", ids=ids, reduce=mm.Variance)
    sys.stdout.write(f"{peak_resident_mb() - before}\n")


def peak_resident_mb(*, reset: bool = False) -> float:
    """Highest resident memory since the last reset (Linux keeps it, and forgets it on request)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def in_a_fresh_process(argument: str) -> float:
    done = subprocess.run([sys.executable, __file__, argument], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def start_up() -> None:
    for what, command, bar in (
        ("import mechmem", [sys.executable, "-c", "import mechmem"], 0.3),
        ("mechmem --help", [sys.executable, "-m", "mechmem.cli", "--help"], 0.5),
    ):
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run(command, capture_output=True, check=True)
            seconds.append(time.perf_counter() - start)
        ROWS.append((what, "", f"{1e3 * statistics.median(seconds):.0f} ms", f"bar ≤ {1e3 * bar:.0f} ms"))


def main() -> None:
    if sys.argv[1:] == ["memory"]:
        memory()
        return
    start_up()
    training("fp32", 2.3)
    training("bf16", 4.5)
    filtration()
    caching()
    ROWS.append(
        ("memory of one reduction over 10⁶ inputs", "", f"{in_a_fresh_process('memory'):.0f} MB", "bar ≤ 500 MB")
    )
    table = Table(title=f"mechmem benchmarks, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for head in ("what", "plain", "mechmem", "ratio"):
        table.add_column(head)
    for row in ROWS:
        table.add_row(*row)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
