"""Figures are averaged over networks that differ in their seeds alone."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from torch import nn

import mechmem as mm
from mechmem.core.alike import check_alike
from mechmem.errors import ConfigError

DRAW = torch.Generator().manual_seed(0)
TRUE = torch.arange(300) % 3
X = 4 * nn.functional.one_hot(TRUE, 8) + torch.randn(300, 8, generator=DRAW)
TRAIN = torch.arange(300) < 240


def noisy(seed, share=0.2):
    draw = torch.Generator().manual_seed(seed)
    return torch.where(torch.rand(300, generator=draw) < share, (TRUE + 1) % 3, TRUE)


def task(x=X, given=None, true=TRUE, train=TRAIN, **settings):
    return mm.ArrayTask(x, noisy(0) if given is None else given, true, train, **settings)


def subject(data, seed, name="network"):
    torch.manual_seed(seed)
    return mm.Subject(nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3)), data, name=name)


def split(seed):
    return torch.rand(300, generator=torch.Generator().manual_seed(seed)) < 0.8


def scaled(train):
    """Inputs standardised by the training set, which is another with each split."""
    return task((X - X[train].mean(0)) / X[train].std(0), train=train)


def table(seed):
    data = torch.utils.data.TensorDataset(X, TRUE)
    return mm.DatasetTask(data, noise=mm.LabelNoise(0.2), held_out=0.2, seed=seed)


def test_only_networks_that_were_trained_alike_are_pooled(tiny_config, tiny_run, tmp_path):
    def trained(**changed):
        return mm.train(dataclasses.replace(tiny_config, **changed), progress=False)

    alike = trained(seed=1, task=dataclasses.replace(tiny_config.task, seed=1), checkpoints=1)
    check_alike([tiny_run, alike], "subject")
    noisier = dataclasses.replace(tiny_config.task, noise=mm.LabelNoise(0.5))
    for other, said in ((trained(task=noisier, seed=1), "task.noise.fraction"), (trained(lr=0.02), "differ in lr")):
        with pytest.raises(ConfigError, match=said):
            check_alike([tiny_run, other], "subject")
    shutil.copytree(tiny_run.run.path, tmp_path / "copy")
    with pytest.raises(ConfigError, match="given twice"):
        check_alike([tiny_run, mm.load(tmp_path / "copy")], "subject")
    again = trained(evaluations=3)
    for state in (
        mm.load(tiny_run.run.path, step=0),
        mm.load(tmp_path / "copy", step=0),
        mm.load(again.run.path, step=0),
    ):
        with pytest.raises(
            ConfigError, match="must be networks of several trainings, but .* mm.over_training measures"
        ):
            check_alike([tiny_run, alike, state], "subject")


ALIKE = {
    "noise": lambda seed: task(given=noisy(seed)),
    "split": lambda seed: task(train=split(seed)),
    "noise and split": lambda seed: task(given=noisy(seed), train=split(seed)),
    "scaled by the training set": lambda seed: scaled(split(seed)),
    "unknown truth": lambda seed: task(given=TRUE, true=None, train=split(seed)),
    "copies left out": lambda seed: task(
        torch.cat([X[:280], X[:20]]), true=torch.cat([TRUE[:280], TRUE[:20]]), train=split(seed), copies="drop"
    ),
    "a data set": table,
    "a grid": lambda seed: mm.ModularTask(mm.ModularConfig(p=7, seed=seed, noise=mm.LabelNoise(0.2))),
    "images": lambda seed: mm.ImageTask(mm.ImageConfig("digits", seed=seed)),
    "a grammar": lambda seed: mm.GrammarTask(mm.GrammarConfig(vocabulary=8, length=12, train=50, test=9, seed=seed)),
}


@pytest.mark.parametrize("kind", ALIKE)
def test_tasks_may_differ_in_seeds_of_noise_and_split(kind):
    made = ALIKE[kind]
    check_alike([subject(made(seed), seed) for seed in range(3)], "subject")


OTHERS = {
    "the true labels are others": task(true=(TRUE + 1) % 3, given=(noisy(0) + 1) % 3),
    "the inputs are others, as of example 0": task(X.flip(0) * 1.01),
    "one has 300 examples, the other 200": task(X[:200], noisy(0)[:200], TRUE[:200], torch.arange(200) < 150),
    r"the shares of wrong labels are .* and 100.0%": task(given=(TRUE + 1) % 3),
}


@pytest.mark.parametrize("why", OTHERS)
def test_networks_of_other_data_are_not_pooled(why):
    both = [subject(task(), 0, "A"), subject(OTHERS[why], 1, "B")]
    for call in (
        lambda: mm.audit(both, ["raw"]),
        lambda: mm.example_scores(both, ["loss"]),
        lambda: mm.influence(both, [0], [160], method="grad_dot"),
    ):
        with pytest.raises(ConfigError, match=f"must be of the same data, .* 'B' and 'A' differ: {why}"):
            call()


def test_the_truth_of_examples_held_out_in_both_is_compared_where_no_other_is_known():
    others = [task(given=TRUE, true=None, train=split(seed)) for seed in range(2)]
    labels = torch.where(torch.arange(300) % 2 == 0, TRUE, (TRUE + 1) % 3)
    others.append(task(given=labels, true=None, train=split(1)))
    check_alike([subject(each, seed) for seed, each in enumerate(others[:2])], "subject")
    with pytest.raises(ConfigError, match=r"number 2 \('network'\) and number 1 .* the true labels are others"):
        check_alike([subject(each, seed) for seed, each in enumerate(others[::2])], "subject")


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (task(given=noisy(1)), "differ in labels of the examples"),
        (task(train=split(1)), "differ in training examples"),
        (task(X + 1e-3), "differ in inputs of the examples, as of 0"),
        (
            task(torch.where((torch.arange(300) == 299)[:, None], X + 1, X)),
            "differ in inputs of the examples, as of 299",
        ),
    ],
)
def test_figures_of_single_examples_are_averaged_over_the_same_examples_only(other, why):
    both = [subject(task(), 0, "A"), subject(other, 1, "B")]
    targets = torch.arange(240, 300)
    mm.audit(both, ["raw"])
    with pytest.raises(ConfigError, match=f"'B' and 'A' {why}"):
        mm.influence(both, [0], targets, method="grad_dot")
    if "299" not in why:
        with pytest.raises(ConfigError, match=f"'B' and 'A' {why}"):
            mm.example_scores(both, ["loss"])


def test_a_network_that_is_given_twice_is_told_by_its_place():
    made = subject(task(), 0)
    with pytest.raises(ConfigError, match=r"number 1 \('network'\) and number 2 .* one is given twice"):
        mm.influence([made, subject(task(), 0)], [0], [250], method="grad_dot")
    mm.influence([made, subject(task(), 1)], [0], [250], method="grad_dot")


def test_of_splits_of_other_sizes_the_least_is_told():
    tasks = [task(train=split(seed)) for seed in range(3)]
    card = mm.audit([subject(each, seed) for seed, each in enumerate(tasks)], ["raw"])
    assert card.rows[0].n_test == min(len(each.test_ids) for each in tasks)
    assert np.isclose(
        card.rows[0].splits["test"].estimate.value,
        np.mean(
            [
                mm.audit(subject(each, seed), ["raw"]).rows[0].splits["test"].estimate.value
                for seed, each in enumerate(tasks)
            ]
        ),
    )
