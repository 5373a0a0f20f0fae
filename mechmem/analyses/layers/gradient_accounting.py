"""Gradient of the training loss by layer, split into the contributions of clean and of noisy examples."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.inputs import run_on
from mechmem.core.plugins import Analysis
from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.math.blocks import blocks
from mechmem.models.hooks.running import block_rows, device_of, differentiating, full_precision
from mechmem.models.reading.forward import check_logits
from mechmem.models.reading.layer_parameters import LayerParameters, parameter_layers
from mechmem.models.reading.separate import check_subject
from mechmem.plotting.layers import name_ticks
from mechmem.plotting.layout import stack
from mechmem.plotting.lines import lines
from mechmem.plotting.style import INK, SPLIT_STYLES, SplitStyle
from mechmem.training.evaluate import loss_of
from mechmem.training.run import Run

if TYPE_CHECKING:
    import plotly.graph_objects as go

ALL = "all layers"
"""The row of the whole network."""

_SERIES = {
    "norm": SplitStyle("train, all", INK, "cross", "longdash"),
    "norm_clean": SPLIT_STYLES["train_clean"],
    "norm_noisy": SPLIT_STYLES["train_noisy"],
    "cosine": SplitStyle("clean and noisy", INK, "circle", "solid"),
    "pull_clean": SPLIT_STYLES["train_clean"],
    "pull_noisy": SPLIT_STYLES["train_noisy"],
    "share": SplitStyle("train, all", INK, "cross", "longdash"),
}
_PANELS = {
    "size of the gradient": ("norm", "‖∇L‖ / √parameters"),
    "clean against noisy gradient": ("cosine", "cosine"),
    "contributions to the gradient of the training loss": ("pull", "share of the<br>layer's ‖∇L‖²"),
    "distribution over layers": ("share", "share of the<br>network's ‖∇L‖²"),
}


@record
@dataclasses.dataclass(frozen=True, eq=False)
class GradientAccountingResult(Result):
    """Inner products of the gradients of the mean loss over clean, noisy and all examples, layer by layer.

    With n_c clean and n_n noisy examples the gradient of the training loss is g = (n_c g_c + n_n g_n) / (n_c + n_n).

    Attributes:
        layers: the layers, in the network's order.
        parameters: number of parameters of each layer. Shape (layer).
        products: ⟨g_i, g_j⟩ over a layer's parameters, for clean, noisy and all, in squared units of the loss (nats, or
            squared error) per unit of the weights. NaN if there are no such examples or they are not known. Shape
            (layer, 3, 3).
        whole: the same over all parameters of the network, whichever layers were chosen. Shape (3, 3).
        n_parameters: number of all parameters.
        n: number of clean, noisy and all training examples; 0 if there are none or they are not known. Shape (3).
        loss: the loss, "cross_entropy" or "mse".
        note: says if the loss was not recorded and had to be assumed, or the wrong labels are not known; or "".
    """

    layers: tuple[str, ...]
    parameters: Int[Tensor, " layer"]
    products: Float[Tensor, "layer examples examples"]
    whole: Float[Tensor, "examples examples"]
    n_parameters: int
    n: Int[Tensor, " examples"]
    loss: str
    note: str = ""

    def to_frame(self) -> pd.DataFrame:
        """Return one row per layer and figure: layer, parameters, quantity, value. The last layer is "all layers".

        The quantities: norm_clean, norm_noisy and norm are ‖∇L‖ over the layer, L being the mean loss of clean, noisy
        or all training examples. cosine is the cosine of the clean and the noisy gradient. pull_clean and pull_noisy
        are their contributions to the layer's gradient of the training loss, ⟨n_i g_i / n, g⟩ / ‖g‖²; the two sum to 1,
        and a negative one opposes it. share is the layer's part of the whole, ‖g over the layer‖² / ‖g‖²; over all
        layers of a network it sums to 1.

        A figure that does not exist (no examples, or a gradient of 0) is NaN.
        """
        every = zip(
            (*self.layers, ALL),
            (*self.products, self.whole),
            (*self.parameters.tolist(), self.n_parameters),
            strict=True,
        )
        rows = [
            {"layer": layer, "parameters": count, "quantity": quantity, "value": value}
            for layer, products, count in every
            for quantity, value in self._figures(products).items()
        ]
        return pd.DataFrame(rows)

    def _figures(self, products: Float[Tensor, "examples examples"]) -> dict[str, float]:
        clean, noisy, total = products.diagonal().sqrt()
        pull = products[:2, 2] * self.n[:2] / self.n[2] / products[2, 2]
        found = {"norm_clean": clean, "norm_noisy": noisy, "norm": total, "cosine": products[0, 1] / (clean * noisy)}
        found |= {"pull_clean": pull[0], "pull_noisy": pull[1], "share": products[2, 2] / self.whole[2, 2]}
        return {quantity: float(value) for quantity, value in found.items()}

    def plot(self) -> go.Figure:
        """Return gradient size, cosine, contributions of clean and noisy examples, and share of the whole, by layer."""
        frame, names = self.to_frame(), (*self.layers, ALL)
        panels = {}
        for heading, (kind, title) in _PANELS.items():
            rows = frame.loc[frame["quantity"].str.startswith(kind)]
            # A large layer has a long gradient; per parameter, layers are comparable.
            value = rows["value"] / (np.sqrt(rows["parameters"]) if kind == "norm" else 1)
            shown = pd.DataFrame(
                {"x": [names.index(name) for name in rows["layer"]], "series": rows["quantity"], "value": value}
            )
            if kind == "share":
                shown = shown.loc[rows["layer"] != ALL]
            panels[heading] = lines(shown, x_title="layer", y_title=title, styles=_SERIES)
        figure = stack(panels, height=150)
        unit = "nats" if self.loss == "cross_entropy" else "squared error"
        figure.update_yaxes(title_text=f"‖∇L‖ / √parameters<br>({unit} per weight)", rangemode="tozero", row=1)
        return figure.update_xaxes(name_ticks(names))


@dataclasses.dataclass(frozen=True)
class GradientAccounting(Analysis):
    """Split the gradient of the training loss by layer and by the contributions of clean and of noisy examples.

    Gradients are taken in evaluation mode (BatchNorm with its running statistics, no dropout) on the training examples
    without augmentation; the loss is the run's own, or cross-entropy if none was recorded. Over a run,
    `over_training(subject, "gradient_accounting")` shows when each kind of example drives which layer (Stephenson et
    al. 2021, Maini et al. 2023). For single neurons of a network with one layer, see `norm_drive`.

    Attributes:
        layers: names or patterns of layers: "layers.*" for whole blocks (see `parameter_layers`); by default each
            module with its own parameters.
    """

    name: ClassVar[str] = "gradient_accounting"
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "true_train_labels", "noise_mask"})
    cites: ClassVar[str] = "Stephenson et al. 2021, arXiv 2105.14602; Maini et al. 2023, arXiv 2307.09542"

    layers: str = ""

    def __call__(self, subject: Subject) -> GradientAccountingResult:
        """Return the inner products.

        Raises:
            UnknownNameError: no layer matches.
            MissingNeedError: the network has no parameters of floating point.
            UnsteadyNetworkError: the network is random in evaluation mode, or examples act on each other in it.
        """
        self.require(subject)
        check_subject(subject)
        task = subject.task
        config = subject.run.config if isinstance(subject.run, Run) else None
        loss = "cross_entropy" if config is None else config.loss
        notes = ["the training loss was not recorded: cross-entropy is assumed"] if config is None else []
        noisy = task.noisy
        if noisy is None:
            notes.append("the wrong labels are not known: all examples together only")
            parts = [task.train_ids[:0], task.train_ids[:0], task.train_ids]
        else:
            parts = [task.train_ids[~noisy], task.train_ids[noisy]]
        layers = [layer for layer in parameter_layers(subject.model, subject.roles, self.layers) if layer.parameters]
        model = subject.copy_model().eval()
        sums = [_gradient(subject, model, ids, loss) for ids in parts]
        if noisy is not None:
            sums.append({name: clean + sums[1][name] for name, clean in sums[0].items()})
        if not sums[0]:
            raise MissingNeedError(f"{self.name!r} needs floating-point parameters, but the network has none")
        n = torch.tensor([len(ids) for ids in parts] if noisy is None else [*map(len, parts), len(noisy)])
        products = {name: _products([each[name] for each in sums], n) for name in sums[0]}
        sizes = {name: sums[0][name].numel() for name in products}
        return GradientAccountingResult(
            layers=tuple(layer.name for layer in layers),
            parameters=torch.tensor([sum(sizes[name] for name in _of(layer, sizes)) for layer in layers]),
            products=torch.stack([torch.stack([products[n] for n in _of(layer, sizes)]).sum(0) for layer in layers]),
            whole=torch.stack(list(products.values())).sum(0),
            n_parameters=sum(sizes.values()),
            n=n,
            loss=loss,
            note="; ".join(notes),
        )


def _of(layer: LayerParameters, sizes: dict[str, int]) -> list[str]:
    return [name for name in layer.parameters if name in sizes]


@differentiating()
def _gradient(subject: Subject, model: nn.Module, ids: Int[Tensor, " example"], loss: str) -> dict[str, Tensor]:
    """Return the gradient of the summed loss of these examples with respect to each parameter, in float64."""
    stored = {name: each for name, each in model.named_parameters() if each.is_floating_point()}
    flat, device = [each.requires_grad_(True) for each in stored.values()], device_of(model)
    sums = {name: torch.zeros_like(each, dtype=torch.float64) for name, each in stored.items()}
    for block in blocks(len(ids) if flat else 0, block_rows(model)):
        inputs, given = subject.task.batch(ids[block])
        logits = full_precision(subject.roles.output.read(run_on(model, inputs.to(device))))
        check_logits(logits.detach(), ids[block])
        part = loss_of(logits, given.to(device), loss) * len(given)
        gradients = torch.autograd.grad(part, flat, allow_unused=True, materialize_grads=True)
        for total, gradient in zip(sums.values(), gradients, strict=True):
            total += gradient
    return sums


def _products(sums: list[Tensor], n: Int[Tensor, " examples"]) -> Float[Tensor, "examples examples"]:
    """Return the inner products of mean gradients; NaN if there are no examples to average over."""
    vectors = torch.stack([total.flatten().cpu() for total in sums])
    means = torch.where(n > 0, n.double(), torch.nan)
    return vectors @ vectors.T / torch.outer(means, means)
