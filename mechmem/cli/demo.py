"""The demo: two networks that fit every wrong label, one of which computes the rule underneath.

Both read like pure memorization from outside, and frequency filtration reads test accuracy near 100 % out of both. Only
the controls and the held-out structure tell them apart.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import joblib
import torch

from mechmem.core import files
from mechmem.core.processes import done_in_processes, interruptible
from mechmem.core.subject import Subject
from mechmem.models.hooks.running import resolve_device
from mechmem.models.networks.config import MLPConfig
from mechmem.pages.report import check_output, write_report
from mechmem.scorecard.audit import audit
from mechmem.scorecard.scorecard import Scorecard
from mechmem.sweeps.cost import expected_seconds
from mechmem.sweeps.progress import runs_progress
from mechmem.tasks.config import LabelNoise, ModularConfig
from mechmem.training.config import Precision, TrainConfig
from mechmem.training.header import TWINS
from mechmem.training.resume import recorded_threads
from mechmem.training.train import ConfigRetrainer, train


def demo_configs(seed: int) -> dict[str, TrainConfig]:
    """Return the two networks' configs: addition mod 59 with 30 % and 80 % wrong labels."""
    return {
        "hidden_rule": _config(noise=0.3, width=512, weight_decay=1.0, steps=3000, seed=seed),
        "heavy_noise": _config(noise=0.8, width=1024, weight_decay=0.1, steps=4000, seed=seed),
    }


def fast_precision() -> Precision:
    """Return the faster precision of matrix products on this processor.

    A processor with AVX2 alone multiplies bfloat16 in software, twenty times slower than float32.
    """
    return "fp32" if torch.backends.cpu.get_cpu_capability() in ("AVX2", "DEFAULT") else "bf16"


def _config(*, noise: float, width: int, weight_decay: float, steps: int, seed: int) -> TrainConfig:
    return TrainConfig(
        task=ModularConfig(op="add", p=59, train_fraction=0.8, noise=LabelNoise(noise), seed=seed),
        model=MLPConfig(width=width),
        weight_decay=weight_decay,
        steps=steps,
        precision=fast_precision(),
        seed=seed,
    )


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
    tell: Callable[[Scorecard], None] = lambda card: None,
) -> list[tuple[Subject, Scorecard]]:
    """Train both networks and their twins, audit them, and write scorecards and one report.

    Writes `<network>/` (a run directory with `scorecard.json`) and `report.html` into `out`. Networks that an
    interrupted demo has trained are reused.

    Args:
        out: output directory.
        seed: seed of tasks and networks.
        device: device to train on.
        progress: whether to show bars.
        tell: called with each scorecard as soon as it is finished.

    Raises:
        ConfigError: the seed or the device cannot be used; nothing has been written.
        RunDirectoryError: `out` holds runs of another seed, or something else, or another process writes to it.
        TrainingFailedError: a process died.
    """
    configs = demo_configs(seed)
    resolve_device(device)
    check_output(out, {*configs, "report.html"})
    entries = []
    # One lock for all, since the twins and the audits of two demos would meet too.
    with interruptible(), files.alone(out):
        _train_all(configs, out, device, progress=progress)
        for name, config in configs.items():
            with recorded_threads(1):
                subject = train(config, out=out / name, device=device, progress=False)
            card = audit(subject, progress=progress)
            files.write_json(out / name / "scorecard.json", card.to_json())
            tell(card)
            entries.append((subject, card))
        write_report(entries, out / "report.html")
    return entries


def _train_all(configs: Mapping[str, TrainConfig], out: Path, device: str, *, progress: bool) -> None:
    """Train the networks and their noise-only twins, each in a process of one thread, unless they stand already."""
    missing = {name: config for name, config in configs.items() if not (out / name / "scorecard.json").exists()}
    workers = min(2, joblib.cpu_count())
    each = expected_seconds(missing)
    # Long ones first, so that none of them is trained alone at the end; a twin takes as long as its network.
    order = sorted(missing, key=lambda name: -each[name])
    calls = {
        (name, twin): functools.partial(_train_one, missing[name], out / name, device, twin)
        for name in order
        for twin in (False, True)
    }
    expected = {f"{name} {twin}": each[name] for name, twin in calls}
    on = f"{workers} process{'es' * (workers > 1)} of one thread each"
    with (
        runs_progress("demo", expected, workers, on, show=progress) as report,
        contextlib.closing(done_in_processes(calls, workers, "trained a network")) as done,
    ):
        for (name, twin), _ in done:
            report(f"{name} {twin}")


def _train_one(config: TrainConfig, out: Path, device: str, twin: bool) -> None:
    if not twin:
        train(config, out=out, device=device, progress=False)
        return
    # Where the audit will look for it; the network itself may still be in training.
    out.mkdir(parents=True, exist_ok=True)
    ConfigRetrainer(config, config.steps, out / TWINS, device, threads=1).twin("noise_only")
