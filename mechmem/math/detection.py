"""How well a score finds some examples among all: three figures, for many reweightings of the examples at once."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

FIGURES = ("auroc", "ap", "precision")


def detection_figures(
    scores: Float[np.ndarray, " example"],
    wanted: Bool[np.ndarray, " example"],
    weights: Float[np.ndarray, "resample example"],
) -> Float[np.ndarray, "resample figure"]:
    """Return the area under the ROC curve, average precision, and precision at the rate of the wanted examples.

    The last is the share of wanted ones among as many examples of highest score as are wanted; of examples that tie at
    the border, as many count as there is room for, in proportion. Ties count half in the area, and stand together in
    average precision, as in scikit-learn.

    Args:
        scores: what should be high for the wanted examples; may be infinite.
        wanted: which are to be found.
        weights: how often each example counts, a row per resample.

    Returns:
        the figures `FIGURES` of each resample; NaN where it holds only one kind of example.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    hits, misses = (np.add.reduceat(weights[:, order] * kind[order], starts, axis=1) for kind in (wanted, ~wanted))
    found, passed = hits.cumsum(1), misses.cumsum(1)
    total, others = found[:, -1:], passed[:, -1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        auroc = (hits * (others - passed + misses / 2)).sum(1) / (total * others)[:, 0]
        shown = found + passed
        ap = np.where(shown > 0, hits / total * found / np.where(shown > 0, shown, 1), 0).sum(1)
        # How much of each group of ties is among the first `total` examples.
        group = hits + misses
        room = np.clip(total - (shown - group), 0, group)
        precision = (np.where(group > 0, hits / np.where(group > 0, group, 1), 0) * room).sum(1) / total[:, 0]
    both = (total[:, 0] > 0) & (others[:, 0] > 0)
    return np.where(both[:, None], np.stack([auroc, ap, precision], 1), np.nan)
