"""Ketha & Ramaswamy: decoding generalization from memorization, claim by claim (arXiv 2501.14687)."""

from __future__ import annotations

from mechmem.recipes.claims import Claim, Recipe
from mechmem.recipes.conditions import Condition, Value, at_most
from mechmem.recipes.measures import by_arm, measure
from mechmem.recipes.papers.ketha_2025 import controls
from mechmem.recipes.papers.ketha_2025.measured import (
    BEFORE,
    GIVEN_READOUT,
    LAST,
    LAST_MASC,
    MASC,
    NEIGHBOURS,
    ON_PIXELS,
    THIRD,
    TRUE_MASC,
    TRUE_READOUT,
    during_training,
    layers,
    network,
    readouts,
    thirds,
    velpic,
)
from mechmem.recipes.papers.ketha_2025.redrawn import by_layer, noise_curve, training
from mechmem.recipes.papers.ketha_2025.rules import (
    AT_8,
    BASE,
    CHOSEN,
    FAR,
    FOLLOWED_MLP,
    MEMORIZED,
    OTHER_DATA,
    SMALL,
    above,
    authors,
    authors_at,
    fits,
)
from mechmem.recipes.papers.ketha_2025.runs import CNN, FOLLOWED, MEMORIZING, MLP, NOISE, RESNET, SECOND, arm, trials

SUBSPACES = {0.25: f"masc(variance=0.25)@{THIRD}", 0.5: f"masc(variance=0.5)@{THIRD}", 0.99: f"masc@{THIRD}"}
"""MASC on the third layer by τ."""

PIXEL_READOUT = TRUE_READOUT.replace(LAST, "inputs")
RESNETS = tuple(arm(RESNET, xi) for xi in FOLLOWED)
LOST = "lost since the network's peak"


def elsewhere(name: str, key: str, model: str) -> tuple[Claim, Claim]:
    """Return the claim about another network or other data, and its control on pixels."""
    arms = tuple(arm(name, xi) for xi in FOLLOWED)
    shared = {
        "trials": trials(name, FOLLOWED),
        "measure": measure(network, layers(MASC)),
        "premises": fits(*arms),
        "scale_limit": OTHER_DATA,
        "draw": by_layer(MASC, BEFORE, levels=("test", ON_PIXELS)),
    }
    return (
        Claim(
            key=f"decodes_{key}",
            statement=f"Layers of a memorized network decode far above its own output: {name}.",
            experiment=f"{model}, ξ = .4 and .8; test accuracy of {CHOSEN}, minus the network's",
            paper=authors(name, 0, 1),
            conditions=above(MASC, "test", *arms, by=FAR),
            **shared,
        ),
        Claim(
            key=f"pixels_{key}",
            statement=f"Layers of a memorized network hold more than the pixels do: {name}.",
            experiment=f"{model}, ξ = .4 and .8; test accuracy of {CHOSEN}, minus that of the same probe on the pixels",
            conditions=above(MASC, ON_PIXELS, *arms),
            **shared,
        ),
    )


CLAIMS = (
    *(
        Claim(
            key=f"decodes_{100 * xi:.0f}",
            statement=f"At ξ = {xi:g} a layer of the memorized MLP decodes far above the network's own output.",
            experiment=f"{BASE}; test accuracy of {CHOSEN}, minus the network's",
            paper=authors_at(MLP, xi),
            trials=trials(MLP, (xi,)),
            measure=measure(network, layers(MASC)),
            premises=fits(arm(MLP, xi)),
            conditions=above(MASC, "test", arm(MLP, xi), by=FAR),
            draw=by_layer(MASC, BEFORE, levels=("test", ON_PIXELS)),
        )
        for xi in MEMORIZING
    ),
    Claim(
        key="best_layer",
        statement="So does the layer that is best on test, which is the authors' choice (optimistic).",
        experiment=f"{BASE}; test accuracy of MASC with τ = .99 at the layer where it is highest, minus the network's",
        paper=authors(MLP, 0, 1),
        trials=trials(MLP, MEMORIZING),
        measure=measure(network, layers(MASC)),
        premises=fits(*MEMORIZED),
        conditions=above(f"{MASC}, best layer", "test", *MEMORIZED, by=FAR),
        draw=noise_curve("test", MASC, f"{MASC}, best layer"),
    ),
    Claim(
        key="noise_curve",
        statement="A layer decodes more than the network's output at every noise level, and nothing if all labels are "
        "random.",
        experiment=f"{BASE}; ξ from 0 to 1 in steps of .2; {CHOSEN}; chance is .1",
        paper=authors(MLP, 0, 1, 2),
        trials=trials(MLP, NOISE),
        measure=measure(network, layers(MASC), layers(TRUE_MASC, "true"), readouts(NEIGHBOURS)),
        premises=fits(*(arm(MLP, xi) for xi in NOISE)),
        conditions=(*above(MASC, "test", *MEMORIZED), at_most(MASC, arm(MLP, 1.0), 0.15)),
        draw=noise_curve("test", MASC, TRUE_MASC, ON_PIXELS, BEFORE, f"test of {NEIGHBOURS}"),
    ),
    Claim(
        key="true_labels",
        statement="Subspaces of the true labels decode still more from the memorized network.",
        experiment=f"{BASE}; MASC fitted to true labels minus MASC fitted to given ones, each at the layer chosen by "
        "cross-validation",
        paper=authors(MLP, 1, 2),
        trials=trials(MLP, MEMORIZING),
        measure=measure(network, layers(MASC), layers(TRUE_MASC, "true")),
        premises=fits(*MEMORIZED),
        conditions=above(TRUE_MASC, MASC, *MEMORIZED),
        draw=noise_curve("test", MASC, TRUE_MASC),
    ),
    *(
        Claim(
            key=f"tau_{key}",
            statement=f"Subspaces of half the variance decode more from the third layer than {title}.",
            experiment=f"{BASE}, ξ = .8; test accuracy of MASC with τ = .5 minus τ = {tau:g}, third layer",
            paper="MLP-MNIST, ξ = .8, fc3: .834 at τ = .25, .925 at .5, .804 at .99",
            trials=trials(MLP, (0.8,)),
            measure=measure(network, readouts(*SUBSPACES.values())),
            premises=fits(AT_8),
            conditions=above(f"test of {SUBSPACES[0.5]}", f"test of {SUBSPACES[tau]}", AT_8),
            scale_limit=SMALL,
            draw=lambda table: by_arm(table, ("test", *(f"test of {name}" for name in SUBSPACES.values()))),
        )
        for key, tau, title in (("most", 0.99, "those of nearly all"), ("quarter", 0.25, "those of a quarter"))
    ),
    Claim(
        key="early_layers",
        statement="Early layers of a ResNet decode more than late ones.",
        experiment="ResNet18 an eighth as wide, 1000 images of MNIST, ξ = .4 and .8; mean test accuracy of MASC over "
        "the first third of the layers minus that over the last third",
        trials=trials(RESNET, FOLLOWED),
        measure=measure(network, layers(MASC), thirds),
        premises=fits(*RESNETS),
        conditions=above(f"{MASC}, first third of the layers", f"{MASC}, last third of the layers", *RESNETS),
        scale_limit=OTHER_DATA,
        draw=by_layer(MASC, BEFORE, levels=("test", ON_PIXELS)),
    ),
    Claim(
        key="training_costs",
        statement="What the last layer decodes peaks with the network, and falls as the corrupted labels are fitted.",
        experiment=f"{BASE}, ξ = .4 and .8, 12 checkpoints; MASC at the network's own peak on test, minus MASC at the "
        "end",
        paper="latent generalization peaks early in training, with the network's (follow-up, arXiv 2603.19865)",
        trials=trials(MLP, FOLLOWED),
        measure=measure(network, during_training),
        premises=fits(*FOLLOWED_MLP),
        conditions=tuple(Condition(Value(f"{LAST_MASC}: {LOST}", name), ">", 0.0) for name in FOLLOWED_MLP),
        draw=training,
    ),
    Claim(
        key="training_keeps",
        statement="Fitting the corrupted labels costs the last layer far less than it costs the network's output.",
        experiment=f"{BASE}, ξ = .4 and .8; what the output has lost since its peak on test, minus what MASC has lost",
        trials=trials(MLP, FOLLOWED),
        measure=measure(network, during_training),
        premises=fits(*FOLLOWED_MLP),
        conditions=above(f"network: {LOST}", f"{LAST_MASC}: {LOST}", *FOLLOWED_MLP, by=FAR),
        draw=training,
    ),
    Claim(
        key="readout_true",
        statement="Features are badly read out, not irretrievably reorganized: a readout retrained on true labels is "
        "far better.",
        experiment=f"{BASE}; the readout alone, refitted to true labels by logistic regression (an upper bound), "
        "minus the network's own",
        trials=trials(MLP, MEMORIZING),
        measure=measure(network, readouts(TRUE_READOUT)),
        premises=fits(*MEMORIZED),
        conditions=above(f"test of {TRUE_READOUT}", "test", *MEMORIZED, by=FAR),
        draw=noise_curve("test", f"test of {TRUE_READOUT}"),
    ),
    Claim(
        key="readout_true_pixels",
        statement="A readout retrained on true labels finds more in the last layer than in the pixels.",
        experiment=f"{BASE}; logistic regression on true labels, last layer minus pixels (a control that "
        "the paper does not have)",
        trials=trials(MLP, MEMORIZING),
        measure=measure(network, readouts(TRUE_READOUT, PIXEL_READOUT)),
        premises=fits(*MEMORIZED),
        conditions=above(f"test of {TRUE_READOUT}", f"test of {PIXEL_READOUT}", *MEMORIZED),
        draw=noise_curve("test", f"test of {TRUE_READOUT}", f"test of {PIXEL_READOUT}"),
    ),
    Claim(
        key="readout_given",
        statement="A readout retrained on only the given labels reads more out of the last layer than the network's "
        "own.",
        experiment=f"{BASE}; the readout alone, refitted to the given labels by logistic regression, minus the "
        "network's own",
        trials=trials(MLP, MEMORIZING),
        measure=measure(network, readouts(GIVEN_READOUT)),
        premises=fits(*MEMORIZED),
        conditions=above(f"test of {GIVEN_READOUT}", "test", *MEMORIZED),
        draw=noise_curve("test", f"test of {GIVEN_READOUT}"),
    ),
    Claim(
        key="velpic",
        statement="On ReLU layers the first component's inner product (VeLPIC) is MASC of one component.",
        experiment=f"{BASE}, ξ = .4 and .8; the largest difference between the two test accuracies over layers",
        trials=trials(MLP, FOLLOWED),
        measure=measure(network, velpic),
        premises=fits(*FOLLOWED_MLP),
        conditions=tuple(at_most("|VeLPIC − MASC of one component|", name, 0.01) for name in FOLLOWED_MLP),
        draw=by_layer("VeLPIC", "MASC of one component"),
    ),
    *elsewhere(SECOND, "second", "the same MLP on the 1797 digits of scikit-learn"),
    *elsewhere(CNN, "cnn", "three convolutions of 16, 32 and 64 channels, 1000 images of MNIST"),
    *elsewhere(RESNET, "resnet", "ResNet18 an eighth as wide, 1000 images of MNIST"),
    *controls.CLAIMS,
)

RECIPE = Recipe(
    name="ketha_2025",
    title="Decoding generalization from memorization in deep neural networks",
    source="Ketha & Ramaswamy 2025, arXiv 2501.14687",
    claims=CLAIMS,
    caveats=(
        "The small scale has 4000 images of MNIST for the MLP, 1438 digits of scikit-learn for the MLP on the second "
        "data (the paper: CIFAR-10), and 1000 images of MNIST for the CNN (Fashion-MNIST) and the ResNet (CIFAR-10).",
        "The paper trains the MLPs and the ResNet with SGD at 1e-3, momentum .9, in batches of 32 for up to 500 "
        "epochs. To fit within minutes, the small scale trains the MLPs with Adam at 3e-4 in batches of 128 and the "
        "ResNet with SGD at .05 in batches of 50. The CNN is trained with Adam at 1e-3 (the authors' code: 2e-4).",
        "The authors' CNN has six convolutions and three dense layers; this one has three convolutions, whose mean is "
        "read out. Their ResNet pools after its stem; this one does not.",
        "The authors' table reports the layer that is best on test. Here the layer is chosen by cross-validation on "
        "the training labels; the best on test is reported as well, under that name.",
        "The authors' figures are from the results of their public code and the paper's tables; their τ is .99.",
        "Before the conditions were written, figures for MASC, the pixels and untrained networks on MNIST-5k at "
        "ξ = .4 and .8 had been seen in other runs.",
        "With three seeds, only a difference of about two and a half times its spread can be distinguished from none.",
    ),
)
