"""Probes of layers: planted layers whose answer is known, scikit-learn beside them, and what is never looked at."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.covariance import ShrunkCovariance
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.errors import ActivationError, ConfigError, MissingNeedError, UnknownNameError
from mechmem.layers.classifiers.masc import MinimumAngleSubspaces
from mechmem.layers.features import INPUTS, layer_features, layer_point
from mechmem.layers.probe_layers import LayerProbes, probe_layers
from mechmem.scorecard.extractor import extractor

CLASSES, SIDE = 3, 6


class Layers(HookedRootModule):
    """A first layer in which classes are rays, a second that forgets, and an output that is always class 0."""

    def __init__(self, *, blind=False):
        super().__init__()
        self.rays = nn.Parameter(torch.zeros(1, 1) if blind else torch.ones(1, 1))
        self.hook_rays, self.hook_image, self.hook_nothing, self.hook_out = (HookPoint() for _ in range(4))
        self.roles = mm.Roles(hidden=("hook_rays", "hook_nothing"))
        self.setup()

    def forward(self, x):
        # The input holds the class in its first entry, and noise in the others.
        rays = torch.nn.functional.one_hot(x[:, 0].long(), CLASSES) * (0.5 + x[:, 1:2].abs()) + 0.05 * x[:, 2:5]
        held = self.hook_rays(torch.where(self.rays > 0, rays, x[:, 2:5]))
        image = self.hook_image(held[:, :, None, None].repeat(1, 1, 2, 2) + torch.tensor([1.0, -1.0])[None, None, None])
        nothing = self.hook_nothing(x[:, 2:] + 0 * image.sum())
        return self.hook_out(torch.tensor([1.0, 0, 0]).repeat(len(x), 1) + 0 * nothing.sum())


def layered(noise=0.3, n=240, *, known=True, **settings):
    draw = torch.Generator().manual_seed(0)
    true = torch.arange(n) % CLASSES
    inputs = torch.cat([true[:, None].float(), torch.randn(n, SIDE - 1, generator=draw)], 1)
    train = torch.arange(n) < n // 2
    wrong = train & (torch.rand(n, generator=draw) < noise)
    given = torch.where(wrong, (true + 1) % CLASSES, true)
    truth = torch.where(train, -1, true) if not known else true
    model = Layers(**settings)
    return mm.Subject(model, mm.ArrayTask(inputs, given, truth, train), model.roles)


def test_the_layer_that_knows_is_found_and_the_output_that_does_not_stands_beside_it():
    subject = layered()
    found = probe_layers(subject, probe="class_mean", untrained=Layers(blind=True))
    table = found.table()
    assert found.layers == (INPUTS, "hook_rays", "hook_nothing")
    assert table.loc["hook_rays", "trained"] == 1 and table.loc["hook_nothing", "trained"] < 0.6
    assert table.loc["hook_rays", "untrained"] < 0.6 and np.isnan(table.loc[INPUTS, "untrained"])
    assert table.loc["output", "trained"] == pytest.approx(1 / 3)
    assert found.chosen == "hook_rays"
    frame = found.to_frame()
    rows = frame.loc[(frame["layer"] == "hook_rays") & (frame["network"] == "trained")].set_index("split")
    # Fitted to wrong labels, it gives the right ones.
    assert rows.loc["train_noisy", "accuracy"] == 0 and rows.loc["train_noisy_true", "accuracy"] == 1
    assert rows["n"].to_dict() == {name: len(ids) for name, ids in counts(subject).items()}


def counts(subject):
    splits = subject.task.splits
    return {**splits, "train_noisy_true": splits["train_noisy"]}


REFERENCES = {
    "masc": lambda: MinimumAngleSubspaces(),
    "masc(variance=0.5)": lambda: MinimumAngleSubspaces(0.5),
    "knn(k=7)": lambda: KNeighborsClassifier(7, metric="cosine"),
    "linear_probe": lambda: LogisticRegression(max_iter=1000),
    "qda": lambda: QuadraticDiscriminantAnalysis(solver="eigen", covariance_estimator=ShrunkCovariance(shrinkage=0.1)),
}


@pytest.mark.parametrize("probe", REFERENCES)
@pytest.mark.parametrize("labels", ["given", "true"])
def test_a_probe_is_the_classifier_on_the_layer(probe, labels):
    subject = layered()
    task = subject.task
    name = f"{probe[:-1]},labels={labels})" if "(" in probe else f"{probe}(labels={labels})"
    read = extractor(f"{name}@hook_rays")(subject)
    held = {
        key: mm.activations(subject, "hook_rays", ids=ids)["hook_rays"].double().numpy()
        for key, ids in (("train", task.train_ids), ("test", task.test_ids))
    }
    if probe == "linear_probe":
        scaler = StandardScaler().fit(held["train"])
        held = {key: scaler.transform(x) for key, x in held.items()}
    y = task.given(task.train_ids) if labels == "given" else task.true(task.train_ids)
    reference = REFERENCES[probe]().fit(held["train"], y.numpy())
    assert (read(task.test_ids).argmax(1).numpy() == reference.predict(held["test"])).all()


def test_cross_validation_is_scikit_learn_s_on_the_labels_of_the_probe():
    subject = layered()
    found = probe_layers(subject, folds=4, seed=3, points="hook_rays")
    held = mm.activations(subject, "hook_rays")["hook_rays"].numpy()
    parts = StratifiedKFold(4, shuffle=True, random_state=3)
    given = subject.task.given(subject.task.train_ids).numpy()
    expected = cross_val_score(MinimumAngleSubspaces(), held, given, cv=parts).mean()
    assert float(found.cross_validated[1]) == pytest.approx(expected)


@pytest.mark.parametrize("labels", ["given", "true"])
def test_the_choice_knows_no_test_label_and_no_label_that_is_not_told(labels):
    subject = layered()
    task = subject.task
    arrays = {"inputs": task.inputs, "given": task.given(task.ids), "true": task.true(task.ids).clone()}
    train = torch.isin(task.ids, task.train_ids)
    arrays["true"][task.test_ids] = (arrays["true"][task.test_ids] + 1) % CLASSES
    if labels == "given":
        arrays["true"][task.train_ids] = (arrays["true"][task.train_ids] + 1) % CLASSES
    other = dataclasses.replace(subject, task=mm.ArrayTask(train=train, **arrays))
    one, two = (probe_layers(each, probe="class_mean", labels=labels) for each in (subject, other))
    assert one.chosen == two.chosen and torch.equal(one.cross_validated, two.cross_validated)


def test_names_of_layers():
    subject = layered()
    assert [layer_point(subject, point) for point in ("", "hidden.0", "hidden.1", "hook_image", "inputs")] == [
        "hook_nothing", "hook_rays", "hook_nothing", "hook_image", "inputs",
    ]  # fmt: skip
    with pytest.raises(UnknownNameError, match="the role hidden names 2"):
        layer_point(subject, "hidden.2")
    with pytest.raises(MissingNeedError, match="role 'hidden'"):
        layer_point(dataclasses.replace(subject, roles=mm.Roles()))
    chain = extractor("masc(variance=0.5)@hidden.0")
    assert chain.name == "masc(variance=0.5)@hidden.0" and extractor(chain.name) == chain
    assert chain.control().name == "masc(variance=0.5)@inputs" and chain.control().control() is None
    assert chain.knows == {"given_labels"} and extractor("knn(labels=true)@inputs").knows == {"true_train_labels"}
    assert extractor("masc").missing(dataclasses.replace(subject, roles=mm.Roles())) == ["role:hidden"]


def test_a_point_with_rows_and_columns_is_flattened_or_averaged():
    subject = layered()
    ids = subject.task.test_ids[:5]
    flat, mean = (layer_features(subject, "hook_image", ids, pool) for pool in ("none", "mean"))
    held = mm.activations(subject, "hook_image", ids=ids)["hook_image"]
    assert torch.equal(flat, held.flatten(1)) and flat.shape == (5, 12)
    torch.testing.assert_close(mean, held.mean((2, 3)))
    assert torch.equal(layer_features(subject, "inputs", ids), subject.task.inputs[ids])
    with pytest.raises(ActivationError, match="no axis after its channels"):
        layer_features(subject, "hook_rays", ids, "mean")


def test_a_class_that_was_never_given_is_never_chosen():
    subject = layered()
    task = subject.task
    given = torch.where(task.given(task.ids) == 2, 1, task.given(task.ids))
    train = torch.isin(task.ids, task.train_ids)
    task = mm.ArrayTask(task.inputs, given, task.true(task.ids), train, n_classes=5)
    for probe in ("masc", "knn", "linear_probe"):
        scores = extractor(f"{probe}@hook_rays")(dataclasses.replace(subject, task=task))(task.test_ids)
        assert scores.shape == (120, 5) and scores.isfinite().all()
        assert set(scores.argmax(1).tolist()) <= {0, 1}
        assert (scores[:, 2:] < scores[:, :2].min(1, keepdim=True).values).all()


def test_what_is_not_known_is_said(tmp_path):
    found = probe_layers(layered(known=False), folds=0)
    assert "neither a run with step 0 nor a retrainer" in found.note and "folds is 0" in found.note
    assert found.chosen == "" and found.n.tolist() == [0, 0, 0, 120]
    assert found.to_frame().query("split == 'train_clean'")["accuracy"].isna().all()
    with pytest.raises(MissingNeedError, match="true labels of the training examples are not known"):
        probe_layers(layered(known=False), labels="true")
    found.save(tmp_path / "r.safetensors")
    pd.testing.assert_frame_equal(LayerProbes.load(tmp_path / "r.safetensors").to_frame(), found.to_frame())


def test_the_figure_has_both_networks_and_both_levels():
    found = probe_layers(layered(), untrained=Layers(blind=True))
    figure = found.plot()
    names = [trace.name for trace in figure.data if trace.showlegend is not False]
    lower = [trace for trace in figure.data if trace.yaxis == "y2"]
    assert [trace.name for trace in lower] == ["gap (noise not fitted)"]
    np.testing.assert_allclose(lower[0].y, found.benign_gap()["gap"])
    assert names[:2] == ["trained network", "before training"]
    assert names[2].startswith("masc on the inputs alone: ") and names[3] == "the network's own output: 0.333"
    assert list(figure.layout.xaxis.ticktext) == ["hook_rays", "hook_nothing"]
    assert "cross-validation" in figure.layout.annotations[-1].text
    with pytest.raises(ConfigError, match="one of train_clean"):
        found.plot("train")


def test_refusals():
    subject = layered()
    for settings, error, said in (
        ({"probe": "maskc"}, UnknownNameError, "Did you mean 'masc'"),
        ({"probe": "logits"}, ConfigError, "is not a probe of layers; probes are class_mean"),
        ({"probe": "masc@hidden.0"}, ConfigError, "named by points="),
        ({"probe": "masc(variance=2)"}, ConfigError, "share of the variance"),
        ({"points": "hook_ray"}, UnknownNameError, "Did you mean 'hook_rays'"),
        ({"labels": "wrong"}, UnknownNameError, "labels of a probe"),
        ({"folds": -1}, ConfigError, "folds must be a whole number"),
        ({"probe": "knn(kk=3)"}, UnknownNameError, "Did you mean 'k'"),
        ({"probe": "knn(20)"}, ConfigError, "name its settings"),
        ({"limit_mb": -1}, ConfigError, "limit_mb"),
        ({"untrained": "before.pt"}, ConfigError, "untrained must be a network .*got 'before.pt'"),
        ({"clean_labels": "yes"}, ConfigError, "clean_labels must be True or False or a network .*got 'yes'"),
        (
            {"clean_labels": True},
            MissingNeedError,
            "no clean-label twin: the network has no retrainer; pass the",
        ),
    ):
        with pytest.raises(error, match=said):
            probe_layers(subject, **settings)
    with pytest.raises(MissingNeedError, match="points=, or the role hidden"):
        probe_layers(dataclasses.replace(subject, roles=mm.Roles()))


def test_labels_may_be_the_probe_s_own_setting(tiny_run):
    for one, other in (
        (("masc(labels=true)", None), ("masc", "true")),
        (("masc(labels=true)", "given"), ("masc", None)),
    ):
        found = [mm.probe_layers(tiny_run, probe=probe, labels=labels).to_frame() for probe, labels in (one, other)]
        assert found[0].equals(found[1])
