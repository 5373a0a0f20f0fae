import numpy as np
import pytest
import torch
from small_transformer import small_transformer

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError, RoleError
from mechmem.models.networks.mlp import HookedMLP
from mechmem.scorecard.surgeries.readout_frequencies import ReadoutFrequencies


def mlp(op="add", p=9):
    task = mm.ModularTask(mm.ModularConfig(op=op, p=p, train_fraction=0.6))
    model = HookedMLP(mm.MLPConfig(width=8, bias=True), p, seed=2).double()
    return mm.Subject(model, task, model.roles)


def masked(vectors, elements, kept):
    """numpy's spectrum without the other frequencies; the constant stays, and so do symbols outside the group."""
    n = len(elements)
    spectrum = np.fft.fft(vectors[elements], axis=0)
    mask = np.zeros((n, 1))
    for k in (0, *kept):
        mask[k] = mask[-k % n] = 1
    out = vectors.copy()
    out[elements] = np.fft.ifft(spectrum * mask, axis=0).real
    return out


def strongest(vectors, elements, count):
    power = (np.abs(np.fft.rfft(vectors[elements], axis=0)) ** 2).sum(1)
    return 1 + np.argsort(power[1:])[::-1][:count]


@pytest.mark.parametrize(
    "subject", [mlp(), mlp("multiply", 11), mlp("subtract", 8), small_transformer(), small_transformer(11, "multiply")]
)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_strongest_stay_and_the_rest_goes(subject, count):
    count = min(count, subject.task.group.n_frequencies - 1)
    role, elements = subject.roles.readout, subject.task.group.elements.numpy()
    w = role.read(subject.model).T.numpy().copy()
    changed = ReadoutFrequencies(count)(subject)
    found = role.read(changed.model).T.numpy()
    np.testing.assert_allclose(found, masked(w, elements, strongest(w, elements, count)), atol=1e-13)
    assert (role.read(subject.model).T.numpy() == w).all()
    for (name, before), after in zip(subject.model.named_parameters(), changed.model.parameters(), strict=True):
        assert name in (role.parameter,) or torch.equal(before, after)


@pytest.mark.parametrize("subject", [mlp(), small_transformer(), mlp("multiply", 11)])
def test_to_keep_every_frequency_is_no_extraction(subject):
    n = subject.task.group.n_frequencies
    for by in ("energy", "random"):
        with pytest.raises(MissingNeedError, match=f"the group has {n}: nothing would be removed"):
            ReadoutFrequencies(n, by)(subject)


def test_the_constant_decides_nothing_among_the_groups_classes(draw):
    """What the docstring says of the constant: with it taken out too, differences of logits are the same."""
    subject = small_transformer()
    kept = ReadoutFrequencies(2)(subject)
    without = kept.with_model(kept.copy_model())
    w = kept.roles.readout.read(without.model)
    kept.roles.readout.write(without.model, w - w.mean(1, keepdim=True))
    one, two = (mm.extractor("raw")(each)(subject.task.ids) for each in (kept, without))
    torch.testing.assert_close(one - one.mean(1, keepdim=True), two - two.mean(1, keepdim=True))


def test_the_control_keeps_as_many_at_random():
    subject = small_transformer(13)
    chain = mm.extractor("readout_frequencies(2)")
    assert chain.control().name == "readout_frequencies(count=2,by=random)" and chain.control().control() is None
    role = subject.roles.readout
    kept = set()
    for seed in range(8):
        found = role.read(ReadoutFrequencies(2, "random", seed)(subject).model).T
        energy = subject.task.group.power(found).sum(1)
        assert int((energy > 1e-20).sum()) == 2
        kept |= set((energy > 1e-20).nonzero().squeeze(1).tolist())
    assert len(kept) > 3


def test_names():
    assert mm.extractor("unembedding_frequencies") == mm.extractor("readout_frequencies+logits")
    assert mm.extractor("unembedding_frequencies").name == "readout_frequencies"
    assert mm.extractor("unembedding_frequencies(3)").name == "readout_frequencies(count=3)"


def test_a_planted_clock_s_readout_is_found():
    """A rule on two frequencies under a readout full of noise: the two stay, and the noise of the others goes."""
    subject = mm.planted_network(13, dtype=torch.float64).subject
    w = subject.roles.readout.read(subject.model)
    group = subject.task.group
    two = [k - 1 for k in (2, 5)]
    loud = ReadoutFrequencies(2)
    boosted = subject.with_model(subject.copy_model())
    extra = sum(group.keep(w.T.contiguous(), torch.full((len(w),), k + 1)) for k in two)
    boosted.roles.readout.write(boosted.model, w + 3 * extra.T)
    energy = group.power(boosted.roles.readout.read(loud(boosted).model).T.contiguous()).sum(1)
    assert (energy > 1e-20).nonzero().squeeze(1).tolist() == two


def test_what_it_is_told(draw):
    """Renamed classes change what it keeps; renamed inputs do not."""
    subject = small_transformer(11)
    assert mm.extractor("readout_frequencies").knows == {"output_group"}
    names, predict = torch.randperm(11, generator=draw), mm.extractor("readout_frequencies(1)")
    before = predict(subject)(subject.task.ids)
    model = subject.copy_model()
    model.unembed.W_U.data[:, names] = subject.model.unembed.W_U.data.clone()
    model.unembed.b_U.data[names] = subject.model.unembed.b_U.data.clone()
    after = predict(subject.with_model(model))(subject.task.ids)[:, names]
    assert (after - before).abs().max() > 1e-3
    model = subject.copy_model()
    model.embed.W_E.data[names] = subject.model.embed.W_E.data[:11].clone()
    moved = (names[subject.task.operands] * torch.tensor([11, 1])).sum(1)
    torch.testing.assert_close(predict(subject.with_model(model))(moved), before)


def test_refusals():
    for settings in ({"count": 0}, {"seed": -1}):
        with pytest.raises(ConfigError):
            ReadoutFrequencies(**settings)
    with pytest.raises(LookupError, match="energy"):
        ReadoutFrequencies(by="enrgy")
    subject = mlp()
    wrong = mm.Subject(subject.model, subject.task, mm.Roles(readout=mm.Role("W_out", "a b -> b a")))
    with pytest.raises(RoleError, match="must read as \\(neurons, 9\\)"):
        ReadoutFrequencies()(wrong)
    with pytest.raises(MissingNeedError, match="role:readout"):
        ReadoutFrequencies()(mm.Subject(subject.model, subject.task))
