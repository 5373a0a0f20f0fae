"""Liu & Lu: memorization and generalization coexist, claim by claim (arXiv 2605.18022)."""

from __future__ import annotations

from mechmem.models.networks.config import Activation
from mechmem.recipes.claims import Claim, Recipe
from mechmem.recipes.conditions import Condition, at_least, at_most, more
from mechmem.recipes.measures import accuracies, by_arm, label_vote, measure, plane, settings, structure
from mechmem.recipes.papers.liu_lu_2026.measured import (
    against_width,
    first_epoch,
    noise_first,
    over_training,
    partitions,
    suppression,
    unembedding,
)
from mechmem.recipes.papers.liu_lu_2026.runs import FULL, HEAVY, MINI, RULE, images, noise_plane, trials, widths
from mechmem.recipes.papers.liu_lu_2026.told_nothing import TOLD_NOTHING
from mechmem.training.config import OptimizerName

FF, FFQ, REST = "frequency", "frequency+quadratic", "frequency_rest"
SHORT = "The paper trains for 200,000 steps, this scale for a fiftieth of that."


def fits(*arms: str) -> tuple[Condition, ...]:
    """Return the premise that these networks have fitted all of their labels."""
    return tuple(at_least(split, arm, 0.95) for arm in arms for split in ("train clean", "train noisy"))


FITS = fits(HEAVY)
UNEMBEDDED, NEARLY = "test of the filtered unembedding", 0.95
"""A figure's name, and the accuracy that counts as “near perfect”."""


def beats_vote(arm: str) -> Condition:
    """Return the condition that filtration beats a vote of the labels by .05."""
    return more(f"test of {FFQ}", arm, arm, 0.05, other="label vote")


def wider_is_better(
    key: str, *, wd: float = 0.1, optimizer: OptimizerName = "adamw", activation: Activation = "relu"
) -> Claim:
    """Return claim 1 at one point of the grid of optimizer, weight decay and activation."""
    rate = "" if optimizer == "adam" else f", weight decay {wd:g}"
    return Claim(
        key=key,
        statement=f"Wider networks generalize better under noise: {activation}, {optimizer}{rate}.",
        experiment="ξ = .1, addition, α = .8, 3000 steps; test accuracy of the widest minus the narrowest network",
        paper='"under appropriate optimization and configurations"',
        trials=widths(wd=wd, optimizer=optimizer, activation=activation),
        measure=measure(accuracies("raw"), settings),
        conditions=(more("test", "widest", "narrowest", 0.05),),
        scale_limit="" if wd == 1 else SHORT,
        draw=against_width,
    )


CLAIMS = (
    *TOLD_NOTHING,
    wider_is_better("width"),
    wider_is_better("width_wd1", wd=1.0),
    wider_is_better("width_adam", wd=0.0, optimizer="adam"),
    wider_is_better("width_muon", optimizer="muon"),
    wider_is_better("width_quadratic", wd=1.0, activation="quadratic"),
    wider_is_better("width_gelu", wd=1.0, activation="gelu"),
    wider_is_better("width_reverse_relu", wd=1.0, activation="reverse_relu"),
    Claim(
        key="noise_first",
        statement="Noisy labels are fitted before clean ones.",
        experiment="ξ = .8, N = 1024; probability that a noisy example is fitted before a clean one",
        trials=trials(HEAVY),
        measure=measure(accuracies("raw"), noise_first),
        premises=FITS,
        conditions=(at_least("noisy before clean", HEAVY, 0.5),),
        draw=over_training,
    ),
    Claim(
        key="noise_first_width",
        statement="The wider the network, the more noisy labels come first.",
        experiment="the same probability at N = 1024 minus N = 128, ξ = .8",
        trials=trials(HEAVY, "ξ .8, N/8"),
        measure=measure(accuracies("raw"), noise_first),
        premises=fits(HEAVY, "ξ .8, N/8"),
        conditions=(more("noisy before clean", HEAVY, "ξ .8, N/8"),),
        draw=over_training,
    ),
    Claim(
        key="bijective",
        statement="Latin-square noise on more than half of the labels reverses the order.",
        experiment="ξ = .8, noise x + (4 + χ(y−x))(y−x); the same probability, which must be below ½",
        paper="the order flips (follow-up, arXiv 2610.11833)",
        trials=trials(HEAVY, "ξ .8, bijective"),
        measure=measure(accuracies("raw"), noise_first),
        premises=fits(HEAVY, "ξ .8, bijective"),
        conditions=(
            at_least("noisy before clean", HEAVY, 0.5),
            at_most("noisy before clean", "ξ .8, bijective", 0.5),
        ),
        draw=over_training,
    ),
    Claim(
        key="hidden",
        statement="At ξ = .8 the network's test accuracy is degraded, but that of its filtered part G is near perfect.",
        experiment="N = 1024, 4000 steps; one frequency kept per neuron",
        trials=trials(HEAVY),
        measure=measure(accuracies("raw", FF)),
        premises=FITS,
        conditions=(at_most("test", HEAVY, 0.5), at_least(f"test of {FF}", HEAVY, NEARLY)),
        draw=lambda table: by_arm(table, ("train clean", "train noisy", "test", f"test of {FF}")),
    ),
    Claim(
        key="hidden_quadratic",
        statement="Replacing the activation with x² after filtration raises the accuracy further.",
        experiment="the same network; test accuracy of G with x² minus with ReLU",
        trials=trials(HEAVY),
        measure=measure(accuracies(FF, FFQ)),
        conditions=(
            at_least(f"test of {FFQ}", HEAVY, NEARLY),
            more(f"test of {FFQ}", HEAVY, HEAVY, other=f"test of {FF}"),
        ),
        draw=lambda table: by_arm(table, (f"test of {FF}", f"test of {FFQ}")),
    ),
    Claim(
        key="rest",
        statement="The remainder R keeps the noise.",
        experiment="the same network; accuracy of R on noisy labels and on test",
        trials=trials(HEAVY),
        measure=measure(accuracies(REST)),
        conditions=(at_least(f"train noisy of {REST}", HEAVY, 0.9), at_most(f"test of {REST}", HEAVY, 0.1)),
        draw=lambda table: by_arm(table, (f"train clean of {REST}", f"train noisy of {REST}", f"test of {REST}")),
    ),
    Claim(
        key="in_the_network",
        statement="At ξ = .8 the hidden accuracy is in the network, not only in its labels.",
        experiment="Z of the held-out structure and test accuracy of filtration minus that of a vote of the labels "
        "(a control that the paper does not have)",
        trials=trials(HEAVY),
        measure=measure(accuracies(FFQ), structure, label_vote),
        conditions=(at_least("Z", HEAVY, 3), more(f"test of {FFQ}", HEAVY, HEAVY, other="label vote")),
        scale_limit=SHORT,
    ),
    Claim(
        key="in_the_network_light",
        statement="At ξ = .3 the hidden accuracy is in the network, not only in its labels.",
        experiment="N = 512, weight decay 1, 3000 steps; raw test accuracy, filtration, Z of the held-out structure",
        trials=trials(RULE),
        measure=measure(accuracies("raw", FFQ), structure, label_vote),
        conditions=(at_most("test", RULE, 0.5), at_least(f"test of {FFQ}", RULE, NEARLY), at_least("Z", RULE, 3)),
        draw=lambda table: by_arm(table, ("test", f"test of {FFQ}", "label vote", "held-out vote")),
    ),
    *(
        Claim(
            key=f"scores_{arm}",
            statement=f"IPR and Strength give equally good partitions for {title}, both better than the whole network.",
            experiment="ξ = .3, N = 512; test accuracy of f^G by each score, sizes chosen on training accuracies",
            trials=trials(arm if arm != "add" else RULE),
            measure=measure(partitions),
            conditions=(
                more("test of f^G by IPR", name, name, 0.05, other="test of f by IPR"),
                more("test of f^G by Strength", name, name, 0.05, other="test of f by IPR"),
                more("test of f^G by IPR", name, name, -0.1, other="test of f^G by Strength"),
                more("test of f^G by Strength", name, name, -0.1, other="test of f^G by IPR"),
            ),
            draw=lambda table: by_arm(table, ("test of f by IPR", "test of f^G by IPR", "test of f^G by Strength")),
        )
        for arm, title, name in (("add", "addition", RULE), ("subtract", "subtraction", "subtract"))
    ),
    Claim(
        key="scores_multiply",
        statement="For multiplication Strength gives the better partition.",
        experiment="ξ = .3, N = 512, multiplication; test accuracy of f^G by Strength minus by IPR (in the order "
        "of the discrete logarithm)",
        trials=trials("multiply"),
        measure=measure(partitions),
        conditions=(more("test of f^G by Strength", "multiply", "multiply", other="test of f^G by IPR"),),
        draw=lambda table: by_arm(table, ("test of f by IPR", "test of f^G by IPR", "test of f^G by Strength")),
    ),
    Claim(
        key="partition",
        statement="A partition of the neurons improves test accuracy, but less than filtration does.",
        experiment="ξ = .3, N = 512; f^G by IPR, filtration of the whole network",
        trials=trials(RULE),
        measure=measure(partitions),
        conditions=(
            more("test of f^G by IPR", RULE, RULE, other="test of f by IPR"),
            more("test of f filtered by IPR", RULE, RULE, other="test of f^G by IPR"),
        ),
        draw=lambda table: by_arm(table, ("test of f by IPR", "test of f^G by IPR", "test of f filtered by IPR")),
    ),
    Claim(
        key="distributed",
        statement="Filtration of f^G is worse than filtration of the whole network: the structure is distributed.",
        experiment="ξ = .3, N = 512; filtration of the whole network minus filtration of f^G",
        trials=trials(RULE),
        measure=measure(partitions),
        conditions=(more("test of f filtered by IPR", RULE, RULE, other="test of f^G filtered by IPR"),),
        draw=lambda table: by_arm(table, ("test of f filtered by IPR", "test of f^G filtered by IPR")),
    ),
    Claim(
        key="tied",
        statement="With tied inputs a network cannot fit asymmetric noise; it fits symmetric noise, and coexistence "
        "returns.",
        experiment="U = V, ξ = .3, N = 512, weight decay 1; independent and symmetric noise",
        trials=trials("tied", "tied, symmetric noise"),
        measure=measure(accuracies("raw", FF)),
        conditions=(
            at_most("train noisy", "tied", 0.9),
            at_least("train noisy", "tied, symmetric noise", NEARLY),
            at_least("train clean", "tied, symmetric noise", NEARLY),
            at_least(f"test of {FF}", "tied, symmetric noise", NEARLY),
        ),
        draw=lambda table: by_arm(table, ("train clean", "train noisy", "test", f"test of {FF}")),
    ),
    Claim(
        key="suppression",
        statement="A part of the logits that is not the rule suppresses the rule on held-out inputs.",
        experiment="ξ = .3, N = 512; parts of the true label's margin on test, and test accuracy without row and "
        "column effects (fitted on test inputs alone)",
        trials=trials(RULE),
        measure=measure(accuracies("raw", "additive_free"), suppression),
        conditions=(
            at_most("test margin: row and column effects", RULE, 0.0),
            at_least("test margin: rule", RULE, 0.0),
            more("test of additive_free", RULE, RULE, 0.3, other="test"),
        ),
        draw=lambda table: by_arm(table, ("test", "test of additive_free")),
    ),
    Claim(
        key="beyond_the_vote",
        statement="Filtration reads more out of the network than a vote of its labels does.",
        experiment="N = 512 over ξ × α, 1500 steps; test accuracy of filtration minus that of a vote that knows the "
        "group",
        trials=noise_plane,
        measure=measure(accuracies("raw", FFQ), label_vote, settings),
        conditions=(
            # Only where the vote leaves room; elsewhere it is correct on nearly every input.
            beats_vote("ξ 0.8, α 0.3"),
            beats_vote("ξ 0.9, α 0.5"),
            beats_vote("ξ 0.9, α 0.8"),
        ),
        scale_limit=SHORT,
        draw=lambda table: plane(table, f"test of {FFQ}", less="label vote"),
    ),
    Claim(
        key="answers_held_out",
        statement="With whole answers held out, filtration succeeds where a vote of the labels must fail.",
        experiment="ξ = .8, α = .6 of the answers, N = 512, 3000 steps; test accuracy after filtration",
        trials=trials("answers held out"),
        measure=measure(accuracies("raw", FF, FFQ), label_vote),
        conditions=(at_least(f"test of {FF}", "answers held out", 0.5),),
        draw=lambda table: by_arm(table, ("test", f"test of {FF}", f"test of {FFQ}", "label vote")),
    ),
    Claim(
        key="transformer",
        statement="In a transformer, filtering the unembedding raises test accuracy.",
        experiment="one layer, d_model 128, ξ = .1, weight decay 1; only the strongest 20 in 56 frequencies of the "
        "unembedding",
        paper="clean/noisy/test 100/100/76.8 → 98.1/36.8/87.8 (top 20 frequencies)",
        trials=trials("transformer"),
        measure=measure(accuracies("raw"), unembedding, structure),
        premises=fits("transformer"),
        conditions=(
            more(UNEMBEDDED, "transformer", "transformer", 0.05, other="test"),
            more("train noisy", "transformer", "transformer", 0.3, other="train noisy of the filtered unembedding"),
        ),
        scale_limit=SHORT,
        draw=lambda table: by_arm(table, ("train clean", "train noisy", "test", UNEMBEDDED)),
    ),
    *(
        Claim(
            key=key,
            statement=f"On MNIST, noisy labels are ahead of clean ones after the first epoch{where}.",
            experiment=f"{what}; ReLU network of three matrices, ξ = .05; accuracy on noisy minus clean images after "
            "one epoch",
            paper="noisy 10.87 %, clean 2.86 %, at the first epoch only",
            trials=images(arm),
            measure=measure(first_epoch),
            conditions=(more("train noisy after one epoch", arm, arm, other="train clean after one epoch"),),
            draw=over_training,
        )
        for key, arm, where, what in (
            ("mnist", FULL, "", "4000 images of MNIST in the full batch, so that an epoch is one step"),
            ("mnist_minibatch", MINI, ", in minibatches too", "4000 images of MNIST in batches of 128, 32 steps"),
        )
    ),
)

RECIPE = Recipe(
    name="liu_lu_2026",
    title="Unveiling memorization–generalization coexistence",
    source="Liu & Lu 2026, arXiv 2605.18022",
    claims=CLAIMS,
    caveats=(
        "The paper's α and choice of partition sizes were not found: here α = .8, sizes by training accuracies.",
        "The small scale has p = 59 and thousands of steps, the paper 113 and 200,000.",
        "The paper's batch size on MNIST was not found: both figures near chance at the first epoch suggest an epoch "
        "of one step, so the claim is judged in the full batch, and separately in minibatches.",
    ),
)
