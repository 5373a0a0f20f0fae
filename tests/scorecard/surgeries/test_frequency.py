import numpy as np
import pytest
import torch

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError
from mechmem.math.filtration import frequency_power, key_frequency
from mechmem.models.networks.mlp import HookedMLP
from mechmem.scorecard.surgeries.frequency import FrequencyFiltration, filtered
from mechmem.scorecard.surgeries.random_frequency import RandomFrequencyFiltration

CASES = [("add", p) for p in (2, 3, 4, 5, 9, 12)] + [
    ("subtract", 7),
    ("multiply", 3),
    ("multiply", 7),
    ("multiply", 13),
]
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def random_network(op, p, *, tied=False, bias=True, dtype=torch.float64, width=10):
    config = mm.MLPConfig(width=width, bias=bias, tied=tied)
    model = HookedMLP(config, p, seed=3).to(dtype)
    if bias:
        model.b_out.data = torch.randn(p, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(dtype)
    task = mm.ModularTask(mm.ModularConfig(op=op, p=p, train_fraction=0.5))
    return mm.Subject(model, task, model.roles)


def parts(subject):
    """u, v, w with the symbols first, and the bias."""
    u, v = subject.roles.input_embedding.read(subject.model)
    w = subject.roles.readout.read(subject.model).T
    bias = subject.roles.bias.read(subject.model) if subject.roles.bias else None
    return [x.double().numpy().copy() for x in (u, v, w)], None if bias is None else bias.double().numpy().copy()


def shared_frequency(vectors, elements):
    """One frequency per neuron: the peak of the summed shares of the three vectors in numpy's spectrum."""
    spectra = [np.abs(np.fft.fft(x[elements], axis=0)) ** 2 for x in vectors]
    energy = sum(spectrum / spectrum[1:].sum(0) for spectrum in spectra)
    return 1 + energy[1 : len(elements) // 2 + 1].argmax(0)


def masked(x, elements, frequency):
    """numpy's inverse transform of the spectrum at one frequency per column; raw where a symbol has no place."""
    n = len(elements)
    spectrum = np.fft.fft(x[elements], axis=0)
    mask = np.zeros_like(spectrum)
    columns = np.arange(x.shape[1])
    mask[frequency, columns] = mask[(n - frequency) % n, columns] = 1
    kept = x.copy()
    kept[elements] = np.fft.ifft(spectrum * mask, axis=0).real
    return kept


@pytest.mark.parametrize("op, p", CASES)
@pytest.mark.parametrize("tied", [False, True])
@dtypes
def test_g_is_numpy_s_mask_at_the_shared_frequency(op, p, tied, dtype):
    subject = random_network(op, p, tied=tied, dtype=dtype)
    vectors, bias = parts(subject)
    elements = subject.task.group.elements.numpy()
    frequency = shared_frequency(vectors, elements)
    found, found_bias = parts(FrequencyFiltration()(subject))
    tolerance = 1e-6 if dtype == torch.float32 else 1e-13
    for x, kept in zip(vectors, found, strict=True):
        np.testing.assert_allclose(kept, masked(x, elements, frequency), atol=tolerance)
        np.testing.assert_allclose(kept[elements].mean(0), 0, atol=tolerance)
    outside = np.setdiff1d(np.arange(p), elements)
    assert (found_bias[elements] == 0).all() and (found_bias[outside] == bias[outside]).all()


@pytest.mark.parametrize("op, p", CASES)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("surgery", [FrequencyFiltration, RandomFrequencyFiltration])
def test_g_and_r_add_up_to_the_network(op, p, tied, surgery):
    subject = random_network(op, p, tied=tied)
    (vectors, bias), (g, g_bias), (r, r_bias) = parts(subject), *(parts(surgery(part=part)(subject)) for part in "GR")
    elements = subject.task.group.elements.numpy()
    outside = np.setdiff1d(np.arange(p), elements)
    for whole, kept, rest in zip(vectors, g, r, strict=True):
        np.testing.assert_allclose(kept[elements] + rest[elements], whole[elements], atol=1e-13)
        np.testing.assert_allclose(rest[elements].mean(0), whole[elements].mean(0), atol=1e-13)
        assert (kept[outside] == whole[outside]).all() and (rest[outside] == whole[outside]).all()
    assert (r_bias == bias).all()
    np.testing.assert_allclose(g_bias[elements] + r_bias[elements], bias[elements])


@pytest.mark.parametrize("surgery", [FrequencyFiltration(), FrequencyFiltration("R"), RandomFrequencyFiltration()])
def test_the_network_itself_is_left_alone(surgery):
    subject = random_network("add", 7)
    before, bias = parts(subject)
    changed = surgery(subject)
    assert changed.model is not subject.model and changed.task is subject.task and changed.roles is subject.roles
    after, bias_after = parts(subject)
    assert all((x == y).all() for x, y in zip([*before, bias], [*after, bias_after], strict=True))


@pytest.mark.parametrize(
    "op, p",
    [("add", p) for p in (2, 3, 4, 5, 8, 9, 13, 16)]
    + [("subtract", p) for p in (2, 5, 8)]
    + [("multiply", p) for p in (3, 5, 13)],
)
@dtypes
def test_filtration_of_a_planted_network_changes_nothing(op, p, dtype):
    net = mm.planted_network(p, op=op, dtype=dtype).subject
    kept = FrequencyFiltration()(net)
    for (name, before), after in zip(net.model.named_parameters(), kept.model.parameters(), strict=True):
        limit = 2e-6 if dtype == torch.float32 else 1e-12
        assert (before - after).abs().max() < limit, name
    rest = FrequencyFiltration("R")(net)
    inside = net.task.group.elements
    left = rest.roles.input_embedding.read(rest.model)[:, inside]
    assert left.abs().max() < (2e-6 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("op, p", [("add", 11), ("subtract", 12), ("multiply", 13)])
def test_filtration_finds_the_rule_under_the_memorizing_neurons(op, p):
    net = mm.planted_network(p, op=op, memorized_fraction=0.2, seed=1)
    task = net.subject.task
    cells = torch.cat([task.train_ids, task.test_ids])

    def accuracy(name, ids, labels):
        return (mm.extractor(name)(net.subject)(ids).argmax(1) == labels).double().mean().item()

    noisy = task.splits["train_noisy"]
    assert accuracy("raw", noisy, task.given(noisy)) == 1
    assert accuracy("frequency", noisy, task.given(noisy)) < 0.2
    assert accuracy("frequency", cells, task.true(cells)) > 0.85
    assert accuracy("frequency_rest", task.test_ids, task.true(task.test_ids)) < 0.3


def test_a_random_frequency_breaks_the_rule():
    # Few neurons per frequency: of many, enough would keep theirs by luck.
    net = mm.planted_network(23, width=5 * 11)
    test = net.subject.task.test_ids
    truth = net.subject.task.true(test)

    def accuracy(name):
        return (mm.extractor(name)(net.subject)(test).argmax(1) == truth).double().mean().item()

    assert accuracy("frequency") == accuracy("raw") > 0.9
    assert accuracy("random_frequency") < 0.4


def test_random_frequencies_are_seeded_and_reach_every_frequency():
    subject = random_network("add", 9, width=200)
    one, same, other = (RandomFrequencyFiltration(seed=seed)(subject).model.W_in for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    kept = RandomFrequencyFiltration()(subject)
    share = frequency_power(
        subject.task.group, kept.roles.input_embedding.read(kept.model), kept.roles.readout.read(kept.model)
    )
    assert set(key_frequency(subject.task.group, share).tolist()) == {1, 2, 3, 4}
    assert (share.max(0).values > 1 - 1e-12).all()


@pytest.mark.parametrize("name", ["frequency", "random_frequency"])
def test_a_group_without_frequencies_is_refused(name):
    with pytest.raises(MissingNeedError, match="no frequency"):
        mm.extractor(name)(random_network("multiply", 2))


def test_what_is_missing_is_refused():
    subject = random_network("add", 5)
    with pytest.raises(MissingNeedError, match="role:readout"):
        FrequencyFiltration()(
            mm.Subject(subject.model, subject.task, mm.Roles(input_embedding=subject.roles.input_embedding))
        )
    with pytest.raises(MissingNeedError, match="need a group"):
        filtered(mm.Subject(subject.model, subject.task), torch.ones(10, dtype=torch.long), "G")
    for surgery in (FrequencyFiltration, RandomFrequencyFiltration):
        with pytest.raises(UnknownNameError, match="no part of a filtration 'H'"):
            surgery(part="H")
    with pytest.raises(ConfigError, match="seed"):
        RandomFrequencyFiltration(seed=-1)


def test_a_network_whose_inputs_are_two_linear_layers(draw):
    """Roles of a user's own network: two nn.Linear, stored transposed, and a readout with a bias."""

    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = torch.nn.Linear(7, 6, bias=False), torch.nn.Linear(7, 6, bias=False)
            self.act, self.out = torch.nn.ReLU(), torch.nn.Linear(6, 7)

        def forward(self, pairs):
            one_hot = torch.nn.functional.one_hot(pairs, 7).to(self.out.weight.dtype)
            return self.out(self.act(self.left(one_hot[:, 0]) + self.right(one_hot[:, 1])))

    model = Own().double()
    reference = random_network("add", 7, width=6)
    with torch.no_grad():
        model.left.weight.copy_(reference.model.W_in[:7].T)
        model.right.weight.copy_(reference.model.W_in[7:].T)
        model.out.weight.copy_(reference.model.W_out.T)
        model.out.bias.copy_(reference.model.b_out)
    roles = mm.Roles(
        input_embedding=mm.Role(("left.weight", "right.weight"), "operand neuron p -> operand p neuron"),
        readout=mm.Role("out.weight", "class neuron -> neuron class"),
        bias=mm.Role("out.bias", "class -> class"),
        activation="act",
    )
    own = mm.Subject(model, reference.task, roles)
    for name in ("raw", "frequency", "frequency_rest", "frequency+quadratic", "random_frequency"):
        chain = mm.extractor(name)
        torch.testing.assert_close(chain(own)(own.task.ids), chain(reference)(own.task.ids))
