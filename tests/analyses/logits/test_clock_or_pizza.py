"""Both figures on a clock and a pizza whose logits are known cosines."""

import dataclasses

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from planted_algorithms import Clock, Pizza, subject_of
from small_transformer import small_transformer

import mechmem as mm
from mechmem.analyses.logits.clock_or_pizza import PUBLISHED, ClockOrPizza
from mechmem.errors import ActivationError, ConfigError, MissingNeedError
from mechmem.models.networks.mlp import HookedMLP

P, FREQUENCIES = 13, [2, 5]


def cosines(a, b):
    """Mean over frequencies of cos ω_k(a − b): what a clock's gradients make, whatever the class."""
    return np.mean([np.cos(2 * np.pi * k * (a - b) / P) for k in FREQUENCIES], 0)


def bias(draw):
    return torch.randn(P, generator=draw, dtype=torch.float64)


def test_the_planted_modules_compute_what_they_say():
    a, b = np.divmod(np.arange(P * P), P)
    c = np.arange(P)[:, None]
    for model, factor in ((Clock, lambda w: 1), (Pizza, lambda w: abs(np.cos(w * (a - b) / 2)))):
        expected = sum(factor(w) * np.cos(w * (a + b - c)) for w in (2 * np.pi * np.array(FREQUENCIES) / P).tolist())
        subject = subject_of(model(P, FREQUENCIES), P)
        np.testing.assert_allclose(mm.extractor("raw")(subject)(subject.task.ids), expected.T, atol=1e-12)


def test_a_clock(draw):
    result = ClockOrPizza(triples=P**3)(subject_of(Clock(P, FREQUENCIES, bias(draw)), P))
    a, b, _ = result.triples.numpy().T
    np.testing.assert_allclose(result.network.similarity, cosines(a, b), atol=1e-12)
    # Over all triples every frequency's cosine averages to nothing.
    assert result.network.symmetricity.value == pytest.approx(0, abs=1e-12)
    assert result.network.symmetricity.n == P**3 and result.network.space == "hook_embed"
    # Right answers' logits differ by the class's bias alone, alike at every distance.
    assert result.network.irrelevance.value == pytest.approx(1, abs=1e-12)


def test_a_pizza(draw):
    own = bias(draw)
    result = ClockOrPizza()(subject_of(Pizza(P, FREQUENCIES, own), P))
    np.testing.assert_allclose(result.network.similarity, 1, atol=1e-12)
    assert result.network.symmetricity.value == pytest.approx(1, abs=1e-12)
    # The logit is a function of the distance plus the class's bias, which are independent of each other.
    slices = sum(abs(np.cos(np.pi * k * np.arange(P) / P)) for k in FREQUENCIES)
    expected = own.numpy().std() / np.sqrt(own.numpy().var() + slices.var())
    assert 0.2 < expected < 0.95
    assert result.network.irrelevance.value == pytest.approx(expected, rel=1e-10)
    np.testing.assert_allclose(result.network.mean, slices + own.numpy().mean(), atol=1e-12)
    plain = ClockOrPizza()(subject_of(Pizza(P, FREQUENCIES), P))
    assert plain.network.irrelevance.value == pytest.approx(0, abs=1e-12)


def test_a_pure_clock_has_no_irrelevance():
    result = ClockOrPizza()(subject_of(Clock(P, FREQUENCIES), P))
    assert result.network.irrelevance is None and "same logit" in result.network.irrelevance_note
    frame = result.to_frame()
    assert frame.loc[frame["figure"] == "distance irrelevance", "value"].isna().all()
    assert isinstance(result.plot(), go.Figure)


def test_the_sample_is_of_triples_and_its_interval_covers_the_whole(draw):
    subject = subject_of(Clock(P, FREQUENCIES, bias(draw)), P)
    few = ClockOrPizza(triples=200)(subject)
    assert len(few.triples) == 200 and len(few.triples.unique(dim=0)) == 200
    assert few.network.symmetricity.low < 0 < few.network.symmetricity.high
    again, other = ClockOrPizza(triples=200)(subject), ClockOrPizza(triples=200, seed=1)(subject)
    assert torch.equal(few.triples, again.triples) and not torch.equal(few.triples, other.triples)
    assert few.to_frame().equals(again.to_frame())


def test_irrelevance_of_a_transformer_is_the_published_formula():
    subject = small_transformer(9)
    logits = mm.extractor("raw")(subject)(subject.task.ids).numpy()
    table = np.zeros((9, 9))
    for cell, (a, b) in enumerate(subject.task.operands.tolist()):
        table[(a + b) % 9, (a - b) % 9] = logits[cell, (a + b) % 9]
    expected = np.mean(np.std(table, axis=0)) / np.std(table.flatten())
    result = ClockOrPizza(triples=20)(subject)
    assert result.network.irrelevance.value == pytest.approx(expected, rel=1e-12)
    assert result.network.irrelevance.n == 9 and result.network.space == "blocks.0.hook_resid_pre"


@pytest.mark.parametrize("point", ["hook_embed", "blocks.0.hook_resid_pre"])
def test_any_point_before_the_operands_meet_gives_the_same_symmetricity(point):
    subject = small_transformer()
    found, default = (ClockOrPizza(triples=50, point=name)(subject).network for name in (point, ""))
    torch.testing.assert_close(found.similarity, default.similarity)


@pytest.mark.parametrize(("op", "sign"), [("add", 1), ("subtract", -1)])
def test_the_analytic_mlp_is_a_clock_on_one_hot_inputs(op, sign):
    """Its logits are δ(a ± b − c), so that x_a and x_b are multiplied: the gradients point at c ∓ b and ±(c − a)."""
    net = mm.planted_network(7, op=op, width=9000, dtype=torch.float64)
    result = ClockOrPizza(triples=343)(net.subject)
    a, b, c = result.triples.T
    expected = torch.where((c - sign * b) % 7 == (sign * (c - a)) % 7, 1.0, -1 / 6).double()
    torch.testing.assert_close(result.network.similarity, expected, atol=0.15, rtol=0)
    assert result.network.symmetricity.value == pytest.approx(float(expected.mean()), abs=0.02)
    assert result.distance == {"add": "a − b", "subtract": "a + b"}[op]


def test_multiplication_goes_by_the_positions_in_the_group():
    net = mm.planted_network(7, op="multiply", dtype=torch.float64)
    result = ClockOrPizza(triples=216)(net.subject)
    assert len(result.triples) == 216 and (result.triples > 0).all()
    assert len(result.network.mean) == 6


def test_the_network_before_training_stands_beside_it(tiny_run):
    result = ClockOrPizza()(tiny_run)
    assert set(result.to_frame()["network"]) == {"this network", "at initialisation"}
    untrained = tiny_run.with_model(tiny_run.retrainer.twin("untrained"))
    assert result.initial.irrelevance == ClockOrPizza()(untrained).network.irrelevance
    assert result.initial.irrelevance != result.network.irrelevance


def test_without_embeddings_apart_only_the_irrelevance_is_measured():
    task = mm.ModularTask(mm.ModularConfig(p=P, train_fraction=0.6))
    model = HookedMLP(mm.MLPConfig(width=8, tied=True), P)
    result = ClockOrPizza()(mm.Subject(model, task, model.roles))
    assert result.network.symmetricity is None and "share one input embedding" in result.network.symmetricity_note
    assert result.network.irrelevance is not None and result.network.space == ""
    assert "before training" not in result.initial_note and "neither a run" in result.initial_note
    assert len(result.plot().data) and len(result.to_frame()) == 2


def test_triples_without_a_gradient_are_counted_and_left_out():
    class Half(Clock):
        def forward(self, pairs):
            return super().forward(pairs) * (pairs[:, :1] > 6)

    result = ClockOrPizza(triples=P**3)(subject_of(Half(P, FREQUENCIES), P))
    assert result.network.symmetricity.n == 6 * P**2
    assert f"{7 * P**2} of {P**3} triples" in result.network.symmetricity_note


def test_the_figure_shows_both_networks_and_the_published_means(tiny_run):
    names = {str(trace.name) for trace in ClockOrPizza()(tiny_run).plot().data}
    for start in (*PUBLISHED, "this network", "at initialisation"):
        assert any(name.startswith(f"{start}: distance irrelevance 0.") for name in names)


def test_refusals():
    subject = subject_of(Clock(P, [1]), P)
    for settings in ({"triples": 0}, {"positions": (1, 1)}, {"seed": -1}):
        with pytest.raises(ConfigError):
            ClockOrPizza(**settings)
    with pytest.raises(ActivationError, match="positions"):
        ClockOrPizza(positions=(0, 5))(subject)
    other = mm.ArrayTask(
        subject.task.operands,
        subject.task.true(subject.task.ids),
        subject.task.true(subject.task.ids),
        torch.arange(P * P) < 100,
    )
    with pytest.raises(MissingNeedError, match="needs group, operation"):
        ClockOrPizza()(dataclasses.replace(subject, task=other))
