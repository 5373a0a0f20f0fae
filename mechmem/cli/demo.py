"""The demo: two networks that fit every wrong label, one of which computes the rule underneath.

Both read like pure memorization from outside, and frequency filtration reads test accuracy near 100 % out of both. Only
the controls and the held-out structure tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from mechmem.core import files
from mechmem.core.subject import Subject
from mechmem.models.networks.config import MLPConfig
from mechmem.pages.report import check_output, write_report
from mechmem.scorecard.audit import audit
from mechmem.scorecard.scorecard import Scorecard
from mechmem.tasks.config import LabelNoise, ModularConfig
from mechmem.training.config import Precision, TrainConfig
from mechmem.training.train import train


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
        RunDirectoryError: `out` holds runs of another seed, or something else, or another process writes to it.
    """
    configs = demo_configs(seed)
    check_output(out, {*configs, "report.html"})
    entries = []
    # One lock for all, since the twins and the audits of two demos would meet too.
    with files.alone(out):
        for name, config in configs.items():
            title = name.replace("_", " ")
            subject = train(config, out=out / name, device=device, progress=progress, title=title)
            card = audit(subject, progress=progress)
            files.write_json(out / name / "scorecard.json", card.to_json())
            tell(card)
            entries.append((subject, card))
        write_report(entries, out / "report.html")
    return entries
