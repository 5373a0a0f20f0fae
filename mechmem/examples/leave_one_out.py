"""Leave-one-out retraining, compared with the estimate of turn-over dropout where there is one."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.arguments import checked
from mechmem.core.config import check_whole
from mechmem.core.ids import check_sources
from mechmem.core.randomness import generator
from mechmem.core.results import Result
from mechmem.core.stats import Estimate, bootstrap, rank_correlation
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.core.task import Ids
from mechmem.errors import MissingNeedError
from mechmem.models.networks.masks import Part, TurnOverDropout
from mechmem.models.networks.subnetworks import mask_layers, subnetwork
from mechmem.models.reading.forward import logits_of
from mechmem.plotting.bars import labelled_points
from mechmem.tasks.splits import split_names
from mechmem.training.progress import counted

if TYPE_CHECKING:
    import plotly.graph_objects as go

PARTS: tuple[Part, ...] = ("own", "flipped", "full")
WHOLE: tuple[Part, ...] = ("full",)


@record
@dataclasses.dataclass(frozen=True, eq=False)
class LeaveOneOut(Result):
    """Effect on each of some training examples of retraining without it.

    Attributes:
        ids: the examples. Shape (example).
        noisy: whether the given label is wrong; None if it is not known. Shape (example).
        parts: the subnetworks: "own", "flipped" and "full"; without turn-over dropout "full" alone.
        change: mean over classes of how far retraining without z moves z's logits. Isolated to first order, a flipped
            subnetwork moves little. Shape (part, example).
        background: the same after leaving out another of the examples, averaged over those: how far any retraining
            moves z's logits. NaN if there is no other example. Shape (part, example).
        effect: loss on z's given label after retraining without z, minus the loss of the trained network, in nats.
            Shape (part, example).
        self_influence: I(z, z), the estimate of that effect by turn-over dropout, in nats; NaN without it. Shape
            (example).
    """

    ids: Int[Tensor, " example"]
    noisy: Tensor | None
    parts: tuple[str, ...]
    change: Float[Tensor, "part example"]
    background: Float[Tensor, "part example"]
    effect: Float[Tensor, "part example"]
    self_influence: Float[Tensor, " example"]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per example: id, split, self_influence, then change, background, effect of each subnetwork."""
        frame = pd.DataFrame({"id": self.ids.numpy(), "split": split_names(self.noisy, len(self.ids))})
        frame["self_influence"] = self.self_influence.numpy()
        for name, values in (("change", self.change), ("background", self.background), ("effect", self.effect)):
            frame = frame.assign(
                **{f"{name}_{part}": row.numpy() for part, row in zip(self.parts, values, strict=True)}
            )
        return frame

    def agreement(self, seed: int = 0) -> Estimate:
        """Return Spearman's correlation of self-influence with the effect on the full network, with its interval.

        Raises:
            MissingNeedError: the network has no turn-over dropout.
        """
        if "own" not in self.parts:
            raise MissingNeedError("self-influence needs turn-over dropout, but the network has none")
        full = self.effect[self.parts.index("full")]
        return bootstrap(rank_correlation, [self.self_influence.double().numpy(), full.double().numpy()], seed=seed)

    def plot(self) -> go.Figure:
        """Return self-influence against the effect of retraining without the example, on the full network.

        Without turn-over dropout the effect is shown against how far the logits move.
        """
        frame = self.to_frame()
        known = "own" in self.parts
        titles = {
            "x_title": "self-influence by turn-over dropout (nats)" if known else "mean change of its logits",
            "y_title": "loss after retraining without it<br>minus loss with it (nats)",
        }
        x = "self_influence" if known else "change_full"
        return labelled_points(frame, x=x, y="effect_full", label="id", group="split", **titles)


@checked
def leave_one_out(
    subject: Subject, examples: Ids | None = None, *, sample: int = 16, seed: int = 0, progress: bool = False
) -> LeaveOneOut:
    """Retrain a network without some of its training examples, one at a time.

    Turn-over dropout isolates an example from the weights of its flipped subnetwork only to first order: its effect on
    the errors of other examples still reaches them. This measures the size of that effect, and how well self-influence
    agrees with the loss of leaving the example out. Initialisation, order and masks stay the same in the retraining.
    Even so, small differences grow: `background` is how far z's logits move when another example is left out. Of a
    network without turn-over dropout, the effect on the whole network is measured.

        mm.leave_one_out(network, sample=2).to_frame()

    Args:
        subject: a run.
        examples: ids of training examples; by default a sample, half of it wrongly labelled if that is known.
        sample: size of the sample; each example takes one training run.
        seed: seed of the sample.
        progress: whether to show bars.

    Raises:
        MissingNeedError: the training config is not known.
        ConfigError: `examples` is not a list of whole numbers, or not of training examples.
        UnknownNameError: an id is not one of the task's.
    """
    check_whole("sample", sample, 1)
    check_whole("seed", seed, 0)
    if subject.retrainer is None:
        raise MissingNeedError("leave_one_out needs the training config: a run of mm.train")
    turned = any(isinstance(layer, TurnOverDropout) for layer in mask_layers(subject.model))
    task, parts = subject.task, PARTS if turned else WHOLE
    ids = _sampled(subject, sample, seed) if examples is None else check_sources(task, examples, "examples")
    given = task.given(ids)
    before = _logits(subject, ids, parts)
    after = torch.empty_like(before)
    moved = torch.zeros(before.shape[:2], dtype=torch.float64)
    for place in counted(range(len(ids)), "retraining without an example", show=progress):
        retrained = subject.with_model(subject.retrainer.retrained(without=ids[place : place + 1]))
        logits = _logits(retrained, ids, parts)
        after[:, place] = logits[:, place]
        moved += (logits - before).abs().mean(2)
    change = (after - before).abs().mean(2)
    losses = [
        torch.stack([F.cross_entropy(part, given, reduction="none") for part in each]) for each in (before, after)
    ]
    return LeaveOneOut(
        ids=ids,
        noisy=task.is_noisy(ids),
        parts=parts,
        change=change,
        background=(moved - change) / (len(ids) - 1 or math.nan),
        effect=losses[1] - losses[0],
        self_influence=losses[0][parts.index("flipped")] - losses[0][parts.index("own")]
        if turned
        else torch.full((len(ids),), torch.nan, dtype=torch.float64),
    )


def _sampled(subject: Subject, sample: int, seed: int) -> Int[Tensor, " example"]:
    task = subject.task
    shuffled = task.sources[torch.randperm(len(task.sources), generator=generator(seed, "left out"))]
    noisy = task.is_noisy(shuffled)
    if noisy is None:
        return shuffled[:sample]
    wrong = shuffled[noisy][: sample // 2]
    return torch.cat([wrong, shuffled[~noisy][: sample - len(wrong)]])


def _logits(
    subject: Subject, ids: Int[Tensor, " example"], parts: Sequence[Part]
) -> Float[Tensor, "part example class"]:
    found = []
    for part in parts:
        with subnetwork(subject.model, part) if mask_layers(subject.model) else contextlib.nullcontext():
            found.append(logits_of(subject.model, subject.task, ids, subject.roles.output).double())
    return torch.stack(found)
