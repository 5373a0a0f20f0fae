"""Measurements of the recipe's networks: what edits forget at an equal price, and what each basis tells apart."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.subject import Subject
from mechmem.math.logits import answers_of
from mechmem.models.networks.masks import ExampleTiedDropout
from mechmem.models.networks.subnetworks import mask_layers
from mechmem.models.reading.curvature_basis import curvature_bases, edited_weights
from mechmem.models.reading.forward import logits_of
from mechmem.models.reading.kronecker_factors import kronecker_factors
from mechmem.recipes.measures import Rows, curves
from mechmem.recipes.papers.maini_2023.measured import dropped, own
from mechmem.scorecard.edit_curves import EditCurves, Told, edit_curves

CURVATURE, RANDOM = "curvature directions", "random directions"
RANKS, LAST_RANK, NEURONS = "low rank", "low rank of the last layer", "neurons of small weights"
EDITS = (CURVATURE, RANDOM, RANKS, LAST_RANK, NEURONS)

TOP, BOTTOM = 0.1, 0.5
"""Shares of a basis at its two ends, as in the paper's figure 2."""
LEAST = 1e-9
"""Directions with a smaller share of the inputs' second moments than this hold nothing but rounding."""


def edits(subject: Subject) -> dict[str, str]:
    """Return the surgeries that are compared; the first three change the same weights, all but the readout's."""
    return {
        CURVATURE: "curvature_directions",
        RANDOM: "random_directions",
        RANKS: "low_rank(layers.*)",
        # Ranks are whole numbers, and in narrow layers one less of each can be much.
        LAST_RANK: f"low_rank({edited_weights(subject)[-1]})",
        NEURONS: "drop(weight_norm(of=w))",
    }


def left(edit: str, told: Told = "truth") -> str:
    """Return the name of the quantity: share of the wrong labels still answered."""
    return f"wrong labels left by {edit}{_told(told)}"


def recovered(edit: str, told: Told = "truth") -> str:
    """Return the name of the quantity: share of the examples with a wrong label that get their true one."""
    return f"true labels after {edit}{_told(told)}"


def gained(edit: str, told: Told = "truth") -> str:
    """Return the name of the quantity: test accuracy after the edit minus before."""
    return f"test accuracy gained by {edit}{_told(told)}"


def after(edit: str, told: Told = "truth") -> str:
    """Return the name of the quantity: test accuracy after the edit."""
    return f"test accuracy after {edit}{_told(told)}"


def lost(edit: str, told: Told = "truth") -> str:
    """Return the name of the quantity: clean accuracy lost."""
    return f"clean accuracy lost by {edit}{_told(told)}"


def _told(told: Told) -> str:
    return ", told nothing" if told == "nothing" else ""


def edited(subject: Subject) -> Rows:
    """What each edit leaves at every price, told the truth and told nothing."""
    asked = edits(subject)
    found: EditCurves = subject.memo("edit curves of the recipe", lambda: edit_curves(subject, list(asked.values())))
    names = {edit: name for name, edit in asked.items()}
    for row in found.readings().to_dict("records"):
        name, told, price = names[row["edit"]], row["told"], float(row["lost"])
        yield left(name, told), price, float(row["train_noisy"])
        yield recovered(name, told), price, float(row["train_noisy_true"])
        yield gained(name, told), price, float(row["test_change"])
        yield after(name, told), price, float(row["test"])
        yield lost(name, told), price, float(row["clean_lost"])


def edited_or_dropped(subject: Subject) -> Rows:
    """The same; of a network with memory units, what its own subnetworks answer and what is left without the units."""
    if any(isinstance(layer, ExampleTiedDropout) for layer in mask_layers(subject.model)):
        yield from own(subject)
        yield from dropped(subject)
    else:
        yield from edited(subject)


CONTRAST = "memorized over clean inputs, bottom half of the basis over top tenth"
SHARPEST = "clean over memorized inputs, top tenth of the basis"


def contrast(basis: str) -> str:
    """Return the name of the quantity: memorized over clean activation at the bottom, divided by that at the top."""
    return f"{CONTRAST} of {basis}"


def separated(subject: Subject) -> Rows:
    """How differently the two ends of each basis of the last edited layer act on memorized and on clean inputs.

    An activation is the root mean square, over examples, of the norm of the layer's inputs along a part of the basis:
    the eigenvectors of the inputs' second moments, or the right singular vectors of the weights.
    """
    task, ids = subject.task, subject.task.sources
    fitted = answers_of(logits_of(subject.model, task, ids, subject.roles.output)) == task.given(ids)
    noisy = task.is_noisy(ids)
    assert noisy is not None
    name, basis = list(curvature_bases(subject).items())[-1]
    layer = name.rpartition(".")[0]
    unknown = torch.full_like(basis.inputs, torch.nan)  # no wrong label is answered
    memorized, clean = (
        _second_moments(subject, layer, ids[chosen]) if chosen.any() else unknown
        for chosen in (noisy & fitted, ~noisy & fitted)
    )
    order = basis.mass.sum(0).argsort(descending=True)
    used = order[basis.mass.sum(0)[order] > LEAST]
    weights = rearrange(subject.model.get_parameter(name).detach().double().cpu(), "out ... -> out (...)")
    bases = {CURVATURE: basis.inputs[:, used], RANKS: torch.linalg.svd(weights, full_matrices=False)[2].T}
    for title, vectors in bases.items():
        top, bottom = (_ratio(memorized, clean, part) for part in _ends(vectors))
        yield contrast(title), math.nan, bottom / top
        yield f"{SHARPEST} of {title}", math.nan, 1 / top


def _second_moments(subject: Subject, layer: str, ids: Int[Tensor, " example"]) -> Float[Tensor, "input input"]:
    twin = subject.with_model(subject.copy_model().eval())
    twin.model.requires_grad_(False)
    return kronecker_factors(twin, {layer: ("weight",)}, ids, ())[layer][0] / len(ids)


def _ends(vectors: Float[Tensor, "input direction"]) -> tuple[Float[Tensor, "input _"], ...]:
    """Return the first tenth and the last half of a basis in order."""
    count = vectors.shape[1]
    return vectors[:, : max(1, round(TOP * count))], vectors[:, count - max(1, round(BOTTOM * count)) :]


def _ratio(
    memorized: Float[Tensor, "input input"],
    clean: Float[Tensor, "input input"],
    vectors: Float[Tensor, "input direction"],
) -> float:
    strengths = [float((vectors.T @ each @ vectors).trace().clamp_min(0).sqrt()) for each in (memorized, clean)]
    return strengths[0] / strengths[1] if strengths[1] else math.nan


def over_prices(table: pd.DataFrame) -> go.Figure:
    """Draw the wrong labels that each edit leaves over the clean accuracy that may be lost."""
    series = {left(name): name for name in EDITS}
    return curves(table, series, x_title="clean accuracy that may be lost", y_title="wrong labels still answered")


def gains_over_prices(table: pd.DataFrame) -> go.Figure:
    """Draw the test accuracy that each edit gains over the clean accuracy that may be lost."""
    series = {gained(name): name for name in EDITS}
    return curves(table, series, x_title="clean accuracy that may be lost", y_title="test accuracy gained")


def truths_over_prices(table: pd.DataFrame) -> go.Figure:
    """Draw the true labels that each edit recovers over the clean accuracy that may be lost."""
    series = {recovered(name): name for name in EDITS}
    return curves(table, series, x_title="clean accuracy that may be lost", y_title="true label answered")
