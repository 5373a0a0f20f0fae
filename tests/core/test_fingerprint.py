"""A network's fingerprint changes with every bit of its weights, whoever wrote it, and with nothing else."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import vector_to_parameters

import mechmem as mm
from mechmem.core import fingerprint as module
from mechmem.core.fingerprint import checksum, fingerprint

X = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % 3


def in_python(tensor):
    """The same sum, in Python's whole numbers, piece by piece."""
    kind = {1: np.uint8, 2: np.int16}.get(tensor.element_size(), np.int32)
    raw = tensor.contiguous().flatten().view(torch.uint8).numpy().view(kind).tolist()
    weights, at_once = module._weights(torch.device("cpu")).tolist(), module._AT_ONCE
    found = 0
    for start in range(0, max(len(raw), 1), at_once):
        part = raw[start : start + at_once]
        found = (found * 0x9E3779B97F4A7C15 + sum(x * w for x, w in zip(part, weights, strict=False))) % 2**64
    return found


TENSORS = {
    "float32": torch.randn(7, 5),
    "float64": torch.randn(7, 5, dtype=torch.float64),
    "bfloat16": torch.randn(9).bfloat16(),
    "complex64": torch.randn(4, dtype=torch.complex64),
    "int64": torch.arange(-3, 9),
    "bool": torch.tensor([True, False, True]),
    "a number": torch.tensor(3),
    "nothing": torch.zeros(0, 4),
    "a view": torch.randn(6, 8)[::2, 1:].T,
}


@pytest.mark.parametrize("name", TENSORS)
def test_the_checksum_equals_whole_numbers(name, monkeypatch):
    tensor = TENSORS[name]
    assert checksum(tensor) == in_python(tensor)
    monkeypatch.setattr(module, "_AT_ONCE", 4)
    assert checksum(tensor) == in_python(tensor)


def test_a_sparse_tensor_is_read_too():
    dense = torch.eye(3)
    assert checksum(dense.to_sparse()) == checksum(dense)


@given(st.sampled_from(["float32", "float64", "bfloat16"]), st.integers(0, 10**6), st.data())
def test_what_keeps_plain_sums_changes_the_checksum(dtype, seed, data):
    values = torch.randn(8, 6, generator=torch.Generator().manual_seed(seed)).to(getattr(torch, dtype))
    before = checksum(values)
    i, j = data.draw(st.lists(st.integers(0, 47), min_size=2, max_size=2, unique=True))
    swapped = values.flatten().clone()
    swapped[[i, j]] = swapped[[j, i]]
    changed = [-values, values.flip(0), values.roll(1), values.T.reshape(8, 6)]
    changed += [swapped] if values.flatten()[i] != values.flatten()[j] else []
    signs = values.clone()
    signs[::2, ::2] *= -1
    signs[1::2, 1::2] *= -1
    nudged = values.clone()
    nudged[0, 0] = nudged[0, 0].nextafter(torch.tensor(9.0).to(values)) if dtype != "bfloat16" else 9.0
    assert checksum(values.clone()) == before
    assert all(checksum(each) != before for each in (*changed, signs, nudged))


def fused(model):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
    F.cross_entropy(model(X), Y).backward()
    optimizer.step()


def through_numpy(model):
    model.weight.detach().numpy()[0, :2] *= -1


WRITERS = {
    "a fused optimizer": fused,
    "data": lambda model: model.weight.data.mul_(-1),
    "other data": lambda model: setattr(model.weight, "data", torch.randn(3, 6)),
    "a vector": lambda model: vector_to_parameters(torch.randn(21), model.parameters()),
    "numpy": through_numpy,
    "a state dict": lambda model: model.load_state_dict(nn.Linear(6, 3).state_dict(), strict=False),
    "another parameter": lambda model: setattr(model, "bias", nn.Parameter(torch.ones(3))),
    "another precision": lambda model: model.double(),
    "a buffer": lambda model: model.scale.fill_(2),
    "a hook": lambda model: model.register_forward_hook(lambda *_: None),
    "a hook before": lambda model: model.register_forward_pre_hook(lambda *_: None),
    "a submodule": lambda model: setattr(model, "inner", nn.Identity()),
}


@pytest.mark.parametrize("who", WRITERS)
def test_whoever_changes_a_network_is_seen(who):
    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    model.inner = nn.Identity()
    model.register_buffer("scale", torch.ones(1))
    before = fingerprint(model)
    model.eval()
    assert fingerprint(model) == before
    WRITERS[who](model)
    assert fingerprint(model) != before


def test_weights_that_are_not_there_yet_count_once_they_are():
    model = nn.LazyLinear(3)
    before = fingerprint(model)
    model(X)
    assert fingerprint(model) != before


def test_a_replaced_submodule_is_seen_even_at_the_address_of_the_one_before():
    model = nn.Sequential(nn.ReLU())
    before = fingerprint(model)
    seen = []
    for _ in range(20):
        model[0] = nn.Tanh()
        seen.append(fingerprint(model))
    assert before not in seen and len({id(each[-1][1]) for each in seen}) == 20


@pytest.mark.parametrize("who", ["a fused optimizer", "data", "numpy", "a vector"])
def test_an_audit_shows_the_network_as_it_is_now(who):
    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    task = mm.ArrayTask(X, Y, Y, torch.arange(24) < 20, n_classes=3)
    subject = mm.Subject(model, task)
    for _ in range(3):
        WRITERS[who](model)
        card = mm.audit(subject, ["raw"])
        fresh = mm.audit(mm.Subject(copy.deepcopy(model), task), ["raw"])
        assert card.to_frame().equals(fresh.to_frame())
