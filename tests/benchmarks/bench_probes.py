"""Probes of layers: against loops over classes and layers with scikit-learn's parts.

The subspace classifier is worked out in float64, and so is the plain way that it is held against. Features come out of
a network in float32, in which scikit-learn would compute too; that ratio stands beside it, without a bar.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from timing import alternately, note

import mechmem as mm
from mechmem.layers.classifiers.masc import MinimumAngleSubspaces
from mechmem.layers.classifiers.neighbours import CosineNeighbours
from mechmem.models.networks.build import build_model

CLASSES, EACH, FEATURES, POINTS, VARIANCE, K = 10, 500, 2048, 1000, 0.99, 20


def layer() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rectified features of overlapping classes, their labels, and as many again that are to be classified."""
    draw = np.random.default_rng(0)
    means, mixing = draw.normal(size=(CLASSES, 64)), draw.normal(size=(64, FEATURES))

    def features(y: np.ndarray) -> np.ndarray:
        held = (means[y] + draw.normal(size=(len(y), 64))) @ mixing
        return np.maximum(held + 4 * draw.normal(size=held.shape), 0)

    y = np.repeat(np.arange(CLASSES), EACH)
    return features(y), y, features(np.arange(POINTS) % CLASSES)


class ByClass:
    """The reference: one `PCA` per class, and the class in whose components an example is longest."""

    def __init__(self, solver: str):
        self.solver = solver

    def fit(self, X: np.ndarray, y: np.ndarray) -> ByClass:
        self.found = [PCA(VARIANCE, svd_solver=self.solver).fit(X[y == each]) for each in range(CLASSES)]
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.stack([np.square(each.transform(X)).sum(1) for each in self.found], 1).argmax(1)


def uncentred(X: np.ndarray, y: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Answers by a decomposition per class, about the origin: what the fast way must say."""
    scores = []
    for each in range(CLASSES):
        _, s, v = np.linalg.svd(X[y == each], full_matrices=False)
        kept = int((np.cumsum(s**2) <= VARIANCE * (s**2).sum()).sum()) + 1
        scores.append(np.square(points @ v[:kept].T).sum(1))
    return np.stack(scores, 1).argmax(1)


def run(add: Callable[..., None]) -> None:
    X, y, points = layer()
    assert (MinimumAngleSubspaces(VARIANCE).fit(X, y).predict(points) == uncentred(X, y, points)).all()
    size = f"{CLASSES} × {EACH} × {FEATURES}"
    for dtype in (np.float64, np.float32):
        own, held = X.astype(dtype), points.astype(dtype)
        for solver in ("full", "auto"):
            plain, fast = ByClass(solver), MinimumAngleSubspaces(VARIANCE)
            fitted = alternately(lambda p=plain, o=own: p.fit(o, y), lambda f=fast, o=own: f.fit(o, y), 3)
            both = alternately(
                lambda p=plain, o=own, h=held: p.fit(o, y).predict(h),
                lambda f=fast, o=own, h=held: f.fit(o, y).predict(h),
                3,
            )
            what = f"MASC, {size}, against PCA(svd_solver={solver!r}) per class, {dtype.__name__}"
            for name, times, bar in (("fit", fitted, 2.5), (f"fit and {POINTS} answers", both, 1.8)):
                if dtype is np.float64:
                    add(f"{what}: {name}", *times, bar, speedup=True)
                else:
                    note(f"{what}: {name}", f"{times[0] / times[1]:.2f}×", "none")
        neighbours = KNeighborsClassifier(K, metric="cosine", algorithm="brute").fit(own, y)
        fast = CosineNeighbours(K).fit(own, y)
        assert (neighbours.predict(held) == fast.predict(held)).all(), "neighbours disagree"
        times = alternately(functools.partial(neighbours.predict, held), functools.partial(fast.predict, held), 5)
        add(f"knn, {K} of {len(y)} × {FEATURES}, {dtype.__name__}, against scikit-learn", *times, 1, speedup=True)
    table(add)


def table(add: Callable[..., None]) -> None:
    """The whole table of a network, against a forward pass for every layer and each of the sets."""
    task = mm.ImageTask(mm.ImageConfig("digits", noise=mm.LabelNoise(0.4, "any")))
    widths = tuple(32 + 8 * number for number in range(6))
    model = build_model(mm.CNNConfig(channels=widths, projector=64), task, 0)
    layers, subject = model.roles.hidden, mm.Subject(model, task, model.roles)
    assert len(layers) == 8

    def plain() -> list[float]:
        return [by_hand(model, task, layer) for layer in layers]

    def ours() -> mm.LayerProbes:
        fresh = mm.Subject(subject.model, subject.task, subject.roles)
        return mm.probe_layers(fresh, probe=f"knn(k={K})", folds=0)

    found = ours().table()["trained"].iloc[1:-1]
    assert np.allclose(found, plain(), atol=2 / len(task.test_ids)), "the tables disagree"
    add(
        f"layer table by knn, {len(layers)} points of a convolutional network",
        *alternately(plain, ours, 3),
        1.5,
        speedup=True,
    )


@torch.no_grad()
def by_hand(model: torch.nn.Module, task: mm.ImageTask, layer: str) -> float:
    held: list[torch.Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _m, _i, out: held.append(out.flatten(1)))
    sets = []
    for ids in (task.train_ids, task.test_ids):
        held.clear()
        for part in ids.split(256):
            model(task.batch(part)[0])
        sets.append(torch.cat(held).numpy())
    handle.remove()
    fitted = KNeighborsClassifier(K, metric="cosine", algorithm="brute").fit(
        sets[0], task.given(task.train_ids).numpy()
    )
    # The table gives accuracies on the training examples too.
    fitted.predict(sets[0])
    return float((fitted.predict(sets[1]) == task.true(task.test_ids).numpy()).mean())
