"""Influence by gradients and curvatures: against formulas written out in float64, dattri, and leaving examples out."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plugin_names import example_score
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError, NotFiniteError, UnknownNameError
from mechmem.examples.example_gradients import ExampleGradients
from mechmem.models.reading.kronecker_factors import drawn_labels

METHODS = ("grad_dot", "datainf", "ekfac_influence", "trak", "knn_shapley@inputs")


def subject_of(model, *shape, n=40, held=6, classes=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    given = torch.randint(classes, (n + held,), generator=draw)
    inputs = torch.randn(n + held, *shape, generator=draw, dtype=torch.float64)
    return mm.Subject(model.double(), mm.ArrayTask(inputs, given, given, torch.arange(n + held) < n))


def deep(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3, bias=False))


def convolutions(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(12, 3))


@pytest.mark.parametrize("method", METHODS[:-1])
@pytest.mark.parametrize("make", [deep, convolutions])
def test_a_score_is_the_influence_of_an_example_on_itself(method, make):
    subject = subject_of(make(), *((4,) if make is deep else (2, 4, 4)))
    ids = subject.task.train_ids
    own, found = example_score(method)(subject), mm.influence(subject, targets=ids, method=method)
    torch.testing.assert_close(found.values.diagonal().double(), own.values, rtol=1e-4, atol=1e-8)
    some = mm.influence(subject, ids[[5, 2]], subject.task.test_ids[:3], method=method)
    whole = mm.influence(subject, targets=subject.task.test_ids, method=method)
    torch.testing.assert_close(some.values, whole.values[:3][:, [5, 2]], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("scale", [1e12, 1e25, 1e36])
def test_what_is_too_large_for_numbers_is_said_and_stops_no_other_score(scale):
    torch.manual_seed(0)
    inputs, given = torch.randn(46, 4) * scale, torch.arange(46) % 3
    task = mm.ArrayTask(inputs, given, given, torch.arange(46) < 40)
    subject = mm.Subject(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), task)
    table = mm.example_scores(subject, METHODS[:-1])
    assert "loss" in table.scores and all(each.values.isfinite().all() for each in table.scores.values())
    for method in METHODS[:-1]:
        try:
            assert mm.influence(subject, method=method).values.isfinite().all()
        except NotFiniteError as error:
            assert "NaN or infinite" in str(error)
            assert scale > 1e20 and method in table.reasons


def test_products_of_gradients():
    subject = subject_of(deep(), 4)
    rows = ExampleGradients(subject)(subject.task.ids)
    found = mm.influence(subject, targets=subject.task.test_ids, method="grad_dot")
    torch.testing.assert_close(found.values, (rows[40:] @ rows[:40].T / 40).float())


def by_definition(rows, layers, damping):
    """DataInf written out: the inverse of every rank-one curvature, and their mean."""
    found = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for columns in layers:
        own = rows[:, columns]
        shift = damping * float(own.square().mean())
        inverses = [torch.linalg.inv(torch.outer(g, g) + shift * torch.eye(len(g), dtype=g.dtype)) for g in own]
        found += own @ torch.stack(inverses).mean(0) @ own.T
    return found / len(rows)


def test_datainf_is_the_mean_of_inverses():
    subject = subject_of(deep(), 4)
    gradients = ExampleGradients(subject)
    expected = by_definition(gradients(subject.task.train_ids), gradients.layers().values(), 0.1)
    torch.testing.assert_close(example_score("datainf")(subject).values, expected.diagonal())
    found = mm.influence(subject, targets=subject.task.train_ids, method="datainf")
    torch.testing.assert_close(found.values, expected.float(), rtol=1e-4, atol=1e-6)
    few = example_score("datainf(examples=7)")(subject)
    assert few.note == "curvature of 7 examples" and not torch.allclose(few.values, expected.diagonal())


def test_datainf_is_that_of_dattri():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from dattri.algorithm.influence_function import IFAttributorDataInf
        from dattri.task import AttributionTask

    torch.manual_seed(0)
    subject = subject_of(nn.Linear(4, 3), 4)
    # dattri adds up in torch's default precision.
    task, labels = subject.task, subject.task.given(subject.task.ids)
    task = mm.ArrayTask(task.inputs.float(), labels, labels, torch.arange(46) < 40)
    subject = mm.Subject(subject.model.float(), task)
    model, (inputs, given) = subject.model, subject.task.batch(subject.task.train_ids)
    shift = 0.1 * float(ExampleGradients(subject)(subject.task.train_ids).square().mean())

    def loss(values, example):
        return F.cross_entropy(torch.func.functional_call(model, values, (example[0],)), example[1])

    attributor = IFAttributorDataInf(AttributionTask(loss, model, model.state_dict()), regularization=shift)
    loader = DataLoader(TensorDataset(inputs, given), batch_size=40)
    attributor.cache(loader)
    expected = attributor.attribute(loader, loader).T / 40
    found = mm.influence(subject, targets=subject.task.train_ids, method="datainf")
    torch.testing.assert_close(found.values, expected, rtol=1e-3, atol=1e-4)


def inputs_of(name, module, x):
    """The vectors that a layer multiplies, by hand."""
    if isinstance(module, nn.Linear):
        return F.pad(x, (0, 1), value=1.0) if module.bias is not None else x
    x = F.pad(x, (1, 1, 1, 1))
    patches = [x[:, :, i : i + 3, j : j + 3].flatten(1) for i in range(0, 4, 2) for j in range(0, 4, 2)]
    return F.pad(torch.stack(patches, 1), (0, 1), value=1.0).flatten(0, 1)


def fisher_written_out(subject, labels, damping):
    """The damped EK-FAC matrix of every layer, as one dense matrix per layer over weight and bias side by side."""
    model, ids = subject.model, subject.task.train_ids
    held = {}

    def keep(name):
        def hook(module, x, out):
            held[name] = x[0].detach(), out
            return out.clone()  # the next layer changes it in place

        return hook

    layers = {name: each for name, each in model.named_modules() if isinstance(each, nn.Linear | nn.Conv2d)}
    handles = [each.register_forward_hook(keep(name)) for name, each in layers.items()]
    loss = F.cross_entropy(model(subject.task.batch(ids)[0]), labels, reduction="sum")
    for handle in handles:
        handle.remove()
    found = {}
    for name, (x, out) in held.items():
        (slope,) = torch.autograd.grad(loss, out, retain_graph=True)
        slope = slope.flatten(2).mT.flatten(0, 1) if slope.ndim == 4 else slope
        a = inputs_of(name, model.get_submodule(name), x)
        outputs, inputs = (torch.linalg.eigh(each.T @ each)[1].contiguous() for each in (slope, a))
        basis = torch.kron(outputs, inputs)
        rows = matrices(subject, ids, labels, name).flatten(1)
        scale = (rows @ basis).square().mean(0)
        found[name] = basis @ torch.diag(scale + damping * scale.mean()) @ basis.T
    return found


def matrices(subject, ids, labels, name):
    parts = ExampleGradients(subject)
    split = parts.split(parts(ids, labels))
    weight = split[f"{name}.weight"].flatten(2)
    return torch.cat([weight, split[f"{name}.bias"][:, :, None]], 2) if f"{name}.bias" in split else weight


@pytest.mark.parametrize("make", [deep, convolutions])
def test_ekfac_is_the_matrix_written_out(make):
    subject = subject_of(make(), *((4,) if make is deep else (2, 4, 4)))
    ids = subject.task.train_ids
    fisher = fisher_written_out(subject, drawn_labels(subject, ids, 0), 0.1)
    expected = torch.zeros(40, 40, dtype=torch.float64)
    for name, matrix in fisher.items():
        rows = matrices(subject, ids, subject.task.given(ids), name).flatten(1)
        expected += rows @ torch.linalg.solve(matrix, rows.T) / 40
    torch.testing.assert_close(example_score("ekfac_influence")(subject).values, expected.diagonal(), rtol=1e-8, atol=0)
    found = mm.influence(subject, targets=ids, method="ekfac_influence")
    torch.testing.assert_close(found.values, expected.float(), rtol=1e-3, atol=1e-5)


def test_ekfac_of_one_example_is_the_exact_fisher_matrix():
    """With one example, each layer's Fisher matrix is the outer product of a gradient, which has Kronecker factors."""
    subject = subject_of(deep(), 4, n=1)
    ids = subject.task.train_ids
    drawn = drawn_labels(subject, ids, 0)
    subject.task._given[ids] = drawn
    rows, parts = ExampleGradients(subject)(ids)[0], ExampleGradients(subject).layers()
    expected = 0.0
    for columns in parts.values():
        g = rows[columns]
        fisher = torch.outer(g, g) + 0.1 * float(g @ g) / len(g) * torch.eye(len(g), dtype=g.dtype)
        expected += float(g @ torch.linalg.solve(fisher, g))
    assert float(example_score("ekfac_influence")(subject).values) == pytest.approx(expected, rel=1e-8)


def test_labels_are_drawn_from_the_network():
    subject = subject_of(nn.Linear(4, 3), 4, n=3000)
    ids = subject.task.train_ids
    with torch.no_grad():
        likely = subject.model(subject.task.batch(ids)[0]).softmax(1)
    drawn = F.one_hot(drawn_labels(subject, ids, 0), 3).double()
    assert (drawn.mean(0) - likely.mean(0)).abs().max() < 0.03
    assert ((drawn - likely) * likely).mean(0).abs().max() < 0.02


def test_ekfac_names_what_it_cannot_treat():
    grouped = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Flatten(), nn.Linear(16, 3))
    with pytest.raises(MissingNeedError, match=r"include 0.weight \(Conv2d\), 0.bias \(Conv2d\)"):
        example_score("ekfac_influence")(subject_of(grouped, 2, 4, 4))
    assert example_score("ekfac_influence(parameters=2.*)")(subject_of(grouped, 2, 4, 4)).note
    normed = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3)).eval()
    found = example_score("ekfac_influence")(subject_of(normed, 2, 4, 4))
    assert "without the 2 parameters of normalizations" in found.note
    with pytest.raises(MissingNeedError, match=r"include 1.weight \(BatchNorm2d\)"):
        example_score("ekfac_influence(parameters=1.weight)")(subject_of(normed, 2, 4, 4))
    with pytest.raises(MissingNeedError, match="needs linear_layers"):
        example_score("ekfac_influence")(subject_of(nn.LayerNorm(3), 3))

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.last(self.inner(self.inner(x).tanh()))

    with pytest.raises(MissingNeedError, match="'inner' acts several times"):
        example_score("ekfac_influence")(subject_of(Twice(), 4))


def test_a_network_too_large_for_datainf_is_told_what_to_do(monkeypatch):
    monkeypatch.setattr("mechmem.examples.example_gradients.MOST_HELD", 1000)
    subject = subject_of(deep(), 4)
    with pytest.raises(MissingNeedError, match=r"choose parameters, such as \"2.weight\", or fewer examples"):
        example_score("datainf")(subject)
    assert example_score("datainf(parameters=2.weight)")(subject).values.shape == (40,)


@pytest.mark.parametrize("method", ["datainf(damping=0.001)", "ekfac_influence(damping=0.001)", "trak(damping=0.001)"])
def test_influence_has_the_order_of_leaving_one_out_on_a_convex_problem(method):
    """Logistic regression trained to its optimum: leaving an example out has one exact answer."""
    subject = subject_of(nn.Linear(4, 2), 4, n=120, held=8, classes=2, seed=3)
    inputs, given = subject.task.batch(subject.task.train_ids)
    tests, truth = subject.task.batch(subject.task.test_ids)

    def fitted(keep):
        model = LogisticRegression(C=10.0, tol=1e-10, max_iter=5000)
        return model.fit(inputs[keep].numpy(), given[keep].numpy())

    def losses(model):
        return -model.predict_log_proba(tests.numpy())[np.arange(8), truth.numpy()]

    whole = fitted(np.arange(120))
    with torch.no_grad():
        subject.model.weight.copy_(torch.tensor(np.concatenate([-whole.coef_, whole.coef_]) / 2))
        subject.model.bias.copy_(torch.tensor(np.concatenate([-whole.intercept_, whole.intercept_]) / 2))
    effect = np.stack([losses(fitted(np.delete(np.arange(120), each))) - losses(whole) for each in range(120)], 1)
    found = mm.influence(subject, method=method).values.numpy()
    assert np.mean([np.corrcoef(one, two)[0, 1] for one, two in zip(found, effect, strict=True)]) > 0.85


def test_methods_have_names_and_settings():
    subject = subject_of(deep(), 4)
    found = mm.influence(subject, targets=subject.task.test_ids, method="datainf(damping=0.2)")
    assert found.method == "datainf(damping=0.2)" and found.unit == "nats" and found.networks == 1
    assert "curvature of 40 examples" in found.note
    assert "(nats)" in found.plot().data[0].colorbar.title.text
    assert "(logits)" in mm.influence(subject, method="trak").plot().data[0].colorbar.title.text
    with pytest.raises(UnknownNameError, match="no method of influence 'loss'.*datainf.*turn_over"):
        mm.influence(subject, method="loss")
    with pytest.raises(ConfigError, match="damping"):
        mm.influence(subject, method="datainf(damping=0)")
    with pytest.raises(MissingNeedError, match="no turn-over"):
        mm.influence(subject)


@pytest.mark.parametrize("method", METHODS)
def test_the_mean_over_networks_has_an_error(method):
    subjects = [subject_of(deep(seed), 4) for seed in range(3)]
    found = mm.influence(subjects, method=method)
    each = torch.stack([mm.influence(one, method=method).values for one in subjects])
    torch.testing.assert_close(found.values, each.mean(0))
    torch.testing.assert_close(found.errors, each.std(0) / 3**0.5)
