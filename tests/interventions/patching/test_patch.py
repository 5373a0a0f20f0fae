"""Patching recovers planted answers, agrees with a plain numpy version, and leaves nothing behind."""

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hooked_networks import CHANNELS, HEADS, NEURONS, Awkward, Convolutional, Transformer
from hooked_networks import subject_of as hooked_subject
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.core.stats import bootstrap
from mechmem.errors import ActivationError, ConfigError, MissingNeedError, ScoreError, UnknownNameError
from mechmem.interventions.patching.effects import effects_of
from mechmem.interventions.patching.patch import patch
from mechmem.models.hooks.hooking import replaced
from mechmem.models.hooks.points import hook_points


class Deep(nn.Module):
    """Two hidden layers; the second point fires twice; the head may be made nonlinear, or made to fail."""

    def __init__(self, p=5, width=6, seed=0):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)

        def drawn(*shape):
            return nn.Parameter(torch.randn(*shape, generator=draw, dtype=torch.float64) / shape[0] ** 0.5)

        self.W_in, self.W, self.W_out = drawn(2 * p, width), drawn(width, width), drawn(width, p)
        self.p, self.bend, self.fail = p, False, False
        self.hook_first, self.hook_second = HookPoint(), HookPoint()

    def forward(self, pairs):
        hidden = self.hook_first(torch.relu(self.W_in[pairs[:, 0]] + self.W_in[pairs[:, 1] + self.p]))
        for _ in range(2):
            hidden = self.hook_second(torch.relu(hidden @ self.W))
        if self.fail:
            raise RuntimeError("the model failed")
        logits = hidden @ self.W_out
        return logits.square() if self.bend else logits


def noisy_task(p=5, seed=0):
    config = mm.ModularConfig(p=p, train_fraction=0.8, noise=mm.LabelNoise(0.4), seed=seed)
    return mm.ModularTask(config)


def random_mlp(p=5, width=12, seed=0, **settings):
    from mechmem.models.networks.mlp import HookedMLP

    task = noisy_task(p)
    model = HookedMLP(mm.MLPConfig(width=width, bias=True, **settings), p, seed).double()
    with torch.no_grad():
        model.b_out.copy_(torch.linspace(-0.1, 0.1, p))
    return mm.Subject(model, task, model.roles)


def apart(subject, n=8):
    """Pairs of training examples that a random network tells apart: {"ids", "donor_ids"}."""
    ids = subject.task.train_ids
    inputs, label = subject.task.batch(ids)
    with torch.no_grad():
        logits = subject.model(inputs)
    own = logits[:, label]  # (example, label of another)
    gap = own.diagonal()[None, :] - own.T - own + own.diagonal()[:, None]
    first, second = (gap > 0.1).nonzero().T
    chosen = torch.linspace(0, len(first) - 1, n).long()
    return {"ids": ids[first[chosen]], "donor_ids": ids[second[chosen]]}


def hooks_left(model):
    return sum(len(point._forward_hooks) for point in hook_points(model).values())


def rule_only(planted):
    """The planted network as it would be without its memorized cells."""
    model = planted.subject.copy_model()
    with torch.no_grad():
        model.W_in[:, planted.memorizing] = 0
    return model


def column(result, name, direction="denoising"):
    frame = result.to_frame()
    return frame.loc[frame["direction"] == direction, name].to_numpy()


def test_the_memorizing_neurons_carry_the_whole_difference_to_a_network_without_them(planted):
    sets = {
        "memorizing": mm.NeuronSet(planted.memorizing, "hook_hidden"),
        "generalizing": mm.NeuronSet(~planted.memorizing, "hook_hidden"),
    }
    found = patch(planted.subject, rule_only(planted), units=sets)
    for direction, right in (("denoising", "true"), ("noising", "given")):
        np.testing.assert_allclose(column(found, "effect", direction), [1, 0], atol=1e-12)
        assert column(found, f"{right}_before", direction)[0] == 0
        assert column(found, f"{right}_after", direction).tolist() == [1, 0]
    assert (found.kind, found.n, found.note) == ("set", len(planted.cells), "")


def test_the_two_neurons_of_a_cell_carry_that_cell(planted):
    """Every other pair of neurons leaves it as it was."""
    members = planted.memorizing.nonzero().flatten().reshape(-1, 2).tolist()
    width = len(planted.memorizing)
    sets = {str(i): mm.NeuronSet.of(pair, width, "hook_hidden") for i, pair in enumerate(members)}
    clean = planted.subject.task.splits["train_clean"][:2]
    for i, cell in enumerate(planted.cells):
        # With two donors, because a single pair has no interval.
        found = patch(planted.subject, ids=cell.repeat(2), donor_ids=clean, units=sets, direction="denoising")
        wanted = np.arange(len(members)) == i
        assert column(found, "true_after").tolist() == wanted.tolist()
        assert column(found, "given_after").tolist() == (~wanted).tolist()


def test_pairs_within_one_network_share_an_operand_and_have_other_labels(planted):
    """A clean run switches every memorizing neuron off, so the rule's answer is back; its effect is the margin's."""
    from mechmem.interventions.patching.pairs import within

    task = planted.subject.task
    runs, note = within(planted.subject, None, None, 3)
    assert torch.equal(runs.ids, planted.cells) and not note
    mine, partner = (task.operands[task.rows(ids)] for ids in (runs.ids, runs.source_ids))
    assert (mine[:, 0] == partner[:, 0]).all()
    assert torch.isin(runs.source_ids, task.splits["train_clean"]).all()
    assert (task.given(runs.ids) != task.given(runs.source_ids)).all()
    sets = {"memorizing": mm.NeuronSet(planted.memorizing, "hook_hidden")}
    found = patch(planted.subject, units=sets, seed=3)
    assert column(found, "true_after") == [1] and column(found, "given_after") == [0]
    # The rule alone has 0 on both labels at stake (up to O(1/√width)), out of −2 … 1.
    assert column(found, "effect") == pytest.approx(2 / 3, abs=0.1)
    again, other = patch(planted.subject, seed=3), patch(planted.subject, seed=4)
    assert again.to_frame().equals(patch(planted.subject, seed=3).to_frame())
    assert not again.to_frame().equals(other.to_frame())


def test_a_second_operand_serves_where_no_first_one_does_and_lonely_examples_are_left_out():
    pairs = torch.tensor([[0, 0], [0, 1], [1, 0], [2, 2], [3, 3]])
    true, given_ = torch.tensor([0, 1, 1, 1, 0]), torch.tensor([1, 0, 1, 0, 0])
    train = torch.tensor([True, True, True, True, False])
    # Clean: only (1, 0), labelled 1. Noisy: (0, 0) with 1, the same label; (0, 1) and (2, 2) share nothing with it.
    task = mm.ArrayTask(pairs, given_, true, train)
    model = nn.Identity()
    with pytest.raises(ConfigError, match="for none of 3 examples is there a correctly labelled"):
        patch(model, task=task)
    from mechmem.interventions.patching.pairs import partners

    task = mm.ArrayTask(pairs, torch.tensor([2, 0, 1, 0, 0]), true, train)
    kept, chosen = partners(mm.Subject(model, task), torch.tensor([0, 1, 3]), torch.Generator().manual_seed(0))
    assert kept.tolist() == [0] and chosen.tolist() == [2]


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("metric", ["margin", "probability"])
def test_equals_a_loop_in_numpy(activation, metric):
    """Every neuron of every pair patched by itself, in both directions, and the whole layer."""
    subject = random_mlp(activation=activation)
    task, model = subject.task, subject.model
    ids, partner = apart(subject).values()
    act = model.activation
    U, W, b = (x.detach().numpy() for x in (model.W_in, model.W_out, model.b_out))

    def hidden(cell):
        x, y = task.operands[cell].tolist()
        return act(torch.from_numpy(U[x] + U[5 + y])).numpy()

    def score(h, own, rival):
        logits = h @ W + b
        if metric == "probability":
            logits = np.exp(logits) / np.exp(logits).sum()
        return logits[own] - logits[rival]

    given_ = task.given(task.ids).numpy()
    found = patch(subject, ids=ids, donor_ids=partner, units="neuron", metric=metric)
    whole = patch(subject, ids=ids, donor_ids=partner, at="hook_hidden", metric=metric)
    for direction, into, source in (("denoising", ids, partner), ("noising", partner, ids)):
        labels = [(given_[s], given_[i]) for s, i in zip(source, into, strict=True)]
        h_into, h_source = ([hidden(cell) for cell in cells] for cells in (into, source))
        receiver, donor = ([score(h, *pair) for h, pair in zip(hs, labels, strict=True)] for hs in (h_into, h_source))
        wanted = []
        for neuron in range(12):
            patched = []
            for mine, theirs, pair in zip(h_into, h_source, labels, strict=True):
                mixed = mine.copy()
                mixed[neuron] = theirs[neuron]
                patched.append(score(mixed, *pair))
            wanted.append(np.mean(np.array(patched) - receiver) / np.mean(np.array(donor) - receiver))
        frame = found.to_frame().query("direction == @direction")
        assert frame["receiver"].iloc[0] == pytest.approx(np.mean(receiver), abs=1e-12)
        assert frame["donor"].iloc[0] == pytest.approx(np.mean(donor), abs=1e-12)
        np.testing.assert_allclose(frame["effect"], wanted, atol=1e-10)
        np.testing.assert_allclose(column(whole, "effect", direction), 1, atol=1e-12)


def test_hooks_and_algebra_agree():
    subject = random_mlp(p=7, width=30)
    bare = mm.Subject(subject.model, subject.task)
    sets = {"odd": mm.NeuronSet(torch.arange(30) % 2 == 1, "hook_hidden")}
    for units in ("neuron", sets):
        by_algebra = patch(subject, **apart(subject), units=units)
        by_hooks = patch(bare, **apart(subject), units=units, at="hook_hidden")
        assert not by_algebra.note and "by forward passes" in by_hooks.note
        numbers = [result.to_frame().select_dtypes("float64") for result in (by_algebra, by_hooks)]
        np.testing.assert_allclose(*numbers, atol=1e-10)
        assert numbers[0].notna().all(axis=None)
    assert hooks_left(subject.model) == 0


def test_between_networks_hooks_and_algebra_agree():
    subject, other = random_mlp(seed=0), random_mlp(seed=1)
    found = [
        patch(each, other.model, units="neuron", at="hook_hidden", direction="denoising").to_frame()
        for each in (subject, mm.Subject(subject.model, subject.task))
    ]
    np.testing.assert_allclose(*(frame.select_dtypes("float64") for frame in found), atol=1e-10)


def test_a_readout_that_is_not_linear_is_patched_by_hooks_and_said_so():
    model, task = Deep(), noisy_task()
    model.bend = True
    roles = mm.Roles(hidden=("hook_first",), readout=mm.Role("W_out", "neuron class -> neuron class"))
    found = patch(mm.Subject(model, task, roles), units="neuron")
    assert "by forward passes: the logits are not linear in 'hook_first'" in found.note


def test_frequency_units_are_the_neurons_of_one_key_frequency(planted):
    found = patch(planted.subject, rule_only(planted), units="frequency")
    assert found.units == ("frequency 1", "frequency 2", "frequency 3")
    # All frequencies together are all neurons; the readout is linear, so that their effects sum to the whole's.
    assert column(found, "effect").sum() == pytest.approx(1, abs=1e-10)
    clean = mm.planted_network(7, dtype=torch.float64)
    sets = {f"frequency {k}": mm.NeuronSet(clean.frequency == k, "hook_hidden") for k in (1, 2, 3)}
    ids, donor_ids = clean.subject.task.train_ids[:12], clean.subject.task.train_ids[12:24]
    by_name, by_key = (patch(clean.subject, ids=ids, donor_ids=donor_ids, units=u) for u in (sets, "frequency"))
    assert by_name.to_frame().drop(columns="unit").equals(by_key.to_frame().drop(columns="unit"))
    assert set(by_name.to_frame()["unit"]) == {"set"} and set(by_key.to_frame()["unit"]) == {"frequency"}


def test_a_neuron_without_any_frequency_is_a_unit_of_its_own():
    planted = mm.planted_network(5, width=20, dtype=torch.float64)
    with torch.no_grad():
        planted.subject.model.W_in[:, 0] = 0
        planted.subject.model.W_out[0] = 0
    ids = planted.subject.task.train_ids
    found = patch(planted.subject, ids=ids[:6], donor_ids=ids[6:12], units="frequency")
    assert found.units[0] == "no frequency" and len(found.units) == 3


def test_the_first_layer_determines_the_rest_and_each_firing_is_a_unit():
    subject = mm.Subject(Deep(), noisy_task())
    found = patch(subject, **apart(subject))
    assert found.units == ("hook_first", "hook_second#0", "hook_second#1")
    for direction in ("denoising", "noising"):
        assert (column(found, "effect", direction) == 1).all(), "within one network a layer is all there is"
    assert patch(subject, at="hook_second#1").units == ("hook_second#1",)
    assert patch(subject, at=["hook_f*"]).units == ("hook_first",)
    # Between networks, only the last layer's readout is the receiver's own.
    other = patch(subject, Deep(seed=1))
    effects = column(other, "patched")
    assert len(np.unique(effects.round(9))) == 3
    one = patch(subject, units="neuron", at="hook_second#0")
    assert one.units[0] == "hook_second#0[neuron 0]" and len(one.units) == 6


def test_own_activations_change_nothing(planted):
    """A donor with the same hidden layer and another readout."""
    subject, donor = planted.subject, planted.subject.copy_model()
    with torch.no_grad():
        donor.W_out[planted.memorizing] = 0
    side = patch(subject, donor, at="hook_hidden").sides[0]
    assert not side.reason and side.effect == side.low == side.high == 0
    ids = subject.task.train_ids
    found = mm.activations(subject, ids=ids)
    with replaced(subject.model, "hook_hidden", found["hook_hidden"]), torch.no_grad():
        assert torch.equal(subject.model(subject.task.batch(ids)[0]), found["hook_logits"])


def test_a_donor_like_the_receiver_has_no_effect_to_report(planted):
    found = patch(planted.subject, planted.subject.copy_model(), units="neuron")
    for side in found.sides:
        assert "cannot be distinguished" in side.reason and "by 0 [0, 0]" in side.reason
        assert side.effect.isnan().all() and side.low.isnan().all()
    assert "cannot be distinguished" in found.plot().layout.annotations[-1].text
    single = patch(planted.subject, rule_only(planted), ids=planted.cells[:1])
    assert "n = 1" in single.sides[0].reason


def test_labels_at_stake_between_networks(planted):
    """On a wrongly labelled id true against given; elsewhere true against the receiver's strongest other class."""
    task, model = planted.subject.task, planted.subject.model
    donor = rule_only(planted)
    ids = torch.cat([planted.cells[:3], task.test_ids[:4]])
    inputs, given_ = task.batch(ids)
    with torch.no_grad():
        logits = model(inputs)
    true = task.true(ids)
    rival = logits.clone()
    rival[torch.arange(7), true] = -math.inf
    rival = torch.where(given_ != true, given_, rival.argmax(1))
    margin = logits[torch.arange(7), true] - logits[torch.arange(7), rival]
    found = patch(planted.subject, donor, ids=ids, direction="denoising")
    assert found.sides[0].receiver.value == pytest.approx(float(margin.mean()), abs=1e-12)
    clean = mm.planted_network(7, dtype=torch.float64)
    assert patch(clean.subject, random_mlp(7).model, at="hook_logits").n == len(clean.subject.task.test_ids)


def test_networks_trained_on_other_labels_of_the_same_inputs_compare():
    noisy, clean = (mm.planted_network(7, memorized_fraction=f, dtype=torch.float64) for f in (0.3, 0.0))
    found = patch(noisy.subject, clean.subject, at="hook_logits")
    assert column(found, "effect") == 1
    assert column(found, "true_after") == 1
    with pytest.raises(
        ActivationError, match=r"'hook_hidden' has shape \(\d+,\) per example in one network and \(120,\)"
    ):
        patch(noisy.subject, clean.subject, at="hook_hidden")
    other = mm.planted_network(11, dtype=torch.float64).subject
    images = mm.ImageTask(mm.ImageConfig(data="digits", train=40, test=20))
    pictures = mm.Subject(torch.nn.Flatten(), images)
    for receiver, donor in ((noisy.subject, other), (other, noisy.subject), (pictures, other), (other, pictures)):
        for call in (patch, functools.partial(mm.path_patch, senders="hook_hidden")):
            with pytest.raises(ConfigError, match="not given the same inputs"):
                call(receiver, donor)
    with pytest.raises(UnknownNameError, match="no example id 49"):
        patch(noisy.subject, other, ids=[49])


def test_hooks_are_gone_after_errors():
    model, task = Deep(), noisy_task()
    subject = mm.Subject(model, task)
    model.fail = True
    with pytest.raises(ConfigError, match="the model failed"):
        patch(subject)
    model.fail = False
    with pytest.raises(ActivationError, match=r"holds shape \(2, 6\); it cannot be given \(2, 5\)"):
        with replaced(model, "hook_second#1", torch.zeros(2, 5)):
            model(task.batch(task.ids[:2])[0])
    with pytest.raises(KeyError), replaced(model, "hook_first", torch.zeros(2, 6)):
        raise KeyError
    assert hooks_left(model) == 0


def test_patching_changes_neither_network(planted):
    donor = rule_only(planted)
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in (planted.subject.model, donor)]
    planted.subject.model.train()
    patch(planted.subject, donor, units="neuron")
    patch(planted.subject, donor)
    assert planted.subject.model.training
    for model, state in zip((planted.subject.model, donor), before, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
        assert hooks_left(model) == 0


def test_what_is_refused(planted):
    subject, ids = planted.subject, planted.subject.task.train_ids
    with pytest.raises(UnknownNameError, match=r"no hook point 'hook_hiden'. Did you mean 'hook_hidden'"):
        patch(subject, at="hook_hiden")
    with pytest.raises(UnknownNameError, match=r"no hook point 'hook_hidden#4'"):
        patch(subject, at="hook_hidden#4")
    with pytest.raises(UnknownNameError, match="Did you mean 'neuron'"):
        patch(subject, units="neurons")
    with pytest.raises(UnknownNameError, match="no direction 'up'"):
        patch(subject, direction="up")
    with pytest.raises(UnknownNameError, match="no metric 'loss'"):
        patch(subject, metric="loss")
    with pytest.raises(ConfigError, match="paired one by one, got 3 and 2"):
        patch(subject, ids=ids[:3], donor_ids=ids[:2])
    with pytest.raises(ConfigError, match="paired with ids"):
        patch(subject, donor_ids=ids[:2])
    with pytest.raises(ConfigError, match="two networks run on the same ids"):
        patch(subject, rule_only(planted), donor_ids=ids[:2])
    with pytest.raises(ConfigError, match="at least one example id"):
        patch(subject, ids=ids[:0])
    with pytest.raises(UnknownNameError, match="no example id 999"):
        patch(subject, ids=torch.tensor([999]), donor_ids=ids[:1])
    with pytest.raises(ConfigError, match="at one point, but 'hook_\\*' names hook_pre, hook_hidden, hook_logits"):
        patch(subject, units="neuron", at="hook_*")
    with pytest.raises(ScoreError, match="set 'none' is empty"):
        patch(subject, units={"none": mm.NeuronSet.of([], len(planted.memorizing), "hook_hidden")})
    with pytest.raises(ScoreError, match="belongs to hook_hidden .4 neurons., not hook_hidden"):
        patch(subject, units={"small": mm.NeuronSet.of([1], 4, "hook_hidden")})
    with pytest.raises(ScoreError, match="no set of neurons"):
        patch(subject, units={})
    with pytest.raises(ConfigError, match="'a' is a list"):
        patch(subject, units={"a": [1, 2]})
    with pytest.raises(ConfigError, match="seed must be a whole number of at least 0, got -1"):
        patch(subject, seed=-1)
    with pytest.raises(ConfigError, match="the task goes as task="):
        patch(subject.model, subject.task)
    with pytest.raises(MissingNeedError, match="point of the role hidden"):
        patch(mm.Subject(subject.model, subject.task), units="neuron")
    with pytest.raises(UnknownNameError, match="no hook point of the donor 'hook_first'"):
        patch(mm.Subject(Deep(), noisy_task()), random_mlp().model, at="hook_*")


def test_what_cannot_be_paired_without_knowledge():
    draw = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(20, 4, generator=draw), torch.randint(3, (20,), generator=draw)
    task = mm.ArrayTask(inputs, labels, labels, torch.arange(20) < 12)
    model = nn.Sequential(nn.Linear(4, 6), HookPoint(), nn.ReLU(), nn.Linear(6, 3))
    with pytest.raises(MissingNeedError, match="needs operands"):
        patch(model, task=task)
    assert patch(model, task=task, ids=task.ids[:6], donor_ids=task.ids[6:12]).units == ("1",)
    unknown = mm.ArrayTask(inputs, labels, torch.where(torch.arange(20) < 3, -1, labels), torch.arange(20) < 12)
    found = patch(model, task=unknown, ids=task.ids[:6], donor_ids=task.ids[6:12])
    assert math.isnan(found.sides[0].true_before) and found.sides[0].true_after.isnan().all()
    with pytest.raises(MissingNeedError, match="true label, which is not known"):
        patch(model, nn.Sequential(nn.Linear(4, 6), HookPoint(), nn.Linear(6, 3)), task=unknown, ids=task.ids[:6])


def test_sequences_are_patched_whole_and_neuron_by_neuron():
    """A point of shape (example, position, neuron): a neuron is patched at all positions."""

    class Sequence(nn.Module):
        def __init__(self):
            super().__init__()
            draw = torch.Generator().manual_seed(0)
            self.E = nn.Parameter(torch.randn(5, 8, generator=draw, dtype=torch.float64))
            self.W = nn.Parameter(torch.randn(8, 5, generator=draw, dtype=torch.float64))
            self.hook_resid = HookPoint()

        def forward(self, pairs):
            return self.hook_resid(self.E[pairs]).sum(1) @ self.W

    subject = mm.Subject(Sequence(), noisy_task())
    pairs = apart(subject)
    assert (column(patch(subject, **pairs), "effect") == 1).all()
    found = patch(subject, **pairs, units="neuron", at="hook_resid")
    assert len(found.units) == 8 and column(found, "effect").sum() == pytest.approx(1, abs=1e-10)


def test_intervals_are_those_of_a_paired_bootstrap(draw):
    receiver = torch.randn(60, generator=draw, dtype=torch.float64)
    donor = receiver + 2 + torch.randn(60, generator=draw, dtype=torch.float64)
    patched = receiver + torch.rand(4, 60, generator=draw, dtype=torch.float64)
    effect, low, high, reason = effects_of(patched, receiver, donor, seed=0)
    assert not reason

    def ratio(change, gap, axis):
        return change.mean(axis) / gap.mean(axis)

    for unit in range(4):
        columns = ((patched[unit] - receiver).numpy(), (donor - receiver).numpy())
        wanted = bootstrap(ratio, columns, seed=1, resamples=20_000)
        assert float(effect[unit]) == pytest.approx(wanted.value, abs=1e-12)
        width = wanted.high - wanted.low
        assert float(low[unit]) == pytest.approx(wanted.low, abs=0.08 * width)
        assert float(high[unit]) == pytest.approx(wanted.high, abs=0.08 * width)


@given(st.floats(0.1, 10), st.floats(-5, 5), st.integers(2, 30))
def test_effects_do_not_depend_on_unit_or_origin_of_the_metric(scale, shift, n):
    draw = torch.Generator().manual_seed(n)
    receiver, noise = torch.randn(2, n, generator=draw, dtype=torch.float64)
    donor = receiver + 5 + noise.tanh()
    patched = torch.stack([receiver, donor, (receiver + donor) / 2])
    effect, low, high, _ = effects_of(patched, receiver, donor, 0)
    assert torch.allclose(effect, torch.tensor([0, 1, 0.5], dtype=torch.float64), atol=1e-12)
    assert torch.allclose(low, effect, atol=1e-12) and torch.allclose(high, effect, atol=1e-12)
    moved = [scale * x + shift for x in (patched, receiver, donor)]
    assert torch.allclose(effects_of(*moved, 0)[0], effect, atol=1e-9)


@pytest.mark.parametrize("units", ["point", "neuron", "frequency"])
def test_results_are_drawn_and_survive_saving(planted, units, tmp_path):
    found = patch(planted.subject, units=units)
    figure = found.plot()
    drawn = figure.data
    assert {trace.name for trace in drawn} == {"denoising", "noising"} and {trace.mode for trace in drawn} == {
        "markers"
    }
    assert all(len(trace.x) == len(found.units) for trace in drawn)
    axes = figure.layout.xaxis.title.text, figure.layout.yaxis.title.text
    assert any("normalised effect" in str(axis) for axis in axes)
    for trace in drawn:
        values = trace.y if units == "neuron" else trace.x
        wanted = column(found, "effect", trace.name)
        np.testing.assert_allclose(values, np.sort(wanted)[::-1] if units == "neuron" else wanted)
    found.save(tmp_path / "effects.safetensors")
    loaded = type(found).load(tmp_path / "effects.safetensors")
    assert loaded.to_frame().equals(found.to_frame()) and loaded.units == found.units


def test_lower_precision_donors_and_receivers_mix():
    subject, other = random_mlp(seed=0), random_mlp(seed=1)
    half = mm.Subject(subject.copy_model().bfloat16(), subject.task, subject.roles)
    for units in ("point", "neuron"):
        found = patch(half, other.model, units=units, at="hook_hidden")
        assert found.to_frame()["patched"].notna().all()


@pytest.mark.parametrize("units", [3, ["neuron", "point"]])
def test_units_that_are_neither_named_nor_sets_are_refused(units: Any) -> None:
    with pytest.raises(ConfigError, match=f"got {type(units).__name__}"):
        mm.patch(mm.planted_network(5, memorized_fraction=0.2).subject, units=units)


def test_a_network_without_wrong_labels_and_a_donor_that_is_none_are_said_to_be_so() -> None:
    subject = mm.planted_network(5).subject
    with pytest.raises(ConfigError, match="no training example has a wrong label"):
        mm.patch(subject)
    with pytest.raises(ConfigError, match="a Subject or a model, got int"):
        mm.patch(subject, 3)  # pyright: ignore[reportArgumentType]


EVERY = slice(None)
RESID = "blocks.0.hook_resid_post"


@pytest.mark.parametrize(
    ("kind", "settings", "places"),
    [
        (Transformer, {"units": "neuron", "at": "blocks.0.hook_post"}, [(EVERY, m) for m in range(NEURONS)]),
        (
            Transformer,
            {"units": "neuron", "at": "blocks.1.hook_post", "positions": 2},
            [(2, m) for m in range(NEURONS)],
        ),
        (Transformer, {"units": "head", "at": "blocks.0.attn.hook_z"}, [(EVERY, h) for h in range(HEADS)]),
        (Transformer, {"units": "head", "at": "blocks.1.attn.hook_z", "positions": [2]}, [(2, 0), (2, 1)]),
        (Transformer, {"units": "position", "at": RESID}, [(0,), (1,), (2,)]),
        (Transformer, {"units": "point", "at": RESID, "positions": [0, 2]}, [(slice(None, None, 2),)]),
        (Convolutional, {"units": "channel", "at": "hook_second"}, [(c,) for c in range(CHANNELS)]),
    ],
)
def test_units_of_points_with_more_axes_equal_a_hooked_pass_each(kind, settings, places, monkeypatch):
    monkeypatch.setattr("mechmem.interventions.patching.units.block_rows", lambda _: 5)
    monkeypatch.setattr("mechmem.interventions.runs.block_rows", lambda _: 2)
    subject = hooked_subject(kind, dtype=torch.float64)
    task, model, at = subject.task, subject.model.eval(), settings["at"]
    ids, donor_ids = task.train_ids[:8], task.train_ids[8:16]
    found = patch(subject, ids=ids, donor_ids=donor_ids, **settings)
    assert found.kind == settings["units"] and len(found.units) == len(places)
    theirs, mine = task.given(donor_ids), task.given(ids)
    rows = torch.arange(8)
    for unit, place in enumerate(places):
        for direction, into, source, sign in (("denoising", ids, donor_ids, 1), ("noising", donor_ids, ids, -1)):
            value = mm.activations(subject, at, source)[at]

            def put(_module, _inputs, out, value=value, place=place):
                out = out.clone()
                out[(EVERY, *place)] = value[(EVERY, *place)]
                return out

            handle = hook_points(model)[at].register_forward_hook(put)
            with torch.no_grad():
                logits = subject.roles.output.read(model(task.batch(into)[0]))
            handle.remove()
            margin = sign * (logits[rows, theirs] - logits[rows, mine]).mean()
            assert column(found, "patched", direction)[unit] == pytest.approx(float(margin), abs=1e-12)
    assert hooks_left(model) == 0


def test_roles_say_where_heads_and_positions_are():
    subject = hooked_subject(Transformer)
    pairs = {"ids": subject.task.train_ids[:4], "donor_ids": subject.task.train_ids[4:8]}
    heads = patch(subject, units="head", **pairs)
    assert heads.units == tuple(f"blocks.{b}.attn.hook_z[head {h}]" for b in range(2) for h in range(HEADS))
    frame = heads.to_frame().query("direction == 'noising'")
    wanted = subject.roles.heads[0], "head", 1
    assert tuple(frame.iloc[1][["point", "unit", "head"]]) == wanted and frame["position"].isna().all()
    grid = frame.pivot(index="point", columns="head", values="effect")
    drawn = heads.plot().data
    assert [trace.name for trace in drawn] == ["denoising", "noising"] and drawn[0].type == "heatmap"
    np.testing.assert_allclose(drawn[1].z, grid, rtol=1e-6)
    last = patch(subject, units="head", positions=-1, **pairs)
    assert last.units[1] == "blocks.0.attn.hook_z[position -1, head 1]"
    assert set(last.to_frame()["position"]) == {2} and set(last.to_frame()["unit"]) == {"head"}
    first = patch(subject, at=RESID, positions=[0, 2], **pairs)
    assert first.units == (f"{RESID}[positions 0, 2]",) and first.to_frame()["position"].isna().all()
    positions = patch(subject, units="position", **pairs)
    assert positions.units[3] == "blocks.1.hook_resid_post[position 0]" and len(positions.units) == 6
    assert positions.plot() is not None
    # Behind the last block no other position is read.
    patched = column(positions, "patched")
    assert (patched[3:5] == positions.sides[0].receiver.value).all()
    bare = mm.Subject(subject.model, subject.task, mm.Roles(output=subject.roles.output))
    for units, role in (("head", "heads"), ("position", "residual")):
        with pytest.raises(MissingNeedError, match=f"points of the role {role}"):
            patch(bare, units=units, **pairs)
    with pytest.raises(ConfigError, match="no heads"):
        patch(subject, units="head", at="blocks.0.hook_post", **pairs)
    with pytest.raises(ConfigError, match="no positions"):
        patch(random_mlp(), positions=0, at="hook_hidden", units="neuron", **apart(random_mlp()))
    with pytest.raises(UnknownNameError, match="Did you mean 'head'"):
        patch(subject, units="heads", **pairs)


def test_points_that_no_logit_depends_on_are_left_out_or_refused():
    from mechmem.errors import DiscardedEditError

    class Aside(Deep):
        def __init__(self):
            super().__init__()
            self.hook_aside = HookPoint()

        def forward(self, pairs):
            self.hook_aside(self.W_in[pairs[:, 0]])
            return super().forward(pairs)

    subject = mm.Subject(Aside(), noisy_task())
    found = patch(subject, **apart(subject))
    assert "hook_aside" not in found.units and "no logit depends on them: hook_aside" in found.note
    with pytest.raises(DiscardedEditError, match="'hook_aside' has no effect"):
        patch(subject, at="hook_aside", **apart(subject))


def test_networks_that_cannot_be_batched_are_patched_all_the_same():
    subject = hooked_subject(Awkward, "in place")
    pairs = {"ids": subject.task.train_ids[:4], "donor_ids": subject.task.train_ids[4:8]}
    found = patch(subject, units="neuron", **pairs)
    assert "edits were run one by one" in found.note and np.isfinite(column(found, "patched")).all()
