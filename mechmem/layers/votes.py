"""What an example's nearest neighbours vote for at every layer, and from which layer on that is settled."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.layers.features import INPUTS, Pool, held_by
from mechmem.models.reading.forward import logits_of

Distance = Literal["euclidean", "cosine"]

SOFTMAX = "softmax"
"""What the last place is called: the probabilities that the network itself gives."""


@dataclasses.dataclass(frozen=True, eq=False)
class LayerVotes:
    """Votes of the nearest training examples, with the labels that were given to them.

    Attributes:
        places: where they vote: the inputs, the layers, and the network's probabilities.
        answers: what they vote for; the training examples are the first. Shape (place, example).
        predicted: the network's answer. Shape (example).
        k: how many vote.
    """

    places: tuple[str, ...]
    answers: Int[Tensor, "place example"]
    predicted: Int[Tensor, " example"]
    k: int


def layer_votes(
    subject: Subject,
    layers: Mapping[str, Pool],
    train: Int[Tensor, " train"],
    others: Int[Tensor, " other"],
    k: int,
    distance: Distance,
) -> LayerVotes:
    """Let the nearest training examples vote at the inputs, at every layer and at the network's probabilities.

    A training example has no vote on itself; equal votes go to the lowest class. What one layer holds on all these
    examples is in memory at a time, and no table of distances.

    Args:
        subject: the network and its task.
        layers: the layers, each with how it is averaged (see `named_layers`).
        train: ids of the training examples that vote, and are voted on.
        others: ids of others that are voted on.
        k: how many vote; all others, where there are fewer.
        distance: "euclidean", or "cosine" for the angle.

    Raises:
        MissingNeedError: there is a single training example.
        ActivationError: a layer does not fire, or holds numbers that are not finite.
    """
    if len(train) < 2:
        raise MissingNeedError("the prediction depth needs at least two training examples: one has no neighbour")
    k = min(k, len(train) - 1)
    ids, given = torch.cat([train, others]), subject.task.given(train)
    held_at: dict[str, Pool] = {INPUTS: "none", **layers}
    logits = logits_of(subject.model, subject.task, ids, subject.roles.output)
    answers = [_votes(held_by(subject, layer, pool, ids), given, k, distance) for layer, pool in held_at.items()]
    answers.append(_votes(logits.double().softmax(1), given, k, distance))
    return LayerVotes((*held_at, SOFTMAX), torch.stack(answers), logits.argmax(1), k)


def _votes(
    held: Float[Tensor, "example feature"], given: Int[Tensor, " train"], k: int, distance: Distance
) -> Int[Tensor, " example"]:
    # These take a second to load.
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import normalize

    features = held.numpy()
    # On the sphere the Euclidean distance orders as the angle does, and scikit-learn is fast at it.
    features = normalize(features) if distance == "cosine" else features
    own, others = features[: len(given)], features[len(given) :]
    probe = KNeighborsClassifier(k, algorithm="brute").fit(own, given.numpy())
    # Asked without queries it answers for its own examples, each without itself.
    found = [probe.predict(None), *([probe.predict(others)] if len(others) else [])]
    return torch.from_numpy(np.concatenate(found))


def settled_from(agrees: Bool[Tensor, "place example"]) -> Int[Tensor, " example"]:
    """Return the first place from which on all agree; the number of places where the last does not."""
    return len(agrees) - agrees.flip(0).long().cumprod(0).sum(0)
