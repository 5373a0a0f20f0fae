"""Controls of the paper's claims: what can be decoded without a memorized network or without MASC."""

from __future__ import annotations

from mechmem.recipes.claims import Claim
from mechmem.recipes.conditions import Condition, Difference, Value
from mechmem.recipes.measures import by_arm, measure
from mechmem.recipes.papers.ketha_2025.measured import (
    BEFORE,
    CLEAN_MASC,
    MASC,
    NEIGHBOURS,
    ON_PIXELS,
    THIRD,
    clean_trained,
    layers,
    network,
)
from mechmem.recipes.papers.ketha_2025.measured import readouts as read
from mechmem.recipes.papers.ketha_2025.redrawn import by_layer, noise_curve
from mechmem.recipes.papers.ketha_2025.rules import AT_8, BASE, CHOSEN, FAR, MEMORIZED, above, fits
from mechmem.recipes.papers.ketha_2025.runs import MEMORIZING, MLP, arm, trials

VOTE = f"test of {NEIGHBOURS}"
THIRD_MASC, QDA, MEANS = (f"test of {name}@{THIRD}" for name in ("masc", "qda", "class_mean"))
CLEAN = arm(MLP, 0.0)
OURS = "(a control that the paper does not have)"


def compared(key: str, statement: str, what: str, other: str, paper: str = "") -> Claim:
    """Return the claim that MASC on the memorized MLP exceeds the quantity `other` at every ξ in `MEMORIZING`."""
    return Claim(
        key=key,
        statement=statement,
        experiment=f"{BASE}; test accuracy of {CHOSEN}, minus {what}",
        paper=paper,
        trials=trials(MLP, MEMORIZING),
        measure=measure(network, layers(MASC), read(NEIGHBOURS)),
        premises=fits(*MEMORIZED),
        conditions=above(MASC, other, *MEMORIZED),
        draw=noise_curve("test", MASC, other),
    )


def on_clean(key: str, statement: str, what: str, other: str, by: float) -> Claim:
    """Return the claim that MASC by corrupted labels on the clean-trained MLP exceeds `other` of the memorized one."""
    return Claim(
        key=key,
        statement=statement,
        experiment=f"the MLP trained on true labels; test accuracy of MASC with τ = .99 fitted to corrupted labels, "
        f"layer chosen by cross-validation on these, minus {what}",
        trials=trials(MLP, (0.0, *MEMORIZING)),
        measure=measure(network, layers(MASC), clean_trained),
        premises=fits(CLEAN, *MEMORIZED),
        conditions=tuple(
            Condition(Difference(Value(CLEAN_MASC, CLEAN, xi), Value(other, arm(MLP, xi))), ">" if by == 0 else "≥", by)
            for xi in MEMORIZING
        ),
        draw=noise_curve("test", MASC, ON_PIXELS, CLEAN_MASC),
    )


CLAIMS = (
    on_clean(
        "clean_network",
        "On a network trained on true labels, subspaces of corrupted labels decode well.",
        "the output of the network memorizing them",
        "test",
        FAR,
    ),
    on_clean(
        "clean_network_pixels",
        "On a network trained on true labels, subspaces of corrupted labels decode more than on the pixels.",
        f"that of the same probe on the pixels {OURS}",
        ON_PIXELS,
        0.0,
    ),
    *(
        Claim(
            key=f"pixels_{100 * xi:.0f}",
            statement=f"At ξ = {xi:g} a layer of the memorized MLP holds more than the pixels do.",
            experiment=f"{BASE}; test accuracy of {CHOSEN}, minus that of the same probe on the pixels {OURS}",
            trials=trials(MLP, (xi,)),
            measure=measure(network, layers(MASC)),
            premises=fits(arm(MLP, xi)),
            conditions=above(MASC, ON_PIXELS, arm(MLP, xi)),
            draw=by_layer(MASC, BEFORE, levels=("test", ON_PIXELS)),
        )
        for xi in MEMORIZING
    ),
    compared(
        "untrained",
        "A layer of the memorized MLP holds more than the same layer did before training.",
        f"that of the same layer before training {OURS}",
        BEFORE,
    ),
    compared(
        "early_stopping",
        "A layer of the memorized MLP decodes more than the network did at its best.",
        "the network's peak on test during training (chosen on test: optimistic)",
        "peak test",
        "MLP-MNIST, ξ = .8: early stopping .915, MASC .834",
    ),
    compared(
        "neighbours",
        "A layer of the memorized MLP decodes more than a vote of the nearest training images.",
        f"a vote of the 20 nearest training images by angle of the pixels {OURS}",
        VOTE,
    ),
    *(
        Claim(
            key=key,
            statement=f"MASC reads more out of the third layer of the memorized MLP than {title}.",
            experiment=f"{BASE}, ξ = .8; MASC with τ = .99 minus {title}, third layer, given labels",
            paper=f"MLP-MNIST, ξ = .8, fc3: {title} {figure}, MASC .804",
            trials=trials(MLP, (0.8,)),
            measure=measure(network, read(f"masc@{THIRD}", f"qda@{THIRD}", f"class_mean@{THIRD}")),
            premises=fits(AT_8),
            conditions=above(THIRD_MASC, other, AT_8),
            draw=lambda table: by_arm(table, ("test", THIRD_MASC, QDA, MEANS)),
        )
        for key, title, figure, other in (
            ("qda", "quadratic discriminant analysis", ".943", QDA),
            ("class_mean", "the nearest class mean by angle", ".856", MEANS),
        )
    ),
)
