"""Nanda, Chan, Lieberum, Smith, Steinhardt: progress measures for grokking, claim by claim (arXiv 2301.05217)."""

from __future__ import annotations

from mechmem.recipes.claims import Claim, Recipe
from mechmem.recipes.conditions import Condition, at_least, at_most, more
from mechmem.recipes.measures import accuracies, by_arm, history, measure
from mechmem.recipes.papers.nanda_2023.measured import (
    delay,
    embedding,
    logits,
    losses,
    neurons,
    over_training,
    training,
)
from mechmem.recipes.papers.nanda_2023.runs import BARE, MAIN, trials

BASE = "one-layer transformer, d_model 128, 4 heads, 512 neurons, no LayerNorm, AdamW 1e-3, full batch"
GROKS = (at_least("train", MAIN, 0.99), at_least("test", MAIN, 0.99))


MOVED = 0.02
"""Smallest change of a curve in a phase that counts as a rise or fall, in log10 (a factor of 1.05)."""


def rises(phase: str, measure: str) -> Condition:
    """Return the condition that a curve is higher at the end of a phase than at its start."""
    return at_least(f"{phase}: log10 {measure}, end / start", MAIN, MOVED)


def falls(phase: str, measure: str) -> Condition:
    """Return the condition that a curve is lower at the end of a phase than at its start."""
    return at_most(f"{phase}: log10 {measure}, end / start", MAIN, -MOVED)


def does_not_fall(phase: str, measure: str) -> Condition:
    """Return the condition that a curve is not lower at the end of a phase than at its start."""
    return at_least(f"{phase}: log10 {measure}, end / start", MAIN, -MOVED)


CLAIMS = (
    Claim(
        key="grokking",
        statement="The network fits its training data long before it generalizes.",
        experiment=f"{BASE}, weight decay 1; the step from which test accuracy stays at .9, divided by the step at "
        "which training accuracy first reaches .9",
        paper="train loss falls within 1,400 epochs, test loss after 9,400",
        trials=trials(MAIN),
        measure=measure(accuracies("raw"), history, delay),
        premises=GROKS,
        conditions=(at_least("t_grok / t_fit", MAIN, 3.0),),
        draw=training,
    ),
    Claim(
        key="weight_decay",
        statement="Without weight decay the network does not grok.",
        experiment=f"{BASE}, weight decay 0 and 1, equal numbers of steps",
        trials=trials(MAIN, BARE),
        measure=measure(accuracies("raw"), history),
        premises=(*GROKS, at_least("train", BARE, 0.99)),
        conditions=(at_most("test", BARE, 0.9), more("test", MAIN, BARE, 0.1)),
        draw=lambda table: by_arm(table, ("train clean", "test")),
    ),
    Claim(
        key="sparse_embedding",
        statement="Embedding and neuron-logit map are sparse in the Fourier basis.",
        experiment="Gini coefficient of the norms of all cosines and sines, minus that of a random matrix",
        trials=trials(MAIN),
        measure=measure(accuracies("raw"), embedding),
        premises=GROKS,
        conditions=(
            more("Gini of embedding", MAIN, MAIN, 0.3, other="Gini of random embedding"),
            more("Gini of neuron_logits", MAIN, MAIN, 0.3, other="Gini of random neuron_logits"),
        ),
    ),
    Claim(
        key="few_frequencies",
        statement="A handful of key frequencies carries the logits, as cosines of a + b − c.",
        experiment="key frequencies of the logits, and the fraction of the logits' variance in Σ α_k cos w_k(a + b − "
        "c)",
        paper="5 key frequencies of 56; 95 % of the variance",
        trials=trials(MAIN),
        measure=measure(accuracies("raw"), logits),
        premises=GROKS,
        conditions=(at_most("key frequencies", MAIN, 8.0), at_least("variance of cos w(a + b − c)", MAIN, 0.9)),
    ),
    Claim(
        key="necessary",
        statement="Without the key frequencies the network is no better than chance.",
        experiment="excluded logits on test: accuracy and loss as multiples of those at chance",
        trials=trials(MAIN),
        measure=measure(accuracies("raw"), logits),
        premises=GROKS,
        conditions=(
            at_most("excluded: accuracy on test · p", MAIN, 2.0),
            at_least("excluded: loss on test / ln p", MAIN, 1.0),
        ),
    ),
    Claim(
        key="sufficient",
        statement="With only the key frequencies the network is as accurate, and its test loss is lower.",
        experiment="restricted logits: accuracy and loss on test",
        paper="removing all other directions lowers the loss",
        trials=trials(MAIN),
        measure=measure(accuracies("raw"), logits),
        premises=GROKS,
        conditions=(
            at_least("restricted: accuracy on test", MAIN, 0.99),
            more("network: log10 loss on test", MAIN, MAIN, other="restricted: log10 loss on test"),
        ),
    ),
    Claim(
        key="neuron_clusters",
        statement="Most neurons are explained by one frequency each.",
        experiment="fraction of neurons with at least 85 % of their variance over the grid explained by one frequency, "
        "minus that of random neurons",
        paper="433 of 512 neurons above 85 %",
        trials=trials(MAIN),
        measure=measure(accuracies("raw"), neurons),
        premises=GROKS,
        conditions=(
            at_least("neurons in a cluster", MAIN, 0.5),
            more("neurons in a cluster", MAIN, MAIN, 0.3, other="random neurons in a cluster"),
        ),
    ),
    Claim(
        key="memorization",
        statement="First the network memorizes: excluded and training loss fall together, and nothing generalizes.",
        experiment="progress measures at 80 checkpoints, key frequencies of the last; a rule ends the phase where "
        "training and excluded loss have fallen",
        paper="epochs 0 to 1,400",
        trials=trials(MAIN),
        measure=measure(over_training),
        premises=(at_least("phases", MAIN, 3.0),),
        conditions=(does_not_fall("memorization", "test_loss"), does_not_fall("memorization", "restricted_loss")),
        draw=losses,
    ),
    Claim(
        key="circuit_formation",
        statement="Then the circuit forms without a trace in the training loss: excluded loss rises, restricted loss "
        "and weights fall.",
        experiment="as above",
        paper="epochs 1,400 to 9,400",
        trials=trials(MAIN),
        measure=measure(over_training),
        premises=(at_least("phases", MAIN, 3.0),),
        conditions=(
            rises("circuit formation", "excluded_loss"),
            falls("circuit formation", "restricted_loss"),
            falls("circuit formation", "squared_weights"),
            at_most("circuit formation: train_loss, |end − start| / at step 0", MAIN, 0.1),
        ),
        draw=losses,
    ),
    Claim(
        key="cleanup",
        statement="Finally memorization is cleaned up: test loss and weights drop, and the weights become sparse.",
        experiment="as above; a rule places the phase where test loss drops",
        paper="epochs 9,400 to 14,000",
        trials=trials(MAIN),
        measure=measure(over_training),
        premises=(at_least("phases", MAIN, 3.0),),
        conditions=(
            falls("cleanup", "restricted_loss"),
            falls("cleanup", "squared_weights"),
            at_least("cleanup: gini_embedding, end − start", MAIN, 0.05),
        ),
        draw=losses,
    ),
)

RECIPE = Recipe(
    name="nanda_2023",
    title="Progress measures for grokking via mechanistic interpretability",
    source="Nanda et al. 2023, arXiv 2301.05217",
    claims=CLAIMS,
    caveats=(
        "The paper has p = 113 and α = .3; the small scale has p = 59 and α = .5, where grokking takes minutes.",
        "With half of the table in training, nearly every second test cell (a, b) has (b, a) in training, so test "
        "accuracy is near one half before anything generalizes.",
        "The paper places its phases by eye; here a rule places them, and each curve is compared between the two ends "
        "of a phase. A curve that defines a phase's end is not part of its claim.",
        'The authors\' code warms the learning rate up over 10 steps, has a class for "=", and removes one key '
        "frequency at a time for the excluded loss; here there is no warm-up and no such class, and all key "
        "frequencies are removed together. The small scale trains in bfloat16.",
        "The paper does not state the split of the restricted loss; here it is test.",
    ),
)
