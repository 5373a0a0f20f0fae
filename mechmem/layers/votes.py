"""Votes of an example's nearest neighbours at every layer, and the depth from which on they are settled."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.layers.features import INPUTS, Pool, over_layers
from mechmem.models.reading.forward import check_logits

Distance = Literal["euclidean", "cosine"]

SOFTMAX = "softmax"
"""Name of the last depth: the network's own probabilities."""


@dataclasses.dataclass(frozen=True, eq=False)
class LayerVotes:
    """Votes of the nearest training examples, with their given labels.

    Attributes:
        places: the depths: the inputs, the layers, and the network's probabilities.
        answers: class with the most votes; training examples come first. Shape (place, example).
        predicted: the network's prediction. Shape (example).
        k: number of neighbours that vote.
    """

    places: tuple[str, ...]
    answers: Int[Tensor, "place example"]
    predicted: Int[Tensor, " example"]
    k: int


def layer_votes(
    subject: Subject,
    points: Sequence[str],
    pool: Pool,
    train: Int[Tensor, " train"],
    others: Int[Tensor, " other"],
    k: int,
    distance: Distance,
) -> LayerVotes:
    """Let the nearest training examples vote at the inputs, at every layer and at the network's probabilities.

    A training example has no vote on itself; ties go to the lowest class. Each example passes through the network once,
    if the layers fit into memory together (see `read_layers`); there is no table of distances.

    Args:
        subject: the network and its task.
        points: the layers, as in `read_layers`.
        pool: pooling of layers of shape (example, channel, …).
        train: ids of the training examples that vote, and are voted on.
        others: ids of other examples that are voted on.
        k: number of neighbours that vote; all others, if there are fewer.
        distance: "euclidean", or "cosine" for the angle.

    Raises:
        MissingNeedError: there is only one training example.
        ActivationError: a layer does not fire, or holds numbers that are not finite.
        NotFiniteError: a logit is NaN or infinite.
    """
    if len(train) < 2:
        raise MissingNeedError("the prediction depth needs at least two training examples")
    k = min(k, len(train) - 1)
    ids, given = torch.cat([train, others]), subject.task.given(train)

    def votes(_layer: str, held: Float[Tensor, "example feature"]) -> Int[Tensor, " example"]:
        return _votes(held, given, k, distance)

    found, logits = over_layers(subject, (INPUTS, *points), ids, votes, pool, logits=True)
    check_logits(logits, ids)
    last = _votes(logits.double().softmax(1), given, k, distance)
    return LayerVotes((*found, SOFTMAX), torch.stack([*found.values(), last]), logits.argmax(1), k)


def _votes(
    held: Float[Tensor, "example feature"], given: Int[Tensor, " train"], k: int, distance: Distance
) -> Int[Tensor, " example"]:
    # scikit-learn takes a second to load.
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import normalize

    features = held.numpy()
    # On the sphere the Euclidean distance gives the order of the angles, and scikit-learn computes it fast.
    features = normalize(features) if distance == "cosine" else features
    own, others = features[: len(given)], features[len(given) :]
    probe = KNeighborsClassifier(k, algorithm="brute").fit(own, given.numpy())
    # Without queries it predicts its own examples, each without itself as a neighbour.
    found = [probe.predict(None), *([probe.predict(others)] if len(others) else [])]
    return torch.from_numpy(np.concatenate(found))


def settled_from(agrees: Bool[Tensor, "place example"]) -> Int[Tensor, " example"]:
    """Return the first depth from which on all agree; the number of depths if the last does not."""
    return len(agrees) - agrees.flip(0).long().cumprod(0).sum(0)
