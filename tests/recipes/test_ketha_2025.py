"""What the recipe measures itself, on results whose figures are planted."""

import dataclasses
import math
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

import mechmem as mm
from mechmem.core.subject import Subject
from mechmem.layers.probe_layers import probe_layers
from mechmem.models.networks.build import build_model
from mechmem.models.networks.image_config import ImageMLPConfig
from mechmem.recipes.claims import COLUMNS
from mechmem.recipes.papers.ketha_2025 import CLAIMS, measured, redrawn, runs
from mechmem.recipes.trials import recipe
from mechmem.sweeps.cost import _examples, expected_seconds
from mechmem.tasks.build import build_task
from mechmem.tasks.config import LabelNoise
from mechmem.tasks.image_config import ImageConfig

N = 100
TRAINED, UNTRAINED = (60, 50, 70, 65, 40), (60, 80, 30, 20, 10)
"""Right answers on test of 100: on the pixels, then by layer."""


@pytest.fixture(scope="module")
def task():
    return build_task(ImageConfig(train=60, test=30))


def subject(task, **settings):
    model = build_model(ImageMLPConfig((6, 6, 8, 8)), task, 0)
    return Subject(model, task, model.roles, **settings)


def planted(task, chosen="layers.2.hook_hidden"):
    """Probes of four layers whose right answers on test are known."""
    found = probe_layers(subject(task), folds=0)
    correct = found.correct.clone()
    correct[0, :, 3], correct[1, :, 3] = torch.tensor(TRAINED), torch.tensor(UNTRAINED)
    return dataclasses.replace(found, correct=correct, n=torch.tensor([0, 0, 0, N]), chosen=chosen)


def figures(part, network):
    return {(quantity, None if math.isnan(x) else x): value for quantity, x, value in part(network)}


def test_the_layer_is_the_one_of_cross_validation_and_the_one_best_on_test_is_called_so(task, monkeypatch):
    probed = planted(task)
    monkeypatch.setattr(measured, "probe_layers", lambda *_args, **_settings: probed)
    found = figures(measured.layers("MASC"), subject(task))
    assert found["MASC", None] == 0.65
    assert found["MASC before training", None] == 0.2, "the same layer, not the best one"
    assert found["MASC, best layer", None] == 0.7
    assert found["MASC before training, best layer", None] == 0.8
    assert found["MASC on pixels", None] == 0.6
    assert [found["MASC, by layer", float(each)] for each in (1, 2, 3, 4)] == [0.5, 0.7, 0.65, 0.4]
    unknown = planted(task, chosen="")
    monkeypatch.setattr(measured, "probe_layers", lambda *_args, **_settings: unknown)
    assert math.isnan(figures(measured.layers("MASC"), subject(task))["MASC", None])


def test_thirds_leave_the_pixels_and_the_output_out(task, monkeypatch):
    probed = planted(task)
    monkeypatch.setattr(measured, "probe_layers", lambda *_args, **_settings: probed)
    found = figures(measured.thirds, subject(task))
    assert list(found.values()) == [0.5, 0.4]


def test_losses_are_counted_from_the_networks_own_peak_after_the_first_step(task, monkeypatch):
    curves = {"raw": [0.99, 0.3, 0.8, 0.6], "masc@hidden.3": [0.95, 0.5, 0.7, 0.65]}

    def frame(name):
        tests = [
            {"step": step, "split": "test", "value": value}
            for step, value in zip((0, 1, 10, 99), curves[name], strict=True)
        ]
        return pd.DataFrame([*tests, {"step": 1, "split": "train_clean", "value": 1.0}])

    monkeypatch.setattr(measured, "over_training", lambda *_args: SimpleNamespace(frame=frame))
    history = pd.DataFrame({"step": [0, 99], "train_clean": [0.1, 1.0], "train_noisy": [0.1, 0.9]})
    monkeypatch.setattr(measured, "_run", lambda _subject: SimpleNamespace(history=lambda: history))
    found = figures(measured.during_training, subject(task))
    assert found["network: lost since the network's peak", None] == pytest.approx(0.2)
    assert found["MASC on the last layer: lost since the network's peak", None] == pytest.approx(0.05)
    assert found["train noisy during training", 99.0] == 0.9


@pytest.mark.slow
def test_a_clean_trained_network_is_probed_by_the_labels_of_the_noisy_arms(task, monkeypatch):
    config = SimpleNamespace(task=task.config)
    monkeypatch.setattr(measured, "_run", lambda _subject: SimpleNamespace(config=config))
    network = subject(task)
    found = figures(measured.clean_trained, network)
    for xi in runs.MEMORIZING:
        noisy = build_task(dataclasses.replace(task.config, noise=LabelNoise(xi, "any")))
        probed = mm.probe_layers(network.model, noisy)
        assert found[measured.CLEAN_MASC, xi] == probed.table()["trained"][probed.chosen]
    config.task = dataclasses.replace(task.config, noise=LabelNoise(0.4))
    assert not list(measured.clean_trained(subject(task)))


def test_a_probe_that_cannot_be_fitted_takes_no_other_measurement_with_it(task):
    network = subject(task)
    with torch.no_grad():
        network.model.layers[2].linear.weight.zero_()
        network.model.layers[2].linear.bias.zero_()
    found = figures(measured.readouts("qda@hidden.2", "class_mean@inputs"), network)
    assert math.isnan(found["test of qda@hidden.2", None])
    assert found["test of class_mean@inputs", None] > 0.5


def test_velpic_is_masc_of_one_component(task):
    assert figures(measured.velpic, subject(task))["|VeLPIC − MASC of one component|", None] == 0


def test_curves_stand_over_the_share_of_noise():
    rows = [
        (arm, 0, quantity, x, value)
        for arm, xi, test in (("b", 0.8, 0.3), ("a", 0.2, 0.9))
        for quantity, x, value in (("xi", math.nan, xi), ("test", math.nan, test), (measured.CLEAN_MASC, xi, 0.5))
    ]
    figure = redrawn.noise_curve("test", measured.CLEAN_MASC)(pd.DataFrame(rows, columns=list(COLUMNS)))
    drawn = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data}
    assert drawn == {"network": ([0.2, 0.8], [0.9, 0.3]), "MASC, clean-trained network": ([0.2, 0.8], [0.5, 0.5])}


def test_single_figures_stand_across_all_layers():
    rows = [("a", 0, "MASC, by layer", x, 0.5 + x / 10) for x in (1.0, 2.0, 3.0)] + [("a", 0, "test", math.nan, 0.4)]
    figure = redrawn.by_layer("MASC", levels=("test",))(pd.DataFrame(rows, columns=list(COLUMNS)))
    drawn = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data}
    assert drawn == {"MASC, given labels": ([1, 2, 3], [0.6, 0.7, 0.8]), "network": ([1, 2, 3], [0.4, 0.4, 0.4])}


def test_every_claim_rests_on_networks_that_fit_their_labels():
    for claim in CLAIMS:
        premises = {condition.of.arm for condition in claim.premises}
        for condition in claim.conditions:
            for value in (condition.of,) if hasattr(condition.of, "arm") else (condition.of.more, condition.of.less):
                assert value.arm in premises, (claim.key, value.arm)


@pytest.mark.parametrize("sizes", [{}, {"train": 120, "test": 60}, {"train": 120}])
def test_how_many_images_a_run_takes_is_known_without_reading_them(sizes):
    config = ImageConfig(**sizes)
    built = build_task(config)
    assert _examples(config) == (len(built.train_ids), len(built.ids))
    assert _examples(ImageConfig(data="mnist", **sizes))[0] == (sizes or {"train": 60_000})["train"]


def test_the_papers_own_scale_can_be_told_without_its_data():
    trials = recipe("ketha_2025").trials("paper").values()
    assert {(type(config.model).__name__, config.task.data) for config in trials} == {
        ("ImageMLPConfig", "mnist"), ("ImageMLPConfig", "cifar10"), ("CNNConfig", "fashion_mnist"),
        ("ResNetConfig", "cifar10"),
    }  # fmt: skip
    assert min(expected_seconds({config.digest: config for config in trials}, lambda _: 5e10).values()) > 3600
