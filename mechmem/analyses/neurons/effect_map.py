"""Map of the neurons that hold the given label of each training cell."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.core.config import check_whole
from mechmem.core.plugins import Analysis, named
from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import MechmemError, UnknownNameError
from mechmem.math.ablation import single_ablation_flips
from mechmem.math.logits import logit_shares
from mechmem.models.reading.linear_readout import LinearReadout, linear_readout
from mechmem.models.reading.weights import check_no_stream
from mechmem.plotting.matrices import grid_of_values

if TYPE_CHECKING:
    import plotly.graph_objects as go


@record
@dataclasses.dataclass(frozen=True, eq=False)
class EffectMapResult(Result):
    """Contributions of neurons to the logit of each training cell's given label, and labels that hang on one neuron.

    A neuron's contribution is h_m (w_m,given − mean over classes of w_m), in logit units. A cell's contributions sum
    to its centred logit of the given label, minus the bias.

    Attributes:
        ids: ids of the training cells. Shape (cell).
        operands: the pair (a, b). Shape (cell, 2).
        given: the label given in training. Shape (cell).
        true: the true label; −1 where the truth is not known. Shape (cell).
        predicted: the network's prediction. Shape (cell).
        top: the neurons that contribute most, the strongest first. Shape (cell, rank).
        contribution: their contributions. Shape (cell, rank).
        total: sum of all contributions. Shape (cell).
        positive: sum of the positive contributions. Shape (cell).
        participation: fewest neurons that make half of the positive contributions; 0 if there are none. Shape (cell).
        flip_cell: row of a fitted cell that is no longer fitted when one neuron is ablated. Shape (flip).
        flip_neuron: that neuron. Shape (flip).
        flip_contribution: its contribution to the cell. Shape (flip).
        balance: summed contribution of the lower-scoring half of the neurons, minus that of the other half, in logit
            units; None without such a score. Shape (cell).
        by: the score that defines the halves.
        balance_note: why there is no balance, or "".
        width: number of neurons.
        point: the hook point that holds the neurons.
        symbols: number of symbols of an operand, the side of the grid.
    """

    ids: Int[Tensor, " cell"]
    operands: Int[Tensor, "cell 2"]
    given: Int[Tensor, " cell"]
    true: Int[Tensor, " cell"]
    predicted: Int[Tensor, " cell"]
    top: Int[Tensor, "cell rank"]
    contribution: Float[Tensor, "cell rank"]
    total: Float[Tensor, " cell"]
    positive: Float[Tensor, " cell"]
    participation: Int[Tensor, " cell"]
    flip_cell: Int[Tensor, " flip"]
    flip_neuron: Int[Tensor, " flip"]
    flip_contribution: Float[Tensor, " flip"]
    balance: Float[Tensor, " cell"] | None
    by: str
    balance_note: str
    width: int
    point: str
    symbols: int

    @property
    def noisy(self) -> Bool[Tensor, " cell"]:
        """Cells whose given label is known to be wrong."""
        return (self.true >= 0) & (self.true != self.given)

    @property
    def fitted(self) -> Bool[Tensor, " cell"]:
        """Cells whose given label the network predicts."""
        return self.predicted == self.given

    def to_frame(self) -> pd.DataFrame:
        """Return one row per training cell.

        Columns: id, a, b, given, true, noisy (missing where the truth is not known), fitted, top_neuron, contribution
        (of that neuron), share (of it in the positive contributions), participation, flips (whether ablating the top
        neuron alone loses the label), flipping_neurons (number of neurons that do), balance.
        """
        columns = {"id": self.ids, "a": self.operands[:, 0], "b": self.operands[:, 1], "given": self.given}
        frame = pd.DataFrame({name: values.numpy() for name, values in columns.items()})
        for name, values, dtype in (("true", self.true, "Int64"), ("noisy", self.noisy, "boolean")):
            frame[name] = pd.Series(values.numpy(), dtype=dtype).mask(self.true.numpy() < 0)
        frame["fitted"] = self.fitted.numpy()
        frame["top_neuron"] = self.top[:, 0].numpy()
        frame["contribution"] = self.contribution[:, 0].numpy()
        frame["share"] = self._share(self.contribution[:, 0], slice(None))
        frame["participation"] = self.participation.numpy()
        by_top = self.flip_neuron == self.top[self.flip_cell, 0]
        frame["flips"] = np.isin(np.arange(len(self.ids)), self.flip_cell[by_top].numpy())
        frame["flipping_neurons"] = np.bincount(self.flip_cell.numpy(), minlength=len(self.ids))
        frame["balance"] = np.nan if self.balance is None else self.balance.numpy()
        return frame

    def per_neuron(self) -> pd.DataFrame:
        """Return one row per neuron: the number of cells whose label its ablation loses, and of cells it leads.

        Columns: neuron, noisy_cells and clean_cells (fitted cells whose given label its ablation loses; a cell whose
        truth is not known counts in neither), top_of_noisy, top_of_clean (cells to which it contributes most).
        """
        kinds = {"noisy": self.noisy, "clean": self.true == self.given}
        frame = pd.DataFrame({"neuron": range(self.width)})
        for kind, among in kinds.items():
            held = self.flip_neuron[among[self.flip_cell]]
            frame[f"{kind}_cells"] = np.bincount(held.numpy(), minlength=self.width)
        for kind, among in kinds.items():
            frame[f"top_of_{kind}"] = np.bincount(self.top[among, 0].numpy(), minlength=self.width)
        return frame

    def cells_of(self, neuron: int) -> pd.DataFrame:
        """Return the cells that have this neuron among their top neurons, or lose their label when it is ablated.

        Columns: those of a cell (id, a, b, given, true, noisy, fitted), and rank (1 for the top neuron; missing past
        the last rank kept), contribution, share, flips. The largest contribution comes first.

        Raises:
            UnknownNameError: there is no such neuron.
        """
        if not 0 <= neuron < self.width:
            raise UnknownNameError(f"no neuron {neuron}: they are numbered 0 … {self.width - 1}")
        found = self._pairs()
        rows = found.loc[found["neuron"] == neuron].drop(columns="neuron")
        cells = self.to_frame()[["id", "a", "b", "given", "true", "noisy", "fitted"]]
        joined = cells.iloc[rows["row"].to_numpy()].reset_index(drop=True)
        return pd.concat([joined, rows.drop(columns="row").reset_index(drop=True)], axis=1)

    def neurons_of(self, cell: int) -> pd.DataFrame:
        """Return a training cell's top neurons, and the neurons whose ablation alone loses its label.

        Columns: neuron, rank, contribution, share, flips. The largest contribution comes first.

        Args:
            cell: the cell's id (`task.cell(a, b)`).

        Raises:
            UnknownNameError: the id is not that of a training cell.
        """
        rows = (self.ids == cell).nonzero().flatten()
        if not len(rows):
            raise UnknownNameError(f"example {cell} is not one of the {len(self.ids)} training cells")
        found = self._pairs()
        return found.loc[found["row"] == int(rows[0])].drop(columns="row").reset_index(drop=True)

    def _pairs(self) -> pd.DataFrame:
        """One row per known pair (cell, neuron), the largest contribution first."""
        cells, ranks = self.top.shape
        row = torch.cat([torch.arange(cells).repeat_interleave(ranks), self.flip_cell])
        neuron = torch.cat([self.top.flatten(), self.flip_neuron])
        contribution = torch.cat([self.contribution.flatten(), self.flip_contribution])
        pairs = pd.DataFrame({"row": row.numpy(), "neuron": neuron.numpy()})
        rank = np.tile(np.arange(1, ranks + 1), cells)
        pairs["rank"] = pd.Series(rank, dtype="Int64").reindex(pairs.index)
        pairs["contribution"] = contribution.numpy()
        pairs["share"] = self._share(contribution, row)
        held = self.flip_cell * self.width + self.flip_neuron
        pairs["flips"] = torch.isin(row * self.width + neuron, held).numpy()
        # A flipping neuron among the top neurons appears twice, first with its rank.
        return pairs.drop_duplicates(["row", "neuron"]).sort_values("contribution", ascending=False, kind="stable")

    def _share(self, contribution: Float[Tensor, " pair"], rows: Int[Tensor, " pair"] | slice) -> np.ndarray:
        positive = self.positive[rows]
        return (contribution / positive.where(positive > 0, torch.inf)).numpy()

    def plot(self) -> go.Figure:
        """Return the grid of pairs, coloured by which half of the neurons holds the given label; noisy cells marked."""
        a, b = self.operands.unbind(1)
        shown = np.full((self.symbols, self.symbols), np.nan)
        signed = self.balance is not None
        frame = self.to_frame()
        shown[a, b] = frame["balance" if signed else "share"].to_numpy(float)
        marks = {"memorized": self.noisy & self.fitted, "noisy, not fitted": self.noisy & ~self.fitted}
        masks = {title: np.zeros(shown.shape, dtype=bool) for title in marks}
        for title, mark in marks.items():
            masks[title][a, b] = mark.numpy()
        details = np.full((*shown.shape, 5), "", dtype=object)
        told = ["given", "true", "top_neuron", "contribution", "participation"]
        frame["contribution"] = frame["contribution"].map("{:.3f}".format)
        details[a, b] = frame[told].astype("string").fillna("unknown").to_numpy(str)
        held = f"given label held by the low-{self.by} half (+) or the high-{self.by} half (−) (logits)"
        return grid_of_values(
            shown,
            masks,
            details,
            z_title=held if signed else "top neuron's share of the positive contributions",
            signed=signed,
            hover="a = %{y}, b = %{x}: %{z:.3f}<br>given %{customdata[0]}, true %{customdata[1]}<br>neuron "
            "%{customdata[2]} contributes %{customdata[3]}<br>%{customdata[4]} neurons make half<extra></extra>",
        )


@dataclasses.dataclass(frozen=True)
class EffectMap(Analysis):
    """Find the neurons that hold each training cell's given label, and the cells that each neuron holds.

    Doshi et al. divide the neurons into a generalizing and a memorizing subnetwork; this analysis finds the examples
    that each memorizing neuron memorizes. It takes two views, which may disagree: the direct contribution to the logit
    of the given label, which is additive over neurons, and the exact effect of ablating one neuron.

    Attributes:
        by: the score whose low and high half of the neurons are compared on each cell.
        ranks: number of top neurons kept per cell.
        point: the layer of neurons, with a linear readout; by default the last.
    """

    name: ClassVar[str] = "effect_map"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "role:hidden", "role:readout"})
    knows: ClassVar[frozenset[str]] = frozenset(
        {"pairs", "given_labels", "true_train_labels", "noise_mask", "input_group", "output_group"}
    )
    cites: ClassVar[str] = "Doshi et al. 2024, arXiv 2310.13061"

    by: str = "ipr"
    ranks: int = 8
    point: str = ""

    def __post_init__(self) -> None:
        named("neuron_scores", self.by)
        check_whole("number of ranks", self.ranks, 1)

    def told(self) -> frozenset[str]:
        """The labels, and the knowledge that the score uses."""
        return self.knows - {"input_group", "output_group"} | named("neuron_scores", self.by).told()

    def __call__(self, subject: Subject) -> EffectMapResult:
        """Return the map.

        Raises:
            MissingNeedError: the subject lacks something, or its readout is that of a residual stream.
            NotLinearError: the logits are not linear in the layer.
        """
        self.require(subject)
        check_no_stream(subject.roles)
        task, readout = subject.task, linear_readout(subject, self.point)
        rows, given, true = task.rows(task.train_ids), task.given(task.train_ids), task.true(task.train_ids)
        hidden, logits = readout.hidden[rows], readout.logits[rows]
        low, note = self._low_half(subject, readout)
        shares = logit_shares(hidden, readout.weights, given, self.ranks, low)
        flips = single_ablation_flips(hidden, readout.weights, logits)
        lost = flips.lost(given)
        cell, neuron = flips.example[lost], flips.neuron[lost]
        weight = readout.weights[neuron, given[cell]] - readout.weights.mean(1)[neuron]
        assert task.operands is not None
        return EffectMapResult(
            ids=task.train_ids.clone(),
            operands=task.operands[rows].clone(),
            given=given.clone(),
            true=torch.full_like(given, -1) if true is None else true.clone(),
            predicted=flips.predicted,
            top=shares.top,
            contribution=shares.contribution,
            total=shares.total,
            positive=shares.positive,
            participation=shares.participation,
            flip_cell=cell,
            flip_neuron=neuron,
            flip_contribution=(hidden[cell, neuron] * weight).double(),
            balance=None if low is None else 2 * shares.among - shares.total,
            by=self.by,
            balance_note=note,
            width=len(readout.weights),
            point=readout.point,
            symbols=task.symbols,
        )

    def _low_half(self, subject: Subject, readout: LinearReadout) -> tuple[Bool[Tensor, " neuron"] | None, str]:
        """Return the lower-scoring half of the neurons and "", or None and the reason."""
        try:
            found = named("neuron_scores", self.by)(subject)
        except MechmemError as error:
            return None, str(error)
        if found.point != readout.point:
            return None, f"{self.by} scores the neurons of {found.point!r}, not of {readout.point!r}"
        if len(found.values) < 2:
            return None, "a single neuron cannot be halved"
        return found.take(0.5, "low").mask, ""
