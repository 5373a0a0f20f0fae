"""Everything that the page to explore shows of one network, as data, and why the rest is missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from jaxtyping import Float
from torch import Tensor

from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError, ScoreError
from mechmem.math.fourier_neurons import CLASSES
from mechmem.pages.explored_cells import (
    CellParts,
    Cells,
    Course,
    Influences,
    cell_logits,
    cell_parts,
    cells_of,
    course_of,
    influences,
)
from mechmem.pages.explored_neurons import (
    Clusters,
    Contributions,
    FrequencyMap,
    Waves,
    clusters,
    contributions,
    frequency_map,
    waves,
)
from mechmem.pages.packed import packed
from mechmem.plotting.style import WITH_ALL_TRAIN

T = TypeVar("T")

SIGNS = {"add": "+", "subtract": "−", "multiply": "×"}
"""Sign of each operation between the operands of a cell."""


@dataclasses.dataclass(frozen=True, eq=False)
class Explored:
    """What was measured of a network; a view that this network does not have is None.

    Attributes:
        name: the network's name.
        task: the task in a few words, or "".
        sign: sign of the operation, or "".
        class_names: names of the classes, or None.
        classes: number of classes.
        cells: the input pairs, and the network's answers.
        course: answers at every saved state.
        logits: logits of the cells, less each cell's mean over classes. Shape (cell, class).
        parts: the parts of the logits.
        contributions: contributions of neurons to the answers.
        influences: training cells that the answers owe most to.
        waves: vectors and classes of the neurons.
        clusters: clusters of the neurons.
        map: frequencies of the neurons.
        missing: why a view is None, by its name.
    """

    name: str
    task: str
    sign: str
    class_names: tuple[str, ...] | None
    classes: int
    cells: Cells
    course: Course
    logits: Float[Tensor, "cell class"] | None
    parts: CellParts | None
    contributions: Contributions | None
    influences: Influences | None
    waves: Waves | None
    clusters: Clusters | None
    map: FrequencyMap | None
    missing: Mapping[str, str]

    @property
    def width(self) -> int:
        """Number of neurons of the last layer; 0 if no view shows them."""
        if self.contributions is not None:
            return len(self.contributions.held)
        return 0 if self.map is None else self.map.share.shape[1]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values, the arrays packed."""
        cells, course = self.cells, self.course
        shown = {name: dataclasses.asdict(style) for name, style in WITH_ALL_TRAIN.items() if name in course.accuracy}
        return {
            "name": self.name,
            "sign": self.sign,
            "classNames": self.class_names,
            "classes": self.classes,
            "symbols": cells.outcomes.symbols,
            "width": self.width,
            "operands": packed(cells.of("operands")),
            "given": packed(cells.of("given")),
            "true": packed(cells.of("true")),
            "split": packed(cells.of("split")),
            "steps": course.steps,
            "own": course.own,
            "answers": packed(course.answers),
            "outcome": packed(course.outcome),
            "fitted": packed(course.fitted),
            "accuracy": [{**style, "values": packed(course.accuracy[name])} for name, style in shown.items()],
            "logits": None if self.logits is None else packed(self.logits),
            "parts": _plain(self.parts),
            "contributions": _plain(self.contributions),
            "influences": _plain(self.influences),
            "waves": _plain(self.waves),
            "neuronClasses": CLASSES,
            "clusters": _plain(self.clusters),
            "map": _plain(self.map),
        }


def explored(subject: Subject, *, progress: bool = False) -> Explored:
    """Measure what a network has of the page's views.

    Raises:
        MissingNeedError: its inputs are not pairs, or its logits are not finite.
        ConfigError: it has more symbols than a page can show.
        RunDirectoryError: its run is damaged.
        UnsteadyNetworkError: it is random in evaluation mode, or examples act on each other in it.
    """
    cells, missing, task = cells_of(subject), dict[str, str](), subject.task
    course = course_of(subject, cells, progress=progress)

    def measured(name: str, measure: Callable[[], T]) -> T | None:
        try:
            return measure()
        except (MissingNeedError, ScoreError) as error:
            missing[name] = str(error)
            return None

    grouped = measured("clusters", lambda: clusters(subject))
    until = course.steps[course.own]
    return Explored(
        name=subject.name.replace("_", " "),
        task=task.title,
        sign=SIGNS.get(task.operation or "", ""),
        class_names=task.class_names,
        classes=task.n_classes,
        cells=cells,
        course=course,
        logits=measured("logits", lambda: cell_logits(subject, cells)),
        parts=measured("parts", lambda: cell_parts(subject, cells)),
        contributions=measured("contributions", lambda: contributions(subject, cells)),
        influences=measured("influences", lambda: influences(subject, cells, until, progress=progress)),
        waves=measured("waves", lambda: waves(subject)),
        clusters=grouped,
        map=measured("map", lambda: frequency_map(subject, grouped)),
        missing=missing,
    )


def _plain(value: Any) -> Any:
    """Return a view as plain values: an object by field, with packed arrays."""
    if isinstance(value, Tensor):
        return packed(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value
