"""Merullo et al.: memorization in the spectrum of loss curvature, claim by claim (arXiv 2510.24256)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mechmem.core.subject import Subject
from mechmem.recipes.claims import Claim, Recipe
from mechmem.recipes.conditions import Condition, Difference, Value, at_least, at_most, more
from mechmem.recipes.measures import Rows, accuracies, measure, single_figures
from mechmem.recipes.papers.merullo_2025.measured import (
    CURVATURE,
    LAST_RANK,
    NEURONS,
    RANDOM,
    RANKS,
    SHARPEST,
    after,
    contrast,
    edited,
    edited_or_dropped,
    gained,
    gains_over_prices,
    left,
    over_prices,
    recovered,
    separated,
    truths_over_prices,
)
from mechmem.recipes.papers.merullo_2025.runs import DATA, KINDS, MNIST, TIED, arm, trials

PRICE = 0.03
"""Clean accuracy that an edit may cost where edits are compared."""
SEEN = 0.1
"""Agreement with the given labels that a user who is told nothing lets go: the wrong labels could be all of it."""
FITTED = 0.9
SETTING = "1000 images, ξ = .1, Adam without weight decay, all weights but the readout's edited"
AT_PRICE = f"at the strength that forgets most of those that cost at most {PRICE:g} of the accuracy on clean images"
PLAIN = arm("MLP", MNIST)


def arms(kind: str) -> tuple[str, ...]:
    """Return the settings of a kind of network."""
    return tuple(arm(kind, data) for data in DATA)


EVERY = tuple(name for kind in KINDS for name in arms(kind))


def fits(*names: str) -> tuple[Condition, ...]:
    """Return the premise that these networks answer the wrong labels that they were given."""
    return tuple(at_least("train noisy", name, FITTED) for name in names)


def of_kind(kind: str) -> tuple[Claim, ...]:
    """Return the paper's claims on one kind of network, on both data sets."""
    names = arms(kind)

    def claim(key: str, measured: Callable[[Subject], Rows] = edited, **said: Any) -> Claim:
        return Claim(
            key=f"{key}_{kind.lower()}",
            trials=trials(*names),
            measure=measure(accuracies("raw"), measured),
            premises=fits(*names),
            **said,
        )

    return (
        claim(
            "forgets",
            statement=f"{kind}: dropping the directions of low curvature forgets most of the wrong labels.",
            experiment=f"{SETTING}; wrong labels still answered {AT_PRICE}",
            paper="from 81.6 to 3.5 % of the wrong labels, with 75 % of the curvature kept in two of twelve blocks",
            conditions=tuple(at_most(left(CURVATURE), name, 0.5, PRICE) for name in names),
            draw=over_prices,
        ),
        claim(
            "truth",
            statement=f"{kind}: most images with a wrong label then get their true one.",
            experiment=f"{SETTING}; true label answered {AT_PRICE}",
            paper="from 10.5 to 66.5 %",
            conditions=tuple(at_least(recovered(CURVATURE), name, 0.5, PRICE) for name in names),
            draw=truths_over_prices,
        ),
        claim(
            "better",
            statement=f"{kind}: test accuracy rises.",
            experiment=f"{SETTING}; test accuracy gained {AT_PRICE}",
            paper="from 67.0 to 71.7 %",
            conditions=tuple(_positive(gained(CURVATURE), name, PRICE) for name in names),
            draw=gains_over_prices,
        ),
        claim(
            "low_rank",
            statement=f"{kind}: lower ranks of the same weights forget fewer wrong labels at the same price.",
            experiment=f"{SETTING}; wrong labels still answered with lower ranks, of all these weights or of the "
            f"last layer's, minus without directions of low curvature, each {AT_PRICE}",
            paper="both forget 96.5 %; true labels 58.9 against 66.5 %, test accuracy 67.8 against 71.7 %",
            conditions=tuple(
                more(left(ranks), name, name, other=left(CURVATURE), x=PRICE)
                for ranks in (RANKS, LAST_RANK)
                for name in names
            ),
            draw=over_prices,
        ),
        claim(
            "separates",
            statement=f"{kind}: the two ends of the curvature basis tell memorized from clean inputs, and better than "
            "singular vectors do.",
            experiment=f"{SETTING}; inputs of the last layer before the readout: activation of memorized over clean "
            "images along the bottom half of the basis, divided by the same along its top tenth",
            paper="top tenth twice as strong on clean images in the last layer, no such pattern with singular vectors",
            measured=separated,
            conditions=(
                *(at_least(contrast(CURVATURE), name, 1.1) for name in names),
                *(more(contrast(CURVATURE), name, name, other=contrast(RANKS)) for name in names),
            ),
            draw=single_figures(
                contrast(CURVATURE), contrast(RANKS), *(f"{SHARPEST} of {b}" for b in (CURVATURE, RANKS))
            ),
        ),
    )


def _positive(quantity: str, name: str, x: float) -> Condition:
    return Condition(Value(quantity, name, x), ">", 0.0)


CLAIMS = (
    *(claim for kind in KINDS for claim in of_kind(kind)),
    Claim(
        key="kept",
        statement="Test accuracy does not fall.",
        experiment=f"{SETTING}; test accuracy gained {AT_PRICE}",
        paper="from 67.0 to 71.7 %",
        trials=trials(*EVERY),
        measure=measure(accuracies("raw"), edited),
        premises=fits(*EVERY),
        conditions=tuple(Condition(Value(gained(CURVATURE), name, PRICE), "≥", -0.02) for name in EVERY),
        draw=gains_over_prices,
    ),
    Claim(
        key="order",
        statement="Control: as many directions drawn at random forget fewer wrong labels at the same price.",
        experiment=f"{SETTING}; wrong labels still answered with random directions minus with those of high curvature, "
        f"each {AT_PRICE}",
        paper="no such control",
        trials=trials(*EVERY),
        measure=measure(accuracies("raw"), edited),
        premises=fits(*EVERY),
        conditions=tuple(more(left(RANDOM), name, name, 0.2, other=left(CURVATURE), x=PRICE) for name in EVERY),
        draw=over_prices,
    ),
    Claim(
        key="neurons",
        statement="Comparison: removing the last layer's neurons with small weights forgets fewer wrong labels at the "
        "same price.",
        experiment=f"{SETTING}; wrong labels still answered without neurons minus without directions, each {AT_PRICE}",
        paper="no such comparison",
        trials=trials(*EVERY),
        measure=measure(accuracies("raw"), edited),
        premises=fits(*EVERY),
        conditions=tuple(more(left(NEURONS), name, name, other=left(CURVATURE), x=PRICE) for name in EVERY),
        draw=over_prices,
    ),
    Claim(
        key="told_nothing",
        statement="Whoever sees no true label can choose the strength: most of the wrong labels go, and no test "
        "accuracy is lost.",
        experiment=f"{SETTING}; the strongest edit after which at most {SEEN:g} fewer of the training images get "
        "the label given to them",
        paper="the strength was chosen with the wrong labels known",
        trials=trials(*EVERY),
        measure=measure(accuracies("raw"), edited),
        premises=fits(*EVERY),
        conditions=(
            *(at_most(left(CURVATURE, "nothing"), name, 0.5, SEEN) for name in EVERY),
            *(Condition(Value(gained(CURVATURE, "nothing"), name, SEEN), "≥", -0.02) for name in EVERY),
        ),
    ),
    Claim(
        key="tied",
        statement="Comparison: a network trained with example-tied dropout forgets more without its memory units than "
        "a network trained without does by the edit.",
        experiment=f"MLP on MNIST, {SETTING}; wrong labels still answered after the edit, {AT_PRICE}, minus those "
        "without memory units",
        paper="no such comparison",
        trials=trials(PLAIN, TIED),
        measure=measure(accuracies("raw"), edited_or_dropped),
        premises=(*fits(PLAIN), at_least("train noisy of own", TIED, FITTED)),
        conditions=(
            Condition(
                Difference(Value(left(CURVATURE), PLAIN, PRICE), Value("train noisy of drop_memory", TIED)), ">", 0.0
            ),
        ),
    ),
    Claim(
        key="tied_keeps",
        statement="Comparison: without its memory units that network generalizes no worse than the edited one.",
        experiment=f"MLP on MNIST, {SETTING}; test accuracy without memory units minus that after the edit, {AT_PRICE}",
        paper="no such comparison",
        trials=trials(PLAIN, TIED),
        measure=measure(accuracies("raw"), edited_or_dropped),
        premises=(*fits(PLAIN), at_least("train noisy of own", TIED, FITTED)),
        conditions=(
            Condition(
                Difference(Value("test of drop_memory", TIED), Value(after(CURVATURE), PLAIN, PRICE)), "≥", -0.02
            ),
        ),
    ),
    Claim(
        key="recitation",
        statement="In language models the edit suppresses the recitation of text that it was not shown.",
        paper="OLMo-2 7B: from 99.9 to 16.1 % of historical quotes, a supervised mask to 60.0 %",
        pending="mechmem trains no language model that recites text",
    ),
)

RECIPE = Recipe(
    name="merullo_2025",
    title="From Memorization to Reasoning in the Spectrum of Loss Curvature",
    source="Merullo, Vatsavaya, Bushnaq & Lewis 2025, arXiv 2510.24256",
    claims=CLAIMS,
    caveats=(
        "The paper edits two of twelve blocks of ViT-Base trained on ImageNet for 300 epochs, their dense layers only, "
        "at 75 % of the curvature; here every layer but the readout is edited, and the strength is read from a curve.",
        "At the paper's scale the arms of digits are of Fashion-MNIST and those of MNIST of CIFAR-10, with networks of "
        "usual size: ImageNet and ViTs are beyond the recipe.",
        "Labels of the gradients are not drawn from the network's probabilities but weighted with them, which is the "
        "mean of all draws.",
        "Thresholds are ours, but for those of direction. Epochs and learning rates were chosen by the accuracy on "
        "wrong labels of runs with seed 100, which are not judged; the edits were tried on such runs before the "
        "conditions were written, and the second baseline of ranks and the test accuracy of example-tied dropout were "
        "added after that.",
        "Ranks are whole numbers: one less in each layer of a narrow network can cost more than the price, so that the "
        "rank of the last layer alone is a second baseline.",
        "A tenth wrong labels of 1000 images are 100 examples, and the clean accuracy is read to a thousandth.",
    ),
)
