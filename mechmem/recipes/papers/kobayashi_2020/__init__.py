"""Kobayashi et al.: efficient estimation of influence of a training instance, claim by claim (arXiv 2012.04207)."""

from __future__ import annotations

from mechmem.recipes.claims import Claim, Recipe
from mechmem.recipes.conditions import at_least, at_most, more
from mechmem.recipes.measures import accuracies, measure, single_figures
from mechmem.recipes.papers.kobayashi_2020.measured import (
    FAITHFUL,
    LEFT_OUT,
    REMOVED,
    SAME_LABEL,
    SHARE,
    cleansed,
    explained,
    isolated,
    left_out,
    moved,
)
from mechmem.recipes.papers.kobayashi_2020.runs import CLEAN, CLEAN_PLAIN, NOISY, trials
from mechmem.recipes.papers.liu_lin_jaggi_2021.measured import own_and_flipped

BASE = "MLP 784-768-768-768-10 without biases, 3000 images of MNIST, turn-over masks after first and last hidden layer"

CLAIMS = (
    Claim(
        key="accuracy",
        statement="Turn-over dropout costs the full network no accuracy.",
        experiment=f"{BASE}; test accuracy with masks minus without, true labels",
        trials=trials(CLEAN, CLEAN_PLAIN),
        measure=measure(accuracies("raw")),
        conditions=(more("test", CLEAN, CLEAN_PLAIN, -0.02),),
        draw=single_figures("train", "test"),
    ),
    Claim(
        key="isolated",
        statement="Training on an example leaves the weights of its flipped subnetwork alone.",
        experiment=f"{BASE}; parameters with a gradient on what the flipped subnetwork uses",
        trials=trials(NOISY),
        measure=measure(isolated),
        conditions=(at_most("leaks", NOISY, 0.0),),
    ),
    Claim(
        key="unlearned",
        statement="The flipped subnetwork fits an example's label less often than its own subnetwork does.",
        experiment=f"{BASE}, ξ = .2; accuracy on the training set's given labels, own minus flipped",
        trials=trials(NOISY),
        measure=measure(accuracies("raw"), own_and_flipped),
        conditions=(more("train of own", NOISY, NOISY, 0.05, other="train of flipped"),),
        draw=single_figures("train of own", "train of flipped", "train"),
    ),
    Claim(
        key="first_order",
        statement="Retraining without an example changes its flipped subnetwork far less than its own.",
        experiment=f"{BASE}, ξ = .2; mean change of {LEFT_OUT} examples' logits, flipped over own",
        paper="not the paper's own: an independent run flipped one label, and logits moved by about 2 against 8 to 17",
        trials=trials(NOISY),
        measure=measure(accuracies("raw"), left_out),
        conditions=(at_most(SHARE, NOISY, 0.5),),
        draw=moved,
    ),
    Claim(
        key="faithful",
        statement="Self-influence predicts what is lost by leaving an example out.",
        experiment=f"{BASE}, ξ = .2; Spearman's correlation over {LEFT_OUT} examples, half of them wrongly labelled",
        trials=trials(NOISY),
        measure=measure(accuracies("raw"), left_out),
        conditions=(at_least(FAITHFUL, NOISY, 0.3),),
    ),
    Claim(
        key="explains",
        statement="The training examples that help a test example most have its class.",
        experiment=f"{BASE}, true labels; their fraction among the five most helpful (chance: .1)",
        trials=trials(CLEAN),
        measure=measure(accuracies("raw"), explained),
        conditions=(at_least(SAME_LABEL, CLEAN, 0.3),),
    ),
    Claim(
        key="cleansing",
        statement="Removing the examples that harm others most improves the network, compared with removing random "
        "ones.",
        experiment=f"{BASE}, ξ = .2; {REMOVED:.0%} of the training set removed, retrained, paired by seed; harm is "
        "measured on training examples and their given labels",
        trials=trials(NOISY),
        measure=measure(accuracies("raw"), cleansed),
        conditions=(more("test without harmful", NOISY, NOISY, other="test without random"),),
        draw=single_figures("test without harmful", "test without random", "test without nothing"),
    ),
)

RECIPE = Recipe(
    name="kobayashi_2020",
    title="Efficient Estimation of Influence of a Training Instance",
    source="Kobayashi, Yokoi, Suzuki & Inui 2020, arXiv 2012.04207",
    claims=CLAIMS,
    caveats=(
        "The paper fine-tunes BERT and trains VGG on CIFAR-10; here the networks are those of the follow-up study "
        "(arXiv 2112.08798), on images of MNIST.",
        "Only the abstract and summaries of the paper were available: thresholds are ours.",
        "The paper removes examples by their influence on a validation set; here their influence on training examples "
        "counts, so that no held-out label is used.",
    ),
)
