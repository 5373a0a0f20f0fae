"""Doshi, Das, He, Gromov: grokking on corrupted data, claim by claim (arXiv 2310.13061)."""

from __future__ import annotations

from mechmem.recipes.claims import Claim, Recipe
from mechmem.recipes.conditions import at_least, at_most, close_to, more
from mechmem.recipes.measures import accuracies, history, ipr_distribution, measure, plane, pruning, settings
from mechmem.recipes.papers.doshi_2024.measured import (
    amplification,
    arms,
    distributions,
    embedding_ipr,
    inversion,
    memorizers,
    pruned,
    training,
    two_stages,
)
from mechmem.recipes.papers.doshi_2024.runs import PLAIN, grid, trials

FRACTIONS = tuple(round(0.02 * i, 2) for i in range(51))
CORRUPTED, LOW = "train noisy", "share alive with IPR < 0.5"
SPLIT_FIGURE = arms(("train clean", "train noisy", "test"))
BASE = "p = 97, N = 500, x², MSE, AdamW .01, α = .5, ξ = .35"
FITS = (at_least("train", PLAIN, 0.9), at_least(CORRUPTED, PLAIN, 0.9))


def stored(key: str, arm: str, train: float, test: float, what: str) -> Claim:
    """Return the claim that a stored output of the authors' notebook is reproduced within .05."""
    return Claim(
        key=key,
        statement=f"The notebook's stored output for {what} is reproduced.",
        experiment=f"{what}; train and test accuracy within .05 of the stored ones",
        paper=f"train {train:.3f}, test {test:.3f}",
        trials=trials(arm),
        measure=measure(accuracies("raw"), history),
        conditions=(close_to("train", arm, train, 0.05), close_to("test", arm, test, 0.05)),
        draw=training,
    )


CLAIMS = (
    Claim(
        key="coexistence",
        statement="Without regularization the network fits the corrupted labels and generalizes at the same time.",
        experiment=f"{BASE}, no weight decay, 1000 steps",
        paper="train .978, test .983",
        trials=trials(PLAIN),
        measure=measure(accuracies("raw"), history),
        conditions=(*FITS, at_least("test", PLAIN, 0.9)),
        draw=training,
    ),
    Claim(
        key="prune_low",
        statement="Pruning the lowest IPR first forgets the corrupted labels and preserves test accuracy.",
        experiment=f"{BASE}, no weight decay, 1000 steps; u, v, w of neurons zeroed cumulatively",
        paper="at 60 % pruned: corrupted 94 % → about 0, test and clean 97–100 %",
        trials=trials(PLAIN),
        measure=measure(accuracies("raw"), pruning("ipr", FRACTIONS)),
        premises=FITS,
        conditions=(
            at_most("lowest first: train noisy", PLAIN, 0.1, 0.6),
            at_least("lowest first: test", PLAIN, 0.95, 0.6),
            at_least("lowest first: train clean", PLAIN, 0.95, 0.6),
        ),
        draw=pruned,
    ),
    Claim(
        key="prune_high",
        statement="Pruning the highest IPR first destroys generalization.",
        experiment=f"{BASE}, no weight decay, 1000 steps; highest IPR first",
        paper="test 97 % → about 0 by 30 % pruned",
        trials=trials(PLAIN),
        measure=measure(accuracies("raw"), pruning("ipr", FRACTIONS)),
        premises=(at_least("test", PLAIN, 0.9),),
        conditions=(at_most("highest first: test", PLAIN, 0.1, 0.3),),
        draw=pruned,
    ),
    Claim(
        key="prune_control",
        statement="The order matters: random pruning costs test accuracy where lowest-first does not.",
        experiment="as above; mean of five random orders (a control that the paper does not have)",
        trials=trials(PLAIN),
        measure=measure(pruning("ipr", FRACTIONS)),
        conditions=(more("lowest first: test", PLAIN, PLAIN, 0.1, other="random: test", x=0.6),),
        draw=pruned,
    ),
    Claim(
        key="particular_examples",
        statement="Low-IPR neurons carry the corrupted labels of particular examples, high-IPR neurons the rule.",
        experiment="mean centred logit of the given (on test: true) label that each half of the neurons by IPR carries",
        trials=trials(PLAIN),
        measure=measure(memorizers),
        conditions=(
            more("low-IPR half: train_noisy", PLAIN, PLAIN, other="high-IPR half: train_noisy"),
            more("high-IPR half: test", PLAIN, PLAIN, other="low-IPR half: test"),
        ),
    ),
    Claim(
        key="weight_decay",
        statement="With weight decay the network reaches 100 % on uncorrupted data and ignores corrupted labels.",
        experiment=f"{BASE}, weight decay 15 against 0, 500 steps",
        paper="train .654, test 1.000 (Full Inversion)",
        trials=trials("wd 15", "wd 0, 500 steps"),
        measure=measure(accuracies("raw")),
        conditions=(
            at_least("test", "wd 15", 0.95),
            at_least("train clean", "wd 15", 0.95),
            at_most(CORRUPTED, "wd 15", 0.1),
            more(CORRUPTED, "wd 0, 500 steps", "wd 15", 0.5),
        ),
        draw=SPLIT_FIGURE,
    ),
    Claim(
        key="dropout",
        statement="With dropout the network reaches 100 % on uncorrupted data and ignores corrupted labels.",
        experiment=f"{BASE}, dropout .6 before the activation against none, 2000 steps",
        trials=trials("dropout .6", "wd 0, 2000 steps"),
        measure=measure(accuracies("raw")),
        conditions=(
            at_least("test", "dropout .6", 0.95),
            at_least("train clean", "dropout .6", 0.95),
            at_most(CORRUPTED, "dropout .6", 0.1),
            more(CORRUPTED, "wd 0, 2000 steps", "dropout .6", 0.5),
        ),
        draw=SPLIT_FIGURE,
    ),
    Claim(
        key="batch_norm",
        statement="With BatchNorm the network reaches 100 % on uncorrupted data and ignores corrupted labels.",
        experiment="BatchNorm after x², Adam .005, minibatches of 64, α = .65, ξ = .2, 2000 steps",
        paper="train .804, test 1.000 (Full Inversion)",
        trials=trials("BatchNorm"),
        measure=measure(accuracies("raw")),
        conditions=(
            at_least("test", "BatchNorm", 0.95),
            at_least("train clean", "BatchNorm", 0.95),
            at_most(CORRUPTED, "BatchNorm", 0.1),
        ),
        draw=SPLIT_FIGURE,
    ),
    Claim(
        key="batch_norm_control",
        statement="BatchNorm is the cause: the same training without it memorizes.",
        experiment="the same with and without BatchNorm (the notebook's own control stores train .819, test 1.000)",
        trials=trials("BatchNorm", "no BatchNorm"),
        measure=measure(accuracies("raw")),
        conditions=(more(CORRUPTED, "no BatchNorm", "BatchNorm", 0.5),),
        draw=SPLIT_FIGURE,
    ),
    Claim(
        key="weight_decay_how",
        statement="Weight decay works by eliminating memorizing neurons: few with low IPR are left.",
        experiment="fraction of neurons that are alive with an IPR below .5, weight decay 0 and 15, 500 steps",
        trials=trials("wd 0, 500 steps", "wd 15"),
        measure=measure(ipr_distribution()),
        conditions=(
            at_most(LOW, "wd 15", 0.2),
            more(LOW, "wd 0, 500 steps", "wd 15", 0.3),
        ),
        draw=distributions,
    ),
    Claim(
        key="dropout_how",
        statement="Dropout works by eliminating memorizing neurons: few with low IPR are left.",
        experiment="fraction of neurons that are alive with an IPR below .5, dropout 0 and .6, 2000 steps",
        trials=trials("wd 0, 2000 steps", "dropout .6"),
        measure=measure(ipr_distribution()),
        conditions=(
            at_most(LOW, "dropout .6", 0.2),
            more(LOW, "wd 0, 2000 steps", "dropout .6", 0.3),
        ),
        draw=distributions,
    ),
    Claim(
        key="batch_norm_how",
        statement="BatchNorm de-amplifies memorizing neurons: its weights grow with IPR.",
        experiment="rank correlation, over neurons, of |γ| and of |γ|·‖w‖·std(h) with IPR",
        paper="|γ| ≈ .02–.03 for IPR < .1, .03–.05 for IPR > .9",
        trials=trials("BatchNorm"),
        measure=measure(amplification, ipr_distribution()),
        conditions=(
            at_least("Spearman of |γ| and IPR", "BatchNorm", 0.0),
            at_least("Spearman of amplitude and IPR", "BatchNorm", 0.0),
        ),
        draw=distributions,
    ),
    Claim(
        key="two_stages",
        statement="With regularization the network first groks, then unlearns the corrupted labels.",
        experiment=f"{BASE}, weight decay 5, 2000 steps; unlearned means half of the corrupted labels lost for good",
        paper="train accuracy 100 % → 100(1 − ξ) % after grokking",
        trials=trials("wd 5, 2000 steps"),
        measure=measure(accuracies("raw"), two_stages, history),
        premises=(at_least("peak train", "wd 5, 2000 steps", 0.9),),
        conditions=(
            more("t_unlearn", "wd 5, 2000 steps", "wd 5, 2000 steps", 1, other="t_grok"),
            at_most("train", "wd 5, 2000 steps", 0.7),
        ),
        draw=training,
    ),
    stored("notebook_wd0", PLAIN, 0.978, 0.983, "weight decay 0, 1000 steps"),
    stored("notebook_wd5", "wd 5", 0.786, 1.0, "weight decay 5, 500 steps"),
    stored("notebook_wd15", "wd 15", 0.654, 1.0, "weight decay 15, 500 steps"),
    stored("notebook_wd20", "wd 20", 0.009, 0.011, "weight decay 20, 5000 steps"),
    stored("notebook_bn", "BatchNorm", 0.804, 1.0, "BatchNorm, 2000 steps"),
    stored("notebook_no_bn", "no BatchNorm", 0.819, 1.0, "the same without BatchNorm, 2000 steps"),
    Claim(
        key="phase_diagram",
        statement="Coexistence without weight decay, full inversion with it, memorization of heavy noise.",
        experiment="coarse grid of α and ξ, weight decay 0 and 15, 1000 steps",
        trials=grid,
        measure=measure(accuracies("raw"), settings),
        conditions=(
            at_least("test", "α 0.7, ξ 0.2, wd 0", 0.9),
            at_least("train", "α 0.7, ξ 0.2, wd 0", 0.9),
            at_least("test", "α 0.7, ξ 0.4, wd 15", 0.9),
            at_most("train", "α 0.7, ξ 0.4, wd 15", 0.65),
            at_most("test", "α 0.3, ξ 0.6, wd 0", 0.9),
            at_least("train", "α 0.3, ξ 0.6, wd 0", 0.9),
        ),
        draw=lambda table: plane(table, "test", panel="weight decay"),
    ),
    *(
        Claim(
            key=key,
            statement=f"In {title} only weight decay gives Full Inversion.",
            experiment=f"{title}, AdamW 1e-3, α = .65, ξ = .2; without regularization, weight decay 5, dropout {rate}",
            trials=trials(f"{arm}, wd 0", f"{arm}, wd 5", f"{arm}, dropout {rate}"),
            measure=measure(accuracies("raw"), inversion),
            premises=(at_least("train", f"{arm}, wd 0", 0.9),),
            conditions=(
                at_least("Full Inversion", f"{arm}, wd 5", 1.0),
                at_most("Full Inversion", f"{arm}, wd 0", 0.0),
                at_most("Full Inversion", f"{arm}, dropout {rate}", 0.0),
            ),
            draw=SPLIT_FIGURE,
        )
        for key, title, arm, rate in (
            ("appendix_transformer", "a one-layer transformer", "encoder", ".3"),
            ("appendix_deeper", "a ReLU network of three matrices", "three layers", ".6"),
        )
    ),
    Claim(
        key="appendix_embedding",
        statement="The embedding of a generalizing transformer stays far from single frequencies.",
        experiment="95 % quantile, over the embedding's dimensions, of the IPR over symbols (one-sided)",
        paper="embedding IPR at most .4",
        trials=trials("encoder, wd 5"),
        measure=measure(accuracies("raw"), embedding_ipr),
        premises=(at_least("test", "encoder, wd 5", 0.9),),
        conditions=(at_most("IPR of the embedding", "encoder, wd 5", 0.4),),
    ),
)

RECIPE = Recipe(
    name="doshi_2024",
    title="To grok or not to grok: disentangling generalization and memorization on corrupted algorithmic datasets",
    source="Doshi, Das, He, Gromov, ICLR 2024, arXiv 2310.13061",
    claims=CLAIMS,
    caveats=(
        "Corrupted labels are uniform over all classes, as in the paper, so one in p of them is correct; “corrupted” "
        "counts the wrong ones.",
        "The small scale uses the paper's own network and prime; its phase diagram is coarser, with fewer steps.",
    ),
)
