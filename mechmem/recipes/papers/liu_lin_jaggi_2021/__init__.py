"""Liu, Lin & Jaggi: memorization from the perspective of optimization, claim by claim (arXiv 2112.08798)."""

from __future__ import annotations

from mechmem.recipes.claims import Claim, Recipe
from mechmem.recipes.conditions import Condition, at_least, at_most, more
from mechmem.recipes.measures import accuracies, measure
from mechmem.recipes.papers.liu_lin_jaggi_2021.measured import (
    CORRELATION,
    EARLY,
    HALF,
    MASKS,
    NETWORKS,
    SELF,
    correlations,
    finding,
    finding_averaged,
    fitting,
    learned,
    order,
    own_and_flipped,
    remembered,
    remembering,
    removing,
    truth,
)
from mechmem.recipes.papers.liu_lin_jaggi_2021.runs import (
    FEW,
    MIXED,
    MODULAR,
    NOISY,
    NOISY_HALF,
    NOISY_PLAIN,
    RANDOM,
    RANDOM_MASKED,
    REAL,
    REAL_MASKED,
    trials,
)

BASE = "MLP 784-768-768-768-10 without biases, 3000 images of MNIST, SGD"
MASKED = f"{BASE}, turn-over masks after the first and the last hidden layer"
FEW_BASE = "MLP 784-256-256-256-10 without biases, 500 images of MNIST, ξ = .2, 100 epochs of SGD"
FITTED = 0.9


def fits(*arms: str) -> tuple[Condition, ...]:
    """Return the premise that these networks have fitted their given labels."""
    return tuple(at_least("train", arm, FITTED) for arm in arms)


def owned(*arms: str) -> tuple[Condition, ...]:
    """Return the premise that each example's own subnetwork predicts its given label."""
    return tuple(at_least("train of own", arm, FITTED) for arm in arms)


CLAIMS = (
    Claim(
        key="real_first",
        statement="Real labels are fitted faster than random ones on the same images.",
        experiment=f"{BASE}, no masks, no weight decay, 100 epochs; step by which half of the examples are fitted",
        trials=trials(REAL, RANDOM),
        measure=measure(accuracies("raw"), learned),
        premises=fits(REAL, RANDOM),
        conditions=(more(HALF, RANDOM, REAL),),
        draw=fitting,
    ),
    Claim(
        key="simultaneous",
        statement="Real and random labels are fitted simultaneously: the loss on both falls from the start.",
        experiment=f"{MASKED}; fraction of the own subnetwork's loss that is gone after a tenth of training",
        trials=trials(REAL_MASKED, RANDOM_MASKED),
        measure=measure(accuracies("raw"), own_and_flipped, remembered),
        premises=owned(REAL_MASKED, RANDOM_MASKED),
        conditions=(
            at_least(EARLY, REAL_MASKED, 0.1),
            at_least(EARLY, RANDOM_MASKED, 0.1),
            more(EARLY, REAL_MASKED, RANDOM_MASKED),
        ),
        draw=remembering,
    ),
    Claim(
        key="memorized_more",
        statement="Examples with random labels are memorized more: their self-influence is higher.",
        experiment=f"{MASKED}; mean self-influence, paired by seed",
        trials=trials(REAL_MASKED, RANDOM_MASKED),
        measure=measure(accuracies("raw"), own_and_flipped, remembered),
        premises=owned(REAL_MASKED, RANDOM_MASKED),
        conditions=(more("self-influence", RANDOM_MASKED, REAL_MASKED),),
        draw=remembering,
    ),
    Claim(
        key="finds_noise",
        statement="Self-influence finds wrong labels.",
        experiment=f"{MASKED}, ξ = .2 and .4; area under the ROC curve",
        paper="not the paper's own: an independent run found .960 at ξ = .2 (these masks) and .915 at ξ = .4",
        trials=trials(NOISY, NOISY_HALF),
        measure=measure(accuracies("raw"), own_and_flipped, finding),
        premises=owned(NOISY, NOISY_HALF),
        conditions=(at_least(f"AUROC of {SELF}", NOISY, 0.9), at_least(f"AUROC of {SELF}", NOISY_HALF, 0.85)),
    ),
    Claim(
        key="averaging",
        statement="Averaging over networks with other masks makes self-influence better at finding wrong labels.",
        experiment=f"{MASKED}, ξ = .2; {MASKS} mask seeds against one",
        paper="not the paper's own: an independent run found .989 with five",
        trials=trials(NOISY),
        measure=measure(accuracies("raw"), own_and_flipped, finding, finding_averaged),
        premises=owned(NOISY),
        conditions=(more(f"AUROC of {SELF}, averaged", NOISY, NOISY, other=f"AUROC of {SELF}"),),
    ),
    Claim(
        key="beats_loss",
        statement="Self-influence finds wrong labels better than the plain loss of a network without masks.",
        experiment=f"{MASKED}, ξ = .2, against the same network without masks (a control that the paper does not have)",
        paper="not the paper's own: an independent run found .960, and .984 to .993 for the loss",
        trials=trials(NOISY, NOISY_PLAIN),
        measure=measure(accuracies("raw"), finding),
        conditions=(more(f"AUROC of {SELF}", NOISY, NOISY_PLAIN, other="AUROC of loss"),),
    ),
    Claim(
        key="beats_own_loss",
        statement="Self-influence finds wrong labels better than the plain loss of the same network.",
        experiment=f"{MASKED}, ξ = .2 (a control that the paper does not have)",
        trials=trials(NOISY),
        measure=measure(accuracies("raw"), own_and_flipped, finding),
        premises=owned(NOISY),
        conditions=(more(f"AUROC of {SELF}", NOISY, NOISY, other="AUROC of loss"),),
    ),
    Claim(
        key="beats_learning_speed",
        statement="Self-influence finds wrong labels better than the learning speed of a network without masks.",
        experiment=f"{MASKED}, ξ = .2, against the same network without masks (a control that the paper does not have)",
        trials=trials(NOISY, NOISY_PLAIN),
        measure=measure(accuracies("raw"), finding),
        conditions=(more(f"AUROC of {SELF}", NOISY, NOISY_PLAIN, other="AUROC of learning_speed"),),
    ),
    Claim(
        key="truth",
        statement="Self-influence ranks examples like Feldman–Zhang memorization, of which it is a cheap estimate.",
        experiment=f"{FEW_BASE}; Spearman's correlation with the memorization measured on {NETWORKS} networks without "
        "masks, each trained on 70 % of the images",
        trials=trials(FEW),
        measure=measure(accuracies("raw"), own_and_flipped, truth),
        premises=owned(FEW),
        conditions=(at_least(f"{CORRELATION}{SELF}", FEW, 0.5),),
        draw=correlations,
    ),
    Claim(
        key="truth_loss",
        statement="Self-influence does so better than the plain loss of a network without masks.",
        experiment=f"{FEW_BASE}; the same correlations (a control that the paper does not have)",
        trials=trials(FEW),
        measure=measure(accuracies("raw"), own_and_flipped, truth),
        premises=owned(FEW),
        conditions=(more(f"{CORRELATION}{SELF}", FEW, FEW, other=f"{CORRELATION}loss"),),
    ),
    Claim(
        key="difficult_worth_more",
        statement="A difficult example with a correct label is worth more than an easy one.",
        experiment=f"{MASKED}, ξ = .2; a fifth of the training set is removed, correct labels with the highest "
        "or the lowest self-influence; test accuracy after retraining, paired by seed",
        trials=trials(NOISY),
        measure=measure(accuracies("raw"), own_and_flipped, removing),
        premises=owned(NOISY),
        conditions=(more("test without easy", NOISY, NOISY, other="test without difficult"),),
    ),
    Claim(
        key="order_images",
        statement="Within one training set of images, correctly labelled examples are fitted first.",
        experiment=f"{BASE} without masks, ξ = .2, 100 epochs; probability that a wrong label comes first",
        trials=trials(MIXED),
        measure=measure(accuracies("raw"), order),
        premises=fits(MIXED),
        conditions=(at_most("noisy before clean", MIXED, 0.4),),
    ),
    Claim(
        key="order_modular",
        statement="In modular arithmetic the order is reversed: wrong labels are fitted first (Liu & Lu 2026).",
        experiment="two-layer ReLU network, α = .8, ξ = .8, AdamW; the same probability",
        trials=trials(MODULAR),
        measure=measure(accuracies("raw"), order),
        premises=fits(MODULAR),
        conditions=(at_least("noisy before clean", MODULAR, 0.6),),
    ),
)

RECIPE = Recipe(
    name="liu_lin_jaggi_2021",
    title="Understanding Memorization from the Perspective of Optimization via Efficient Influence Estimation",
    source="Liu, Lin & Jaggi 2021, arXiv 2112.08798",
    claims=CLAIMS,
    caveats=(
        "Only the paper's abstract was available: data, network and number of epochs are those of a re-implementation, "
        "and thresholds are ours.",
        "The controls beats_own_loss and beats_learning_speed were added after first results, in which the network "
        "without masks had fitted most wrong labels, so that its final loss was a weak baseline.",
        "Turn-over dropout isolates an example only to first order, and so does self-influence; see mm.leave_one_out.",
    ),
)
