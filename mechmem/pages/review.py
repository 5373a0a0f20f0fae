"""A page on which a person decides about suspect labels."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mechmem.core.arguments import checked
from mechmem.core.config import check_whole
from mechmem.core.export import write_html
from mechmem.core.export_checks import check_page
from mechmem.core.files import written
from mechmem.core.task import Task
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.examples.label_issues import LabelIssues
from mechmem.tasks.cleaned import COLUMNS, DECISIONS
from mechmem.tasks.datasets import DatasetTask

LONGEST_TEXT = 1000
"""Most characters of an example's text, and of the sum of its values."""
SIDE = 120
"""Pixels that a picture's shorter side is enlarged to, by whole factors."""


@checked
def write_review(issues: LabelIssues, task: Task, path: str | Path, *, count: int | None = None) -> None:
    """Write a page with the most suspect examples, on which a person decides about each label.

    Pictures are shown as such, and everything else by its values. The page loads nothing and sends nothing; it saves
    the decisions as a file, which `mm.cleaned` applies.

        mm.write_review(issues, network.task, "review.html")

    Args:
        issues: the labels in order.
        task: the task that they are of.
        path: where to write, .html.
        count: number of examples that are shown; by default those that are called suspect, at least one.

    Raises:
        ConfigError: the path does not end in .html or .htm, or the issues are of another task: an example is none of
            its training examples, or has another label or name in it.
        RunDirectoryError: the path holds something else than a page of mechmem, cannot be written, or the disk is full.
        UnknownNameError: the task has no example of such an id.
        MissingNeedError: pictures need Pillow, which is not installed.
    """
    if count is not None:
        check_whole("count", count, 1)
    check_page(path, "path", "a page of mechmem")
    _check_task(issues, task)
    shown = min(len(issues.ids), count or max(1, int(issues.suspect.sum())))
    table = issues.to_frame().head(shown)
    examples = [
        {**_seen(task, int(example)), **{name: _plain(value) for name, value in row.items()}}
        for example, row in zip(issues.ids[:shown].tolist(), table.to_dict("records"), strict=True)
    ]
    classes = list(issues.class_names or map(str, range(task.n_classes)))
    data = {"examples": examples, "classes": classes, "columns": COLUMNS, "decisions": DECISIONS}
    # "</script>" in a text would end the element that holds it.
    held = json.dumps(data).replace("<", "\\u003c")
    about = {"note": issues.note, "score": issues.score, "total": len(issues.ids), "shown": shown}
    with written(path):
        write_html("review.html", Path(path), data=held, **about)


def _check_task(issues: LabelIssues, task: Task) -> None:
    rows = task.rows(issues.ids)
    names = None if task.example_names is None else tuple(task.example_names[row] for row in rows.tolist())
    same = {
        "training examples": bool(torch.isin(issues.ids, task.sources).all()),
        "labels": torch.equal(task.given(issues.ids), issues.given),
        "names of examples": names == issues.names,
        "names of classes": task.class_names == issues.class_names,
    }
    other = next((what for what, alike in same.items() if not alike), None)
    if other is not None:
        raise ConfigError(f"issues must be those of the task, but its {other} are others: pass the task they come from")


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _seen(task: Task, example: int) -> dict[str, Any]:
    """Return what a person sees of an example: a picture, or its values by name."""
    ids = torch.tensor([example])
    if isinstance(task, DatasetTask):
        item = task.items(ids)[0]
        parts = dict(item) if isinstance(item, Mapping) else {str(place): part for place, part in enumerate(item)}
    else:
        inputs = task.batch(ids)[0]
        parts = {"": inputs[0]} if isinstance(inputs, Tensor) else {k: each[0] for k, each in inputs.tensors.items()}
    picture = next((found for found in map(_picture, parts.values()) if found), "")
    values = {name: _text(part) for name, part in parts.items()}
    return {"picture": picture, "values": [[name, text] for name, text in values.items() if text and not picture]}


def _text(part: Any) -> str:
    if isinstance(part, Tensor) and part.ndim:
        part = [round(value, 4) if isinstance(value, float) else value for value in part.flatten().tolist()]
    text = ", ".join(map(str, part)) if isinstance(part, list | tuple) else str(_plain(part))
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} …"


def _picture(part: Any) -> str:
    """Return a picture as the address of its data; "" of what is none."""
    if hasattr(part, "getbands"):
        return _encoded(part.convert("RGB"))
    if not isinstance(part, Tensor) or part.ndim != 3 or len(part) not in (1, 3) or min(part.shape[1:]) < 4:
        return ""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingNeedError("pictures need Pillow: pip install 'mechmem[images]'") from error
    values = part.double()
    # Inputs may be standardised, so each picture is spread over all greys.
    spread = (values - values.min()) / (values.max() - values.min()).clamp_min(1e-12)
    pixels = (255 * spread).round().byte().numpy()
    return _encoded(Image.fromarray(np.moveaxis(np.repeat(pixels, 3, 0) if len(pixels) == 1 else pixels, 0, -1)))


def _encoded(image: Any) -> str:
    factor = max(1, SIDE // min(image.size))
    buffer = io.BytesIO()
    image.resize((image.width * factor, image.height * factor), 0).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
