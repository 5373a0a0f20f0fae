"""IPR against numpy's FFT in both conventions, on planted waves, and for every parity of p."""

import numpy as np
import pytest
import torch
from plugin_names import score

import mechmem as mm
from mechmem.errors import MissingNeedError
from mechmem.tasks.groups import CyclicGroup


def reference(vector, convention):
    transform = np.fft.rfft if convention == "one_sided" else np.fft.fft
    amplitude = np.abs(transform(vector))
    return (amplitude**4).sum() / (amplitude**2).sum() ** 2


def subject_of(p, width=7, op="add"):
    task = mm.ModularTask(mm.ModularConfig(op=op, p=p, train_fraction=0.5))
    from mechmem.models.networks.mlp import HookedMLP

    model = HookedMLP(mm.MLPConfig(width=width), p).double()
    return mm.Subject(model, task, model.roles)


@pytest.mark.parametrize("p", [2, 3, 6, 7, 12, 59])
@pytest.mark.parametrize("convention", ["one_sided", "two_sided"])
def test_equals_numpy(p, convention):
    subject = subject_of(p)
    u, v = subject.model.W_in.detach().numpy().reshape(2, p, -1)
    w = subject.model.W_out.detach().numpy().T
    wanted = [np.mean([reference(x[:, m], convention) for x in (u, v, w)]) for m in range(7)]
    assert np.allclose(score(f"ipr({convention})")(subject).values.numpy(), wanted, rtol=1e-12)
    only_w = [reference(w[:, m], convention) for m in range(7)]
    assert np.allclose(score(f"ipr({convention},of=w)")(subject).values.numpy(), only_w, rtol=1e-12)


def test_multiplication_is_measured_in_the_order_of_the_group():
    subject = subject_of(11, op="multiply")
    w = subject.model.W_out.detach().numpy().T[CyclicGroup(11, multiplicative=True).elements]
    wanted = [reference(w[:, m], "one_sided") for m in range(7)]
    assert np.allclose(score("ipr(of=w)")(subject).values.numpy(), wanted, rtol=1e-12)


@pytest.mark.parametrize("p", [7, 8])
def test_planted_waves_have_one_or_a_half(p):
    planted = mm.planted_network(p, dtype=torch.float64)
    one, two = (score(name)(planted.subject).values for name in ("ipr", "ipr(two_sided)"))
    assert torch.allclose(one, torch.ones_like(one))
    # The Nyquist frequency of an even p is one coefficient on both sides.
    wanted = torch.where(2 * planted.frequency == p, 1.0, 0.5).double()
    assert torch.allclose(two, wanted)


def test_a_vector_of_zeros_has_no_ipr_and_a_missing_vector_is_refused():
    subject = subject_of(7)
    with torch.no_grad():
        subject.model.W_out[3] = 0
    assert score("ipr(of=w)")(subject).values[3] == 0
    with pytest.raises(MissingNeedError, match="needs"):
        score("ipr")(mm.Subject(subject.model, subject.task))
