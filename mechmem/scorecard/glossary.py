"""Meanings of what a scorecard shows, in words: splits, controls, statistics and verdicts."""

from __future__ import annotations

import dataclasses

SPLITS = {
    "train_clean": ("training examples whose given label is correct", "that label"),
    "train_noisy": ("training examples whose given label is wrong", "the wrong label: high means memorized"),
    "train_noisy_true": ("the same examples", "their true label: high means corrected"),
    "test": ("held-out examples", "their true label"),
}
"""Examples of each split, and the label that predictions are compared with."""

CONTROLS = {
    "untrained": "the same initialisation, no training",
    "one_step": "the same initialisation after one gradient step",
    "noise_only": "the same training, every training label uniform over all classes",
    "random_choice": (
        "the network itself, with the extractor's choice made at random: a frequency per neuron for filtration, "
        "vectors of different neurons put together for shared_subspaces, the same number of neurons for keep and drop, "
        "of directions for curvature_directions"
    ),
    "inputs": "no network: the same probe on the inputs themselves (probes of layers)",
    "label_grid": "no network: one-hot training labels on the grid (extractors of logits only)",
    "kernel_ridge": "kernel ridge regression on the same labels (extractors of logits only)",
}
"""What stands in for the network in each control."""

STATISTICS = {
    "S": (
        "mean, over pairs of different held-out inputs with the same true answer, of ⟨zᵢ, zⱼ⟩ / classes; mirror images "
        "do not count as a pair. 1 for any function of the answer, 0 for none. Slightly biased upwards, so it "
        "describes and does not detect."
    ),
    "κ": (
        "mean z at the true class, divided by √(classes − 1). Between −1 and 1; 1 for one-hot truth, negative for a "
        "network that avoids the truth. The scorecard also gives the κ of the training labels themselves. Intervals of "
        "S and κ resample answers, because inputs that share an answer are not independent."
    ),
    "Z": "κ in standard deviations of its distribution over renamings of the classes. Z is the test statistic.",
    "held-out vote": (
        "the share of answers for which the summed z of their held-out inputs is highest at the correct class, with "
        "Wilson's interval over answers."
    ),
    "Z unexplained": (
        "Z of what remains after a least-squares fit of what two other predictors show, which exclude every class that "
        "was given in the input's row and column (with or without those of the mirror images). A network can learn "
        "from its labels that no class occurs twice in a row, and need not know the rule to use it. Measured where Z "
        "is above 3."
    ),
    "margin": (
        "distance of κ from the κ at every shift of the right answers (c + s; in a group, c·s), in standard deviations "
        "of Z. A function that varies slowly with a, b and the class exceeds Z = 3 often, but has no reason to prefer "
        "the right answer to its neighbours."
    ),
    "largest other S": (
        "the largest S of another partition of the inputs: by a + j·b of other slopes j in a cyclic group, otherwise "
        "by the answers to renamed operands."
    ),
}
"""Definitions of the statistics of held-out structure. z: see `HELD_OUT`."""

HELD_OUT = (
    "The mean over classes is subtracted from the logits of held-out inputs, and then, per class, the part that "
    "depends on one operand only, fitted by least squares on held-out inputs only. The rest, z-scored over classes "
    "input by input, is z."
)
"""What the statistics of held-out structure are computed from."""


@dataclasses.dataclass(frozen=True)
class VerdictMeaning:
    """Meaning of a verdict.

    Attributes:
        one: what a network with it does, as the predicate of a sentence.
        many: the same of several.
        when: the rule by which it is given.
        remark: what else is to be known, or "".
    """

    one: str
    many: str
    when: str
    remark: str = ""


VERDICTS = {
    "rule": VerdictMeaning(
        "computes the rule on inputs whose labels it never saw",
        "compute the rule on inputs whose labels they never saw",
        "Z > 3, Z unexplained > 2, margin ≥ ½, no other partition has an S above the interval of S, and the vote's "
        "interval lies above ½",
    ),
    "trace": VerdictMeaning(
        "agrees with the rule more often than chance allows on inputs whose labels it never saw, but is not shown to "
        "name most of the answers",
        "agree with the rule there more often than chance allows",
        "the first three, not all of them",
        "a network on its way, or one whose rule has many answers in common with it, such as a xor b with a + b",
    ),
    "another_rule": VerdictMeaning(
        "gives answers on unseen inputs that are a function of the right answer, but not the right answer",
        "follow another rule there",
        "none of these, but the interval of S lies above ½ and S is twice that of any other partition",
        "for example a + b + 1",
    ),
    "labels_only": VerdictMeaning(
        "shows nothing beyond its labels on unseen inputs, at this scale",
        "show nothing beyond their labels there",
        "none of these",
        "the sentence gives the largest κ that its interval allows, and a larger network or a longer run may differ",
    ),
    "refused": VerdictMeaning(
        "is given no verdict",
        "are given no verdict",
        "the inputs are not pairs, fewer than 11 classes (with C of them, one-hot truth has Z = √(C − 1)), fewer than "
        "four held-out inputs per symbol, fewer than one per symbol that labels do not give away, or logits that are "
        "not finite",
        "the reason is given in its place",
    ),
}
"""The verdicts, from the most that is shown to nothing; each is given by fixed rules."""

KNOWLEDGE_IN_ROWS = (
    "An extractor that uses the group, the operation or the labels can find them again in any network. So each row "
    "declares the knowledge that it uses (knows), in these tokens:"
)
"""What the column `knows` is for."""

TOLD = (
    "“Told nothing” is what uses no more than that inputs are pairs, and which pairs there are: neither group nor "
    "operation, no label and no answer. “Given the group” and “given the operation” mean that this knowledge is used, "
    "and that a vote of the training labels with the same knowledge is the figure to beat."
)
"""What “told” and “given” mean in sentences."""

RANDOM_CHOICES = {
    "random_frequency": (
        "The random choice control of filtration measures how much the choice of the frequency adds. A wide network in "
        "which many neurons carry the rule keeps part of it at random frequencies too, since one neuron in every p/2 "
        "draws its own; a high figure there means that forcing each neuron onto one frequency does the work, not that "
        "the network is empty."
    ),
    "shuffled_subspaces": (
        "The random choice control of shared_subspaces, shuffled_subspaces, reads the trained network too. Only which "
        "vectors belong to one neuron is lost, and only to the clusters: vectors of one role still share directions, "
        "clusters of shuffled neurons still gather vectors that share one, and each vector returns to its own neuron "
        "once it is filtered. Where much of the network follows the rule, this alone removes memorized labels and "
        "keeps much of the rule, so the control can read a large accuracy: about 0.8 in the demo's first network, and "
        "0.05 there if clusters are drawn at random instead. A high figure says neither that the network is empty nor "
        "that its labels are enough, which the untrained, one-step and noise-only networks are there to tell. What the "
        "row reads beyond it comes from what the vectors of one neuron say about each other."
    ),
    "random_directions": (
        "The random choice control of curvature_directions keeps as many directions of every layer, drawn from those "
        "with any curvature. Where most of the curvature lies in a few directions in a thousand, it keeps next to "
        "nothing of the network, so that a low figure says little: random directions that cost as much accuracy are "
        "the fairer comparison, which mm.edit_curves makes."
    ),
}
"""What a high accuracy of a random choice means, by the extractor that makes it."""
