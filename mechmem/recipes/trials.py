"""Runs of a recipe in worker processes: training or re-opening one, and measuring it for every claim that needs it."""

from __future__ import annotations

import importlib
import importlib.metadata
import math
import pkgutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from mechmem.core import files, storage
from mechmem.core.foreign_plugins import loaded
from mechmem.errors import ConfigError, MechmemError, RunDirectoryError, unknown_name
from mechmem.models.networks.build import build_model
from mechmem.models.networks.config import MLPConfig
from mechmem.recipes.claims import COLUMNS, Claim, Recipe, Scale
from mechmem.tasks.config import ModularConfig, TaskConfig
from mechmem.tasks.grid_tasks import ModularTask
from mechmem.tasks.image_config import ImageConfig
from mechmem.training.config import TrainConfig
from mechmem.training.loop import training_step
from mechmem.training.minibatches import Batch
from mechmem.training.optimizers import Optimizers
from mechmem.training.train import train


def recipes() -> dict[str, Recipe]:
    """Return every recipe by name, from `recipes/papers/` and the entry points "mechmem.recipes" of other packages.

    Raises:
        ConfigError: two recipes share a name, or another package's cannot be loaded or is none.
    """
    package = importlib.import_module("mechmem.recipes.papers")
    names = [f"mechmem.recipes.papers.{info.name}" for info in pkgutil.iter_modules(package.__path__)]
    found = [importlib.import_module(name).RECIPE for name in names]
    found += [loaded(entry) for entry in importlib.metadata.entry_points(group="mechmem.recipes")]
    strangers = [type(one).__name__ for one in found if not isinstance(one, Recipe)]
    if strangers:
        raise ConfigError(f"a recipe of another package must be a mechmem.recipes.claims.Recipe, got a {strangers[0]}")
    by_name: dict[str, Recipe] = {}
    for one in found:
        if one.name in by_name:
            raise ConfigError(f"two recipes are called {one.name!r}")
        by_name[one.name] = one
    return by_name


def recipe(name: str) -> Recipe:
    """Return the recipe of this name.

    Raises:
        UnknownNameError: there is no such recipe; the message names the nearest.
    """
    found = recipes()
    if name not in found:
        raise unknown_name("recipe", name, found)
    return found[name]


def work(
    name: str,
    scale: Scale,
    digest: str,
    keys: Sequence[str],
    folder: Path,
    device: str,
    place: tuple[int, int] | None = None,
) -> tuple[str, float]:
    """Train a run and write its measurements for each claim.

    Args:
        name: the recipe.
        scale: its scale.
        digest: digest of the run's config.
        keys: keys of the claims to measure it for.
        folder: the reproduction's directory.
        device: where to train.
        place: identity of the directory, if it is locked, so that nothing is written where it was moved away.

    Returns:
        the reason if the run failed and was not measured, or ""; and the seconds it took.
    """
    start = time.perf_counter()
    try:
        paper = recipe(name)
        if place is not None:
            files.check_in_place(folder, place, "before a run was begun")
        subject = train(paper.trials(scale)[digest], out=folder / "runs" / digest, device=device, progress=False)
        for key in keys:
            measure = paper.claim(key).measure
            assert measure is not None
            frame = measure(subject)
            rows = [
                {"quantity": quantity, "x": _plain(x), "value": _plain(value)}
                for quantity, x, value in zip(frame["quantity"], frame["x"], frame["value"], strict=True)
            ]
            if place is not None:
                files.check_in_place(folder, place, "before a measurement was written")
            files.write_hashed(measured_at(folder, key, digest), {"rows": rows})
    except MechmemError as error:
        return f"run {digest} failed: {error}", time.perf_counter() - start
    except OSError as error:
        return f"run {digest} failed: could not write to {folder}: {error}", time.perf_counter() - start
    return "", time.perf_counter() - start


def measured_at(folder: Path, key: str, digest: str) -> Path:
    """Return the path of a claim's measurements of a run."""
    return folder / "measurements" / key / f"{digest}.json"


def measurements(claim: Claim, scale: Scale, folder: Path) -> pd.DataFrame:
    """Load a claim's measurements of all its runs.

    Raises:
        RunDirectoryError: a file is missing or damaged.

    Warns:
        UncheckedWarning: an older version wrote a file, without a hash.
    """
    parts, checked = [], True
    for trial in claim.trials(scale):
        path = measured_at(folder, claim.key, trial.config.digest)
        values = files.read_json(path)
        # Older versions wrote the rows alone.
        content, hashed = files.without_hash(path, values if isinstance(values, dict) else {"rows": values})
        checked = checked and hashed
        try:
            part = pd.DataFrame(content["rows"], columns=["quantity", "x", "value"])
            part = part.astype({"x": float, "value": float})
        except (ValueError, TypeError, KeyError) as error:
            raise RunDirectoryError(f"{path} is damaged: {error}") from error
        parts.append(part.assign(arm=trial.arm, seed=trial.config.seed))
    if not checked:
        storage.warn_unchecked(folder / "measurements" / claim.key)
    return pd.concat(parts, ignore_index=True).reindex(columns=list(COLUMNS))


def _plain(value: float) -> float | None:
    """Write NaN as null."""
    return float(value) if math.isfinite(value) else None


def expected_seconds(trials: Mapping[str, TrainConfig], rate: float) -> dict[str, float]:
    """Estimate the seconds that each run takes on one thread.

    Args:
        trials: the runs.
        rate: floating-point operations per second of a training step (see `step_rate`).
    """
    return {digest: _operations(config) / rate + 0.5 for digest, config in trials.items()}


IMAGES = {"digits": (1438, 359), "mnist5k": (4000, 1000), "cifar10": (50_000, 10_000)}
"""Default numbers of training and test images by data set; 60,000 and 10,000 for others."""


def _examples(task: TaskConfig) -> tuple[int, int]:
    """Return the approximate numbers of training examples and of all examples of a task."""
    if isinstance(task, ImageConfig):
        train, test = IMAGES.get(task.data, (60_000, 10_000))
        return task.train or train, (task.train or train) + (task.test or test)
    cells = getattr(task, "p", 100) ** 2
    return round(cells * getattr(task, "train_fraction", 0.8)), cells


def _operations(config: TrainConfig) -> float:
    task, model = config.task, config.model
    p = getattr(task, "p", 100)
    rows, cells = _examples(task)
    batch = min(config.batch_size or rows, rows)
    products = model.products(p)
    # A forward pass, and a backward pass at twice its cost; small batches are dominated by a step's fixed cost, and
    # drawing a dropout mask costs more than applying it.
    masks = 1500 * getattr(model, "width", getattr(model, "d_model", 0)) * batch if getattr(model, "dropout", 0) else 0
    step = 6 * products * batch + 5e7 + masks
    return config.steps * step + config.evaluations * 2 * products * cells


def step_rate() -> float:
    """Measure this machine's floating-point operations per second in a training step, on one thread."""
    task = ModularTask(ModularConfig(p=59))
    config = TrainConfig(task.config, MLPConfig(512))
    model = build_model(config.model, task, 0)
    optimizers = Optimizers(config, model, model.roles)
    ids = task.train_ids[:2048]
    examples = Batch(ids, *task.batch(ids))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = [_timed(lambda: training_step(model, optimizers, examples, config, 1024)) for _ in range(6)]
    finally:
        torch.set_num_threads(threads)
    return 6 * 512 * 59 * len(ids) / min(seconds)


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
