"""Weight matrices without their smallest singular values."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from mechmem.core.plugins import Surgery
from mechmem.core.subject import Subject
from mechmem.models.reading.low_rank import check_rank, decomposed, matching, truncated


@dataclasses.dataclass(frozen=True)
class LowRank(Surgery):
    """Replace weight matrices by the nearest ones of a lower rank, their truncated singular value decompositions.

    Components with small singular values can hold what a network memorized or is unsure of, so that it answers better
    without them (layer-selective rank reduction, LASER). Any parameter of any network with at least two axes can be
    named. A convolution's kernel is taken as the matrix (out, everything else); another parameter of more than two axes
    is a stack of matrices on its last two, each lowered on its own. `mm.rank_curve` measures all ranks and chooses one
    from the training examples; a rank chosen by test accuracy would have used the test labels.

    Attributes:
        layer: the parameter's name, or several names or patterns such as "layers.*" with spaces between them; by
            default the role `readout`'s, or the last parameter with at least two axes.
        rank: number of singular values to keep, at least 1; or a fraction of each full rank, above 0 and below 1, which
            is rounded down to such a number (the paper's ρ).
    """

    name: ClassVar[str] = "low_rank"
    cites: ClassVar[str] = "Sharma, Ash & Misra 2023, arXiv 2312.13558"
    dial: ClassVar[str] = "rank"
    dial_values: ClassVar[tuple[float, ...]] = (
        *(0.98, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2),
        *(0.15, 0.12, 0.1, 0.08, 0.07, 0.06, 0.05, 0.04, 0.03, 0.02, 0.01),
    )

    layer: str = ""
    rank: int | float = 0.5

    def __post_init__(self) -> None:
        check_rank("rank", self.rank)

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject with the matrices replaced in a copy of its model.

        Raises:
            UnknownNameError: there is no such parameter; the message suggests the nearest.
            ConfigError: the rank is greater than a full rank.
            MissingNeedError: no parameter has two axes.
            NotFiniteError: a weight is NaN or infinite.
        """
        self.require(subject)
        names = matching(subject, self.layer) or [""]
        return truncated(subject, [decomposed(subject, name) for name in names], self.rank)
