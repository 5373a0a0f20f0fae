"""Keeping and dropping neurons and frequencies: weights, names, knowledge, and planted answers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plugin_names import score

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError, ScoreError, UnknownNameError
from mechmem.models.networks.mlp import HookedMLP
from mechmem.scorecard.pruned import pruned
from mechmem.scorecard.surgeries.drop import Drop
from mechmem.scorecard.surgeries.keep import Keep
from mechmem.scorecard.surgeries.only_frequencies import OnlyFrequencies
from mechmem.scorecard.surgeries.without_frequencies import WithoutFrequencies


def random_subject(op="add", p=7, *, tied=False):
    model = HookedMLP(mm.MLPConfig(width=10, bias=True, tied=tied), p, seed=3).double()
    model.b_out.data = torch.randn(p, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    task = mm.ModularTask(mm.ModularConfig(op=op, p=p, train_fraction=0.5))
    return mm.Subject(model, task, model.roles)


def read(subject):
    u, v = subject.roles.input_embedding.read(subject.model)
    return [x.numpy().copy() for x in (u, v, subject.roles.readout.read(subject.model).T)]


@settings(max_examples=15)
@given(st.floats(0.06, 0.94), st.sampled_from(["low", "high"]), st.sampled_from(["ipr", "strength", "random(seed=2)"]))
def test_keep_and_drop_split_the_neurons_by_score(fraction, end, by):
    subject = random_subject()
    count, order = round(fraction * 10), score(by)(subject).order(end)
    kept, dropped = Keep(by, fraction, end)(subject), Drop(by, fraction, end)(subject)
    for whole, left, rest in zip(read(subject), read(kept), read(dropped), strict=True):
        assert (left[:, order[:count]] == whole[:, order[:count]]).all() and not left[:, order[count:]].any()
        assert (left + rest == whole).all()
    ids, bias = subject.task.ids, subject.model.b_out.detach()
    raw = mm.extractor("raw")
    together = raw(kept)(ids) + raw(dropped)(ids) - bias
    torch.testing.assert_close(together, raw(subject)(ids).to(together))


@pytest.mark.parametrize("tied", [False, True])
def test_pruning_is_zero_ablation(tied):
    subject = random_subject(tied=tied)
    gone = score("ipr")(subject).take(0.4, "low")
    hidden = mm.activations(subject, "hook_hidden", ids=subject.task.ids)["hook_hidden"].clone()
    hidden[:, gone.neurons] = 0
    wanted = hidden @ subject.model.W_out.detach() + subject.model.b_out.detach()
    torch.testing.assert_close(mm.extractor("drop(ipr,0.4)")(subject)(subject.task.ids), wanted)


def test_what_is_left_can_be_filtered():
    planted = mm.planted_network(11, memorized_fraction=0.2)
    task, share = planted.subject.task, 1 - planted.memorizing.double().mean().item()
    for name in (f"keep(ipr(two_sided),{share})+frequency", f"drop(ipr,{1 - share})+frequency"):
        chain = mm.extractor(name)
        assert mm.extractor(chain.name) == chain
        right = chain(planted.subject)(task.ids).argmax(1) == task.true(task.ids)
        assert right.double().mean() > 0.98
    kept = Keep("ipr", share)(planted.subject)
    assert not kept.model.W_out[planted.memorizing].any() and kept.model.W_out[~planted.memorizing].any(1).all()


def test_names_and_knowledge_come_from_the_score():
    assert mm.extractor("keep(ipr(two_sided),.3)").name == "keep(by=ipr(two_sided),fraction=0.3)"
    assert mm.extractor("keep(random)").knows == frozenset()
    assert mm.extractor("keep(ipr,.3)").knows == {"pairs", "input_group", "output_group"}
    assert mm.extractor("keep(strength)+frequency").knows >= {"pairs", "slopes"}
    assert "role:activation" in Keep("strength").wants() and "group" in Drop("ipr").wants()
    assert mm.extractor("without_frequencies((3,7))") == mm.extractor("without_frequencies(frequencies=(7, 3, 3))")
    assert mm.extractor("only_frequencies(2)") == mm.extractor("only_frequencies((2,))")


def test_a_deeper_networks_readout_rows_alone_are_removed():
    subject = random_subject()
    roles = mm.Roles(subject.roles.input_embedding, subject.roles.readout, hidden=("hook_pre", "hook_hidden"))
    deep = mm.Subject(subject.model, subject.task, roles)
    kept = pruned(deep, mm.NeuronSet.of([1, 4], 10, "hook_hidden"))
    assert torch.equal(kept.model.W_in, subject.model.W_in)
    assert kept.model.W_out.any(1).nonzero().flatten().tolist() == [1, 4]
    with pytest.raises(MissingNeedError, match="hook_pre"):
        pruned(deep, mm.NeuronSet.of([1], 10, "hook_pre"))


def test_what_cannot_be_pruned_is_refused():
    subject = random_subject()
    with pytest.raises(ScoreError, match="empty"):
        Keep("ipr", 0.04)(subject)
    with pytest.raises(ScoreError, match="no neuron would be left"):
        Drop("ipr", 1.0)(subject)
    with pytest.raises(ScoreError, match="4 neurons.*10"):
        pruned(subject, mm.NeuronSet.of([1], 4, "hook_hidden"))
    with pytest.raises(ConfigError, match="fraction of neurons"):
        Keep("ipr", 1.5)
    with pytest.raises(UnknownNameError, match="Did you mean 'strength'"):
        Keep("strenght")
    with pytest.raises(UnknownNameError, match="end of a ranking"):
        Drop(end="top")
    with pytest.raises(MissingNeedError, match="role readout"):
        pruned(mm.Subject(subject.model, subject.task), mm.NeuronSet.of([1], 10, "hook_hidden"))


@pytest.mark.parametrize(("op", "p"), [("add", 7), ("add", 8), ("subtract", 5), ("multiply", 7), ("multiply", 11)])
def test_frequencies_equal_a_mask_in_numpys_spectrum(op, p):
    subject = random_subject(op, p)
    elements = subject.task.group.elements.numpy()
    n = len(elements)
    top = n // 2
    for chosen in ((1,), (top,), tuple(range(1, top + 1))):
        without, only = WithoutFrequencies(chosen)(subject), OnlyFrequencies(chosen)(subject)
        for whole, rest, kept in zip(read(subject), read(without), read(only), strict=True):
            spectrum = np.fft.fft(whole[elements], axis=0)
            frequency = np.minimum(np.arange(n), n - np.arange(n))
            inside = np.isin(frequency, chosen)[:, None]
            expected = np.fft.ifft(np.where(inside, 0, spectrum), axis=0).real
            np.testing.assert_allclose(rest[elements], expected, atol=1e-12)
            constant = frequency[:, None] == 0
            expected = np.fft.ifft(np.where(inside | constant, spectrum, 0), axis=0).real
            np.testing.assert_allclose(kept[elements], expected, atol=1e-12)
            outside = np.setdiff1d(np.arange(p), elements)
            assert (rest[outside] == whole[outside]).all() and (kept[outside] == whole[outside]).all()
        assert torch.equal(without.model.b_out, subject.model.b_out)


@pytest.mark.parametrize("wrong", [0, (), (0, 2), "3", (1.0,), True, (True,)])
def test_frequencies_are_whole_numbers_from_one(wrong):
    for surgery in (WithoutFrequencies, OnlyFrequencies):
        with pytest.raises(ConfigError, match="whole number"):
            surgery(wrong)


def test_a_frequency_that_the_group_lacks_is_refused():
    for name in ("without_frequencies(4)", "only_frequencies((1,9))"):
        with pytest.raises(ConfigError, match="1 … 3"):
            mm.extractor(name)(random_subject())
