"""Anagnostidis et al.: the curious case of benign memorization, claim by claim (arXiv 2210.14019)."""

from __future__ import annotations

from mechmem.recipes.claims import Claim, Recipe
from mechmem.recipes.conditions import Condition, at_least, at_most, more
from mechmem.recipes.measures import accuracies, measure
from mechmem.recipes.papers.anagnostidis_2023.measured import (
    BEFORE,
    ENCODER,
    GAIN,
    INVARIANCE,
    LAST_RATIO,
    LEAST,
    LEAST_RATIO,
    PIXELS,
    PROJECTOR,
    against,
    both_probes,
    by_layer,
    clean_twin,
    during_training,
    frontier,
    invariance,
    invariance_by_layer,
    probes,
    settings,
    training,
    twin_by_layer,
)
from mechmem.recipes.papers.anagnostidis_2023.runs import (
    AUGMENTED,
    MIXUP,
    PLAIN,
    REAL,
    STRENGTHS,
    VIEWS,
    independent,
    same,
    strength,
    trials,
)
from mechmem.recipes.papers.anagnostidis_2023.runs import frontier as frontier_arms

BASE = "uniformly random labels, squared error, Adam; a vote of the 20 nearest training images with true labels"
FITTED, FAR = 0.9, 0.05
MOST = max(VIEWS)
SHORT = "The paper trains on 50,000 images for thousands of epochs; this scale on 1000 for about 800."


def fits(*arms: str) -> tuple[Condition, ...]:
    """Return the premise that these networks have memorized their labels."""
    return tuple(at_least("train", arm, FITTED) for arm in arms)


def gains(arm: str, by: float = 0.0) -> Condition:
    """Return the condition that training has raised the probe on the encoder."""
    return more(ENCODER, arm, arm, by, other=f"{ENCODER}{BEFORE}")


CLAIMS = (
    Claim(
        key="benign",
        statement="Under augmentation fully random labels are memorized, and the encoder's probe accuracy rises far "
        "above its initial value.",
        experiment=f"{BASE}; on the encoder, after minus before training",
        trials=trials(AUGMENTED, PLAIN),
        measure=measure(accuracies("raw"), probes),
        premises=fits(AUGMENTED),
        conditions=(gains(AUGMENTED, FAR),),
        scale_limit=SHORT,
        draw=by_layer,
    ),
    Claim(
        key="benign_pixels",
        statement="Under augmentation the encoder's probe accuracy rises above that of the pixels.",
        experiment=f"{BASE}; encoder minus pixels (a control that the paper does not have)",
        trials=trials(AUGMENTED),
        measure=measure(accuracies("raw"), probes),
        premises=fits(AUGMENTED),
        conditions=(more(ENCODER, AUGMENTED, AUGMENTED, other=PIXELS),),
        scale_limit=SHORT,
        draw=both_probes,
    ),
    Claim(
        key="malign",
        statement="Without augmentation the probe accuracies of the last layers fall below their initial values.",
        experiment=f"{BASE}; encoder and projector, before minus after training",
        trials=trials(PLAIN),
        measure=measure(accuracies("raw"), probes),
        premises=fits(PLAIN),
        conditions=tuple(more(f"{name}{BEFORE}", PLAIN, PLAIN, other=name) for name in (ENCODER, PROJECTOR)),
        scale_limit=SHORT,
        draw=by_layer,
    ),
    Claim(
        key="augmentation",
        statement="Augmentation is the cause: the same labels without it leave a worse encoder.",
        experiment=f"{BASE}; on the encoder, with minus without augmentation",
        trials=trials(AUGMENTED, PLAIN),
        measure=measure(accuracies("raw"), probes),
        premises=fits(AUGMENTED, PLAIN),
        conditions=(more(ENCODER, AUGMENTED, PLAIN, FAR),),
        scale_limit=SHORT,
        draw=by_layer,
    ),
    Claim(
        key="last_layers",
        statement="Only the last layers memorize: the projector's probe accuracy falls, and that of no encoder layer "
        "falls as much.",
        experiment=f"{BASE}; gain by training, smallest over encoder layers minus that of the projector",
        trials=trials(AUGMENTED),
        measure=measure(accuracies("raw"), probes, during_training),
        premises=fits(AUGMENTED),
        conditions=(
            at_most(GAIN, AUGMENTED, 0.0),
            more(LEAST, AUGMENTED, AUGMENTED, 0.1, other=GAIN),
        ),
        scale_limit=SHORT,
        draw=training,
    ),
    Claim(
        key="twin",
        statement="Layers before the last are largely unaffected by random labels.",
        experiment=f"{BASE}, divided by that of the twin trained on true labels with the same augmentation",
        trials=trials(AUGMENTED),
        measure=measure(accuracies("raw"), probes, clean_twin),
        premises=fits(AUGMENTED),
        conditions=(
            at_least(LEAST_RATIO, AUGMENTED, 0.9),
            more(LEAST_RATIO, AUGMENTED, AUGMENTED, 0.2, other=LAST_RATIO),
        ),
        scale_limit=SHORT,
        draw=twin_by_layer,
    ),
    Claim(
        key="invariance",
        statement="The encoder of a benign memorizer maps views of one image closer together than before training.",
        experiment="random labels, augmentation; cosines between new views of test images on the encoder, after minus "
        "before training",
        trials=trials(AUGMENTED),
        measure=measure(accuracies("raw"), invariance),
        premises=fits(AUGMENTED),
        conditions=(more(INVARIANCE, AUGMENTED, AUGMENTED, other=f"{INVARIANCE}{BEFORE}"),),
        scale_limit=SHORT,
        draw=invariance_by_layer,
    ),
    Claim(
        key="diversity",
        statement="The more fixed augmentations an image has, the better the encoder that memorizes them.",
        experiment=f"{BASE}; n augmentations per image that share its label; on the encoder, n = {MOST} minus n = 1",
        trials=trials(*(same(views) for views in VIEWS)),
        measure=measure(accuracies("raw"), probes, settings),
        premises=fits(same(1), same(MOST)),
        conditions=(more(ENCODER, same(MOST), same(1), 0.03),),
        scale_limit=SHORT,
        draw=against("views", "fixed augmentations per image (log scale)", log_x=True),
    ),
    Claim(
        key="capacity",
        statement="Malign memorization of augmented images fails: views with independent labels are not fitted.",
        experiment=f"the fraction of labels fitted at n = {MOST} with independent and with shared labels",
        trials=trials(*(independent(views) for views in VIEWS), same(MOST)),
        measure=measure(accuracies("raw"), probes, settings),
        premises=fits(same(MOST), independent(1)),
        conditions=(
            at_most("train", independent(MOST), 0.5),
            more("train", same(MOST), independent(MOST), 0.3),
        ),
        draw=both_probes,
    ),
    Claim(
        key="capacity_width",
        statement="It fails for lack of capacity: a wider network fits more independent labels.",
        experiment="the fraction of labels fitted at n = 4 and 16 by a network four times as wide minus that of the "
        "narrow one, in equally many steps",
        trials=trials(*frontier_arms()),
        measure=measure(accuracies("raw"), settings),
        premises=fits(independent(1)),
        conditions=tuple(more("train", independent(n), independent(n, "quarter width"), 0.1) for n in (4, MOST)),
        draw=frontier,
    ),
    Claim(
        key="strength",
        statement="The stronger the augmentation, the better the encoder that memorizes under it.",
        experiment=f"{BASE}; on the encoder, RandAugment of magnitude {STRENGTHS[1]} minus {STRENGTHS[0]}",
        trials=trials(PLAIN, *(strength(each) for each in STRENGTHS)),
        measure=measure(accuracies("raw"), probes, settings),
        premises=fits(*(strength(each) for each in STRENGTHS)),
        conditions=(more(ENCODER, strength(STRENGTHS[1]), strength(STRENGTHS[0])),),
        scale_limit=SHORT,
        draw=against("magnitude", "magnitude of RandAugment (0: none)"),
    ),
    Claim(
        key="real_images",
        statement="Real images of the same class in place of augmentations also make memorization benign.",
        experiment=f"{BASE}; three further real images per random label; on the encoder, after minus before training",
        trials=trials(REAL),
        measure=measure(accuracies("raw"), probes),
        premises=fits(REAL),
        conditions=(gains(REAL, FAR),),
        scale_limit=SHORT,
        draw=both_probes,
    ),
    Claim(
        key="mixup",
        statement="Mixing inputs also makes memorization benign.",
        experiment=f"{BASE}; mixup of inputs alone, each image keeping its label; on the encoder, after minus before",
        trials=trials(MIXUP),
        measure=measure(accuracies("raw"), probes),
        premises=fits(MIXUP),
        conditions=(gains(MIXUP),),
        scale_limit=SHORT,
        draw=both_probes,
    ),
)

RECIPE = Recipe(
    name="anagnostidis_2023",
    title="The curious case of benign memorization",
    source="Anagnostidis et al. 2023, arXiv 2210.14019",
    claims=CLAIMS,
    caveats=(
        "The paper trains ResNet18 and VGG on CIFAR and TinyImageNet; the small scale trains three convolutions of 16, "
        "32 and 64 channels with a projector of 256 on 1000 images of MNIST, with Adam at 1e-3 in batches of 100.",
        "Augmentation at the small scale is rotation by up to 10°, shifts and scaling by up to a tenth: mirroring, "
        "cropping or recolouring a digit would change its class or nothing. The fraction of labels fitted is measured "
        "on the original images, or on the views if they are fixed.",
        "With independent labels a larger n means more examples in equally many steps, so unfitted labels may need "
        "more steps rather than more capacity. Wider networks therefore get the same number of steps.",
        "All probes, controls included, are fitted to the true labels of the original training images.",
        "Before the conditions were written, probes of such networks with and without augmentation on 1000 images of "
        "MNIST-5k had been seen, in other runs that had not fitted their labels.",
    ),
)
