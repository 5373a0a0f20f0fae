"""Distance irrelevance and gradient symmetricity, which distinguish algorithms for modular addition."""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_whole
from mechmem.core.plugins import Analysis
from mechmem.core.randomness import derive_seed
from mechmem.core.results import Result
from mechmem.core.stats import UNKNOWN, Estimate, bootstrap
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.math.additive import correct_logits, cosine, irrelevance
from mechmem.models.reading.forward import all_logits
from mechmem.models.reading.operand_gradients import operand_gradients
from mechmem.models.reading.twins import twin_subject
from mechmem.plotting.spectra import symmetry_figure
from mechmem.plotting.style import SplitStyle
from mechmem.tasks.grid import answer_sign, cyclic_group, grid_rows

if TYPE_CHECKING:
    import plotly.graph_objects as go

PUBLISHED = {"pizza of Zhong et al.": (0.9937, 0.17), "clock of Zhong et al.": (0.3336, 0.85)}
"""Gradient symmetricity and distance irrelevance of the paper's models A and B (transformers, p = 59, d_model 128), as
quoted by public replications. The paper calls an irrelevance of 0 to .4 typical of a pizza and .4 to 1 typical of a
clock; these ranges are not thresholds, and mechmem draws no verdict from them."""

STYLES = {
    "this network": SplitStyle("this network", "#D55E00", "diamond", "solid"),
    "at initialisation": SplitStyle("at initialisation", "#6b6b6b", "pentagon-open", "dash"),
}


@record
@dataclasses.dataclass(frozen=True, eq=False)
class AlgorithmReading:
    """Both figures of one network.

    Attributes:
        mean: mean logit of the correct answer at each distance a − b (a + b for subtraction) = 0 … n − 1 between
            positions in the group. Shape (distance).
        deviation: standard deviation of that logit at each distance, in logits. Shape (distance).
        irrelevance: distance irrelevance with a bootstrap interval over distances, or None.
        irrelevance_note: why it is None, or "".
        similarity: cosine of the two gradients of each triple; NaN if one of them is zero, empty if there are no
            gradients. Shape (triple).
        symmetricity: gradient symmetricity, the mean cosine, with a bootstrap interval over triples, or None.
        symmetricity_note: why it is None, or how many triples are left out, or "".
        space: what the gradients are taken with respect to: a hook point, or "one-hot inputs"; "" if there are none.
    """

    mean: Float[Tensor, " distance"]
    deviation: Float[Tensor, " distance"]
    irrelevance: Estimate | None
    irrelevance_note: str
    similarity: Float[Tensor, " triple"]
    symmetricity: Estimate | None
    symmetricity_note: str
    space: str


@record
@dataclasses.dataclass(frozen=True, eq=False)
class ClockOrPizzaResult(Result):
    """Both figures of the network, now and before training.

    Attributes:
        network: figures of the network itself.
        initial: figures of the same network at initialisation, or None.
        initial_note: why `initial` is None, or "".
        triples: symbols a and b and the class c whose logit is differentiated. Shape (triple, 3).
        distance: how the distance of the operands is defined, "a − b" or "a + b".
    """

    network: AlgorithmReading
    initial: AlgorithmReading | None
    initial_note: str
    triples: Int[Tensor, "triple 3"]
    distance: str

    @property
    def _readings(self) -> dict[str, AlgorithmReading]:
        found = {"this network": self.network, "at initialisation": self.initial}
        return {name: reading for name, reading in found.items() if reading is not None}

    def to_frame(self) -> pd.DataFrame:
        """Return one row per network and figure: network, figure, value, low, high, n, space and note."""
        rows = []
        for name, reading in self._readings.items():
            figures = {
                "distance irrelevance": (reading.irrelevance, "", reading.irrelevance_note),
                "gradient symmetricity": (reading.symmetricity, reading.space, reading.symmetricity_note),
            }
            for figure, (estimate, space, note) in figures.items():
                known = estimate or UNKNOWN
                own = {"network": name, "figure": figure, **dataclasses.asdict(known)}
                rows.append(own | {"space": space, "note": note})
        return pd.DataFrame(rows)

    def plot(self) -> go.Figure:
        """Return correct logits against distance (± one deviation), and the cosines beside published means."""
        frames, styles = [], {}
        for name, reading in self._readings.items():
            n, mean, spread = len(reading.mean), reading.mean.numpy(), reading.deviation.numpy()
            x = (np.arange(n) + (n - 1) // 2) % n - (n - 1) // 2
            columns: dict[str, Any] = {"x": x, "value": mean, "low": mean - spread, "high": mean + spread}
            frames.append(pd.DataFrame(columns).assign(series=name).sort_values("x"))
            figures = {"distance irrelevance": reading.irrelevance, "gradient symmetricity": reading.symmetricity}
            values = "; ".join(f"{key} {'none' if it is None else f'{it.value:.3f}'}" for key, it in figures.items())
            styles[name] = dataclasses.replace(STYLES[name], title=f"{name}: {values}")
        marks = {
            f"{name}: distance irrelevance {other}; gradient symmetricity {symmetricity}": symmetricity
            for name, (symmetricity, other) in PUBLISHED.items()
        }
        cosines = {name: reading.similarity.numpy() for name, reading in self._readings.items()}
        title = f"distance {self.distance} of the operands, in positions of the group"
        return symmetry_figure(pd.concat(frames), cosines, styles, marks, x_title=title)


@dataclasses.dataclass(frozen=True)
class ClockOrPizza(Analysis):
    """Measure how much the logits depend on the distance of the operands, and how alike both operands enter.

    *Distance irrelevance* is the standard deviation of the correct answer's logit at each distance a − b, averaged over
    distances, divided by its standard deviation over all pairs. A clock multiplies: its logits are sums of
    cos ω(a + b − c) and do not depend on the distance (towards 1). A pizza adds the embeddings first, which multiplies
    its logits by |cos(ω(a − b)/2)| (towards 0). A pure clock has the same logit everywhere, so its irrelevance is
    undefined.

    *Gradient symmetricity* is the mean cosine, over random triples (a, b, c), of the gradients of the logit of c with
    respect to the embeddings of a and of b: 1 for every function of the sum of the embeddings, such as a pizza; near 0
    for an ideal clock. A network without a residual stream is treated as a function of one-hot inputs. An untrained
    transformer has a symmetricity near 1, because its attention is still even, and an irrelevance near 1, because its
    logits do not depend on the answer; hence the comparison with the network before training.

    Both figures use raw logits, as the paper's code does. A constant added to all logits of a cell changes the figures,
    though no prediction.

    Attributes:
        triples: largest number of triples (the paper's code takes 100).
        point: hook point with the embeddings, (example, position, dimension); by default the first of the role
            `residual`, or else the one-hot inputs.
        positions: positions of the two operands at that point.
        seed: seed of triples and intervals.
    """

    name: ClassVar[str] = "clock_or_pizza"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group", "operation"})
    knows: ClassVar[frozenset[str]] = frozenset(
        {"pairs", "input_group", "output_group", "slopes", "operation", "test_inputs", "checkpoints"}
    )
    cites: ClassVar[str] = "Zhong et al. 2023, arXiv 2306.17844"

    triples: int = 1000
    point: str = ""
    positions: tuple[int, int] = (0, 1)
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("number of triples", self.triples, 1)
        check_whole("seed", self.seed, 0)
        if len(self.positions) != 2 or self.positions[0] == self.positions[1]:
            raise ConfigError(f"the two operands stand at two positions, got {self.positions!r}")

    def __call__(self, subject: Subject) -> ClockOrPizzaResult:
        """Return both figures.

        Raises:
            MissingNeedError: the subject lacks something, or the group is not cyclic.
            UnknownNameError: there is no such point.
            ActivationError: the point holds another shape, or does not fire.
        """
        self.require(subject)
        rows, elements = grid_rows(subject.task), cyclic_group(subject.task).elements
        n = len(rows)
        drawn = random.Random(derive_seed(self.seed, self.name)).sample(range(n**3), min(self.triples, n**3))
        index = torch.tensor(drawn)
        a, b, c = index // n**2, index // n % n, index % n
        ids, classes = subject.task.ids[rows[a, b]], elements[c]
        before, note = twin_subject(subject, "untrained")
        return ClockOrPizzaResult(
            network=self._reading(subject, ids, classes),
            initial=None if before is None else self._reading(before, ids, classes),
            initial_note=note,
            triples=torch.stack([elements[a], elements[b], classes], 1),
            distance="a − b" if answer_sign(subject.task) == 1 else "a + b",
        )

    def _reading(self, subject: Subject, ids: Tensor, classes: Tensor) -> AlgorithmReading:
        rows, elements = grid_rows(subject.task), cyclic_group(subject.task).elements
        logits = all_logits(subject)
        found = correct_logits(logits, rows, answer_sign(subject.task), elements)
        mean, deviation = found.mean(1), found.std(1, correction=0)
        # The difference between logits that are equal up to rounding is not a spread.
        equal = float(found.std(correction=0)) <= 100 * torch.finfo(logits.dtype).eps * float(found.abs().max())
        seed = derive_seed(self.seed, f"{self.name} intervals")
        spread = None if equal else bootstrap(irrelevance, (deviation.numpy(), mean.numpy()), seed=seed)
        try:
            gradients = operand_gradients(subject, ids, classes, self.point, self.positions)
            space, similarity, why = gradients.space, cosine(gradients.first, gradients.second), ""
        except MissingNeedError as error:
            space, similarity, why = "", torch.empty(0, dtype=torch.float64), str(error)
        usable = similarity[similarity.isfinite()]
        if len(usable) < len(similarity):
            why = f"{len(similarity) - len(usable)} of {len(similarity)} triples have a gradient of zero"
        return AlgorithmReading(
            mean=mean,
            deviation=deviation,
            irrelevance=spread,
            irrelevance_note="all correct answers have the same logit" if equal else "",
            similarity=similarity,
            symmetricity=bootstrap(np.mean, (usable.numpy(),), seed=seed) if len(usable) else None,
            symmetricity_note=why,
            space=space,
        )
