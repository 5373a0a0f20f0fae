"""Maini et al.: can neural network memorization be localized, claim by claim (arXiv 2307.09542)."""

from __future__ import annotations

from mechmem.recipes.claims import Claim, Recipe
from mechmem.recipes.conditions import at_least, at_most, more
from mechmem.recipes.measures import accuracies, measure, single_figures
from mechmem.recipes.papers.maini_2023.measured import (
    COSINE,
    LAST,
    MOST,
    OTHERS,
    by_layer,
    dropped,
    flipping,
    gradients,
    over_steps,
    own,
    rewinding,
)
from mechmem.recipes.papers.maini_2023.runs import CNN, EPOCHS, LONG, PLAIN, TIED, trials

BASE = "3000 images of MNIST, ξ = .1, Adam"
DENSE = f"MLP 512-512-512, {BASE}, {EPOCHS} epochs"
CONVOLUTIONAL = f"CNN of 16, 32 and 64 channels, {BASE}, {LONG} epochs"
FITTED = 0.9
DROPPED = "drop_memory"

CLAIMS = (
    Claim(
        key="dropped",
        statement="Dropping the memory units of example-tied dropout forgets the wrong labels.",
        experiment=f"{DENSE}, a fifth of the units shared, the others tied to a tenth of the examples each; "
        "accuracy on wrong labels without the memory units",
        paper="memorized accuracy from 100 to 3 %",
        trials=trials(TIED),
        measure=measure(accuracies("raw", DROPPED), own),
        premises=(at_least("train noisy of own", TIED, FITTED),),
        conditions=(at_most(f"train noisy of {DROPPED}", TIED, 0.1),),
        draw=single_figures("train noisy of own", f"train noisy of {DROPPED}", f"test of {DROPPED}"),
    ),
    Claim(
        key="kept",
        statement="Without its memory units the network generalizes no worse than a network without masks.",
        experiment=f"{DENSE}; test accuracy without memory units minus that of the network trained without masks",
        trials=trials(TIED, PLAIN),
        measure=measure(accuracies("raw"), dropped),
        premises=(at_least("train", PLAIN, FITTED),),
        conditions=(more(f"test of {DROPPED}", TIED, PLAIN, -0.02, other="test"),),
        draw=single_figures("test", f"test of {DROPPED}"),
    ),
    Claim(
        key="better",
        statement="Without its memory units the network generalizes better than a network without masks, which has "
        "memorized wrong labels.",
        experiment=f"{DENSE}; the same difference",
        trials=trials(TIED, PLAIN),
        measure=measure(accuracies("raw"), dropped),
        premises=(at_least("train", PLAIN, FITTED),),
        conditions=(more(f"test of {DROPPED}", TIED, PLAIN, other="test"),),
    ),
    Claim(
        key="few_units",
        statement="A wrong label depends on fewer units than a correct one.",
        experiment=f"{CONVOLUTIONAL}; units of the last layer ablated until the prediction flips, at most {MOST}",
        paper="about five channels of the whole network; here only the last layer is ablated",
        trials=trials(CNN),
        measure=measure(accuracies("raw"), flipping),
        premises=(at_least("train noisy", CNN, FITTED),),
        conditions=(more("units to flip, clean", CNN, CNN, other="units to flip, noisy"),),
    ),
    Claim(
        key="not_the_last_layer",
        statement="Memorization is not confined to the last layer: rewinding another layer forgets more.",
        experiment=f"{CONVOLUTIONAL}; accuracy on wrong labels lost by rewinding one layer to a tenth of training",
        trials=trials(CNN),
        measure=measure(accuracies("raw"), rewinding),
        premises=(at_least("train noisy", CNN, FITTED),),
        conditions=(more(OTHERS, CNN, CNN, other=LAST),),
        draw=by_layer,
    ),
    Claim(
        key="opposed",
        statement="Clean and noisy examples pull the weights in opposite directions.",
        experiment=f"{CONVOLUTIONAL}; cosine between the two mean gradients, mean over checkpoints after "
        "initialisation",
        trials=trials(CNN),
        measure=measure(accuracies("raw"), gradients),
        premises=(at_least("train noisy", CNN, FITTED),),
        conditions=(at_most(COSINE, CNN, 0.0),),
        draw=over_steps,
    ),
)

RECIPE = Recipe(
    name="maini_2023",
    title="Can Neural Network Memorization Be Localized?",
    source="Maini, Mozer, Sedghi, Lipton, Kolter & Zhang 2023, arXiv 2307.09542",
    claims=CLAIMS,
    caveats=(
        "The paper has ResNets on CIFAR-10, SVHN and MNIST; this scale has small networks on 3000 images of MNIST.",
        "Only the abstract and summaries of the paper were available: the claim of opposed gradients is quoted from "
        "memory, and thresholds are ours.",
        "In a first version the CNN trained for 40 epochs, fitted 4 to 7 % of the wrong labels, and nothing could be "
        "judged; the present number of epochs was chosen by the accuracy on wrong labels of a run with another seed.",
        "Flipping sets have units of one layer only, without noise on the inputs (see neuron_flipping).",
    ),
)
