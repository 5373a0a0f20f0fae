"""Parts that the claims share: the authors' figures, names of arms, and conditions."""

from __future__ import annotations

from mechmem.recipes.conditions import Condition, at_least, more
from mechmem.recipes.papers.ketha_2025.runs import CNN, FOLLOWED, MEMORIZING, MLP, RESNET, SECOND, arm

FAR = 0.05
"""Difference in accuracy that counts as far above."""

TABLE = {
    MLP: ("MLP-MNIST", (87.4, 73.3, 54.2, 32.1), (96.9, 96.5, 94.8, 83.4), (97.0, 96.7, 96.3, 95.8)),
    SECOND: ("MLP-CIFAR10", (48.6, 40.4, 30.6, 19.7), (53.4, 50.2, 44.9, 32.4), (54.0, 52.6, 51.0, 48.4)),
    CNN: ("CNN-FMNIST", (77.7, 61.4, 43.3, 25.6), (83.6, 81.9, 80.0, 73.9), (84.3, 81.7, 81.7, 79.9)),
    RESNET: ("ResNet18-CIFAR10", (67.4, 51.5, 34.5, 20.0), (67.1, 62.0, 57.7, 43.9), (69.4, 68.1, 66.7, 65.8)),
}
"""The authors' test accuracies in % at ξ = .2, .4, .6, .8 of the network, of MASC by given labels and of MASC by true
labels, at the layer that is best on test."""

MEMORIZED = tuple(arm(MLP, xi) for xi in MEMORIZING)
FOLLOWED_MLP = tuple(arm(MLP, xi) for xi in FOLLOWED)
AT_8 = arm(MLP, 0.8)

SMALL = "The paper has 60,000 training images; this scale 4000."
OTHER_DATA = "The paper has CIFAR-10 or Fashion-MNIST; this scale 1000 to 1438 images of digits."
BASE = "MLP 128-512-2048-2048, 4000 images of MNIST, trained until it fits its labels"
CHOSEN = "MASC with τ = .99, layer chosen by cross-validation on the training labels"


def fits(*arms: str) -> tuple[Condition, ...]:
    """Return the premise that these networks have fitted their given labels."""
    return tuple(at_least("train", name, 0.95) for name in arms)


def above(quantity: str, other: str, *arms: str, by: float = 0.0) -> tuple[Condition, ...]:
    """Return the conditions that a quantity exceeds another one of the same network, in every arm."""
    return tuple(more(quantity, name, name, by, other=other) for name in arms)


def authors(network: str, *parts: int) -> str:
    """Return the authors' figures for a network: its output (0), MASC by given labels (1), MASC by true labels (2)."""
    pair, *figures = TABLE[network]
    titles = ("network", "MASC, given labels", "MASC, true labels")
    rows = "; ".join(f"{titles[part]} {'/'.join(map(str, figures[part]))}" for part in parts)
    return f"{pair}, ξ = .2/.4/.6/.8, test %: {rows} (layer best on test)"


def authors_at(network: str, xi: float) -> str:
    """Return the authors' figures for a network and for MASC by given labels at one ξ."""
    pair, own, masc, _ = TABLE[network]
    place = MEMORIZING.index(xi)
    return f"{pair}: network {own[place]} %, MASC {masc[place]} % (layer best on test)"
