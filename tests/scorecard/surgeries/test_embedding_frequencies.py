import numpy as np
import pytest
import torch
from small_transformer import small_transformer

import mechmem as mm
from mechmem.errors import MissingNeedError, RoleError
from mechmem.models.networks.mlp import HookedMLP
from mechmem.scorecard.surgeries.embedding_frequencies import EmbeddingFrequencies


def mlp(op="add", p=9, tied=False):
    task = mm.ModularTask(mm.ModularConfig(op=op, p=p, train_fraction=0.6))
    model = HookedMLP(mm.MLPConfig(width=8, tied=tied), p, seed=2).double()
    return mm.Subject(model, task, model.roles)


def filtered(vectors, elements, count):
    n = len(elements)
    spectrum = np.fft.fft(vectors[elements], axis=0)
    energy = (np.abs(spectrum) ** 2).sum(1)[1 : n // 2 + 1]
    mask = np.zeros((n, 1))
    for k in (0, *(1 + np.argsort(energy)[::-1][:count])):
        mask[k] = mask[-k % n] = 1
    out = vectors.copy()
    out[elements] = np.fft.ifft(spectrum * mask, axis=0).real
    return out


@pytest.mark.parametrize(
    "subject",
    [mlp(), mlp(tied=True), mlp("multiply", 11), mlp("subtract", 8), small_transformer(), small_transformer(8)],
)
@pytest.mark.parametrize("count", [1, 2])
def test_each_operand_keeps_its_own_strongest(subject, count):
    role, elements = subject.roles.input_embedding, subject.task.group.elements.numpy()
    before = role.read(subject.model).numpy().copy()
    found = role.read(EmbeddingFrequencies(count)(subject).model).numpy()
    for vectors, kept in zip(before, found, strict=True):
        np.testing.assert_allclose(kept, filtered(vectors, elements, count), atol=1e-13)


def test_the_equals_sign_keeps_its_embedding():
    subject = small_transformer()
    changed = EmbeddingFrequencies(1)(subject)
    assert torch.equal(changed.model.embed.W_E[7], subject.model.embed.W_E[7])
    assert not torch.allclose(changed.model.embed.W_E[:7], subject.model.embed.W_E[:7])


@pytest.mark.parametrize("subject", [mlp(), small_transformer(), mlp("multiply", 11)])
def test_to_keep_every_frequency_is_no_extraction(subject):
    n = subject.task.group.n_frequencies
    for by in ("energy", "random"):
        with pytest.raises(MissingNeedError, match=f"the group has {n}: nothing would be removed"):
            EmbeddingFrequencies(n, by)(subject)


@pytest.mark.parametrize(("subject", "shared"), [(mlp(p=13), False), (mlp(p=13, tied=True), True)])
def test_random_frequencies_are_whole_in_one_embedding_and_apart_in_two(subject, shared):
    group, role, different = subject.task.group, subject.roles.input_embedding, 0
    for seed in range(6):
        found = role.read(EmbeddingFrequencies(2, "random", seed)(subject).model)
        kept = [(group.power(vectors).sum(1) > 1e-20).tolist() for vectors in found]
        assert sum(kept[0]) == sum(kept[1]) == 2
        different += kept[0] != kept[1]
        if shared:
            energy, whole = (group.power(each.read(m)[0]) for each, m in ((role, subject.model), (role, subject.model)))
            torch.testing.assert_close(group.power(found[0])[kept[0]], energy[kept[0]])
    assert (different == 0) == shared


def test_what_it_is_told(draw):
    """b called 2b is no other network to it, the symbols in another order are."""
    p, predict = 11, mm.extractor("embedding_frequencies(1)")
    subject = mlp(p=p)
    assert predict.knows == {"pairs", "input_group"}
    before, role = predict(subject)(subject.task.ids), subject.roles.input_embedding
    for left, right, same in (
        (torch.arange(p), 2 * torch.arange(p) % p, True),
        (torch.randperm(p, generator=draw), torch.arange(p), False),
    ):
        model = subject.copy_model()
        weights = torch.empty_like(role.read(model))
        weights[0, left], weights[1, right] = role.read(model).unbind(0)
        role.write(model, weights)
        a, b = subject.task.operands.unbind(1)
        after = predict(subject.with_model(model))(left[a] * p + right[b])
        assert torch.allclose(after, before) == same


def test_refusals():
    subject = mlp()
    role = mm.Role("W_in", "(operand p) neuron -> p operand neuron", {"operand": 2})
    with pytest.raises(RoleError, match="must read as \\(operands, 9, neurons\\)"):
        EmbeddingFrequencies()(mm.Subject(subject.model, subject.task, mm.Roles(input_embedding=role)))
    assert mm.extractor("embedding_frequencies(3)").control().name == "embedding_frequencies(count=3,by=random)"
