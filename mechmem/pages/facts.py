"""Facts about a network beside its figures: task, architecture, training and versions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from mechmem.core.subject import Subject
from mechmem.training.config import TrainConfig
from mechmem.training.run import Run

SIZES = ("layers", "width", "widths", "channels", "blocks", "d_model", "heads", "d_mlp", "activation")
"""Fields of networks' configs that say how large a network is, and of what kind."""

SOFTWARE = {"mechmem": "mechmem", "torch": "torch", "python": "Python"}
"""Names of what a run's header has versions of."""


def facts(subject: Subject) -> dict[str, str]:
    """Return what is known of a network in a few lines, by their titles.

    Args:
        subject: a run's network, or a user's own, of which less is known.
    """
    found = {"Task": subject.task.description, "Network": _network(subject), "Training": _training(subject)}
    versions = subject.run.header.versions if isinstance(subject.run, Run) else {}
    if versions:
        named = (f"{title} {versions[name]}" for name, title in SOFTWARE.items() if name in versions)
        found["Trained with"] = ", ".join(named)
    return found


def settings(subject: Subject, task: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return every recorded setting by name, under "task", "network" and "training".

    Args:
        subject: the network.
        task: its task's summary.
    """
    config = _config(subject)
    found = {"task": dict(flat(task))}
    if config is not None:
        written = config.to_dict()
        found["network"] = dict(flat({"kind of network": config.model.kind} | written.pop("model")))
        del written["task"]
        found["training"] = dict(flat(written))
    return found


def flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield plain values by name; those of a nested mapping under "<its name> <their own>"; and no internal kinds."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{key} {inner}", deeper) for inner, deeper in flat(value) if inner != "kind")
        elif key != "kind":
            yield key, ", ".join(map(str, value)) if isinstance(value, tuple | list) else value


def _config(subject: Subject) -> TrainConfig | None:
    return subject.run.config if isinstance(subject.run, Run) else None


def _network(subject: Subject) -> str:
    config = _config(subject)
    parts = [type(subject.model).__name__]
    if config is not None:
        sizes = {name: getattr(config.model, name, None) for name in SIZES}
        parts += [f"{name.replace('_', ' ')} {_written(value)}" for name, value in sizes.items() if value is not None]
    parts.append(f"{sum(each.numel() for each in subject.model.parameters()):,} parameters")
    if config is None:
        named = [field.name for field in dataclasses.fields(subject.roles) if field.name not in ("output", "logits")]
        roles = ", ".join(name.replace("_", " ") for name in named if getattr(subject.roles, name))
        parts.append(f"roles: {roles or 'none'}")
    return "; ".join(parts)


def _training(subject: Subject) -> str:
    if subject.run is None:
        return "not known"
    config, ended = _config(subject), subject.run.finished()
    if config is None:
        return f"a training loop of the user's own, recorded up to step {subject.run.history()['step'].max():,.0f}"
    batch = f"{config.batch_size:,} examples per step" if config.batch_size else "all examples at every step"
    parts = [
        f"{config.optimizer}, learning rate {config.lr:g}, weight decay {config.weight_decay:g}",
        f"{config.steps:,} steps of {config.loss.replace('_', ' ')}, {batch}",
        f"precision {config.precision}",
        f"seed {config.seed}",
    ]
    if ended is not None and ended["step"] < config.steps:
        parts.append(f"ended at step {ended['step']:,} ({ended['reason']})")
    return "; ".join(parts)


def _written(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
