"""How time, memory and bytes grow: writes the figures of docs/scaling.md. Nothing else should be running.

python tests/support/scaling.py docs/scaling.csv
"""

from __future__ import annotations

import csv
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SERIES = {
    "step, by width": ("step", "width", (256, 512, 1024, 2048, 4096)),
    "step, by p": ("step", "p", (59, 113, 199, 307)),
    "step, by examples of a batch": ("step", "batch", (512, 1024, 2048, 4096, 8192)),
    "step, by hidden layers": ("step", "layers", (1, 2, 3, 4)),
    "evaluation, by p": ("evaluation", "p", (59, 113, 199, 307)),
    "audit without twins, by p": ("audit", "p", (59, 113, 173, 251)),
    "kernel ridge, by p": ("ridge", "p", (113, 173, 251, 397)),
    "rule discovery, by width": ("discovery", "width", (256, 512, 1024, 2048)),
    "bytes of a run, by width": ("bytes", "width", (256, 512, 1024, 2048)),
}
"""What is measured, along what, and where."""
STEPS = 12


def measure(what: str, **size: int) -> dict[str, float]:
    """Return seconds of one thread, and the megabytes at the peak above those before."""
    import torch

    import mechmem as mm
    from mechmem.models.networks.build import build_model
    from mechmem.scorecard.controls import kernel_ridge
    from mechmem.tasks.build import build_task
    from mechmem.training.evaluate import evaluate
    from mechmem.training.loop import training_step
    from mechmem.training.minibatches import Batch
    from mechmem.training.optimizers import Optimizers

    torch.set_num_threads(1)
    # Of the pairs mod 113 there are enough for the largest batch.
    p, width = size.get("p", 113 if "batch" in size else 59), size.get("width", 512)
    model = mm.MLPConfig(width, layers=size.get("layers", 1))
    config = mm.TrainConfig(mm.ModularConfig(p=p, noise=mm.LabelNoise(0.3)), model, weight_decay=1.0, steps=40)
    if what == "bytes":
        with tempfile.TemporaryDirectory() as folder:
            mm.train(config, out=Path(folder) / "run", progress=False)
            found = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        return {"seconds": 0.0, "megabytes": found / 1e6}
    task = build_task(config.task)
    network = build_model(config.model, task, 0)
    if what == "step":
        optimizers = Optimizers(config, network, network.roles)
        ids = task.train_ids[: size.get("batch", len(task.train_ids))]
        assert len(ids) == size.get("batch", len(ids))
        examples = Batch(ids, *task.batch(ids))
        call = lambda: training_step(network, optimizers, examples, config, 1024, ())  # noqa: E731
    elif what == "evaluation":
        call = lambda: evaluate(network, task)  # noqa: E731
    else:
        subject = mm.train(config, progress=False)
        calls = {
            "audit": lambda: mm.audit(mm.Subject(subject.model, task, subject.roles), untrained=network),
            "ridge": lambda: kernel_ridge(task),
            "discovery": lambda: mm.discover_rule(subject),
        }
        call = calls[what]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(STEPS if what == "step" else 3 if what in ("evaluation", "ridge") else 1):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": statistics.median(seconds), "megabytes": (peak - before) / 1024}


def main(out: Path) -> None:
    rows = []
    for name, (what, along, sizes) in SERIES.items():
        for x in sizes:
            command = [sys.executable, __file__, "--one", json.dumps({"what": what, along: x})]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            rows.append({"series": name, "x": x, **{key: f"{value:.4g}" for key, value in found.items()}})
            print(rows[-1], flush=True)
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        print(json.dumps(measure(**json.loads(sys.argv[2]))))
    else:
        main(Path(sys.argv[1]))
