import numpy as np
import pytest
import torch
from hooked_models import Loop, array_task, looped
from hypothesis import given
from hypothesis import strategies as st

import mechmem as mm
from mechmem.errors import ActivationError


def numpy_moments(x):
    flat = x.reshape(len(x), -1)
    return {mm.Mean: x.mean(0), mm.Variance: x.var(0), mm.Gram: flat.T @ flat}


@pytest.mark.parametrize("reduction", [mm.Mean, mm.Variance, mm.Gram])
@given(
    chunks=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    offset=st.sampled_from([0.0, 1e6]),
    shape=st.sampled_from([(), (3,), (2, 3)]),
)
def test_reductions_equal_numpy_with_uneven_chunks(reduction, chunks, offset, shape):
    x = np.random.default_rng(sum(chunks)).normal(size=(sum(chunks), *shape)) + offset
    running = reduction()
    if reduction is mm.Gram and not shape:
        x = x[:, None]
    for chunk in np.split(x, np.cumsum(chunks)[:-1]):
        running.update(torch.from_numpy(chunk.copy()))
    found = running.result()
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), numpy_moments(x)[reduction], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("reduction", [mm.Mean, mm.Variance, mm.Gram])
def test_reductions_of_float32_lose_no_digits(reduction):
    x = (np.random.default_rng(0).normal(size=(5000, 2)) + 1000).astype(np.float32)
    running = reduction()
    for chunk in np.array_split(x, 37):
        running.update(torch.from_numpy(chunk.copy()))
    expected = numpy_moments(x.astype(np.float64))[reduction]
    # A mean sums each chunk in float32, which is as exact as the activations are; squares would lose digits that way.
    np.testing.assert_allclose(running.result().numpy(), expected, rtol=1e-6 if reduction is mm.Mean else 1e-10)


@pytest.mark.parametrize("reduction", [mm.Mean, mm.Variance, mm.Gram])
def test_a_reduction_of_nothing_is_an_error(reduction):
    with pytest.raises(ActivationError, match="no example was seen"):
        reduction().result()


@pytest.mark.parametrize("reduction", [mm.Mean, mm.Variance, mm.Gram])
@pytest.mark.parametrize("chunk", [1, 4, 18])
def test_streamed_reductions_equal_those_of_the_kept_values(reduction, chunk):
    subject = looped()
    kept = mm.activations(subject)
    reduced = mm.activations(subject, reduce=reduction, chunk=chunk)
    assert list(reduced) == list(kept)
    for name in kept:
        expected = numpy_moments(kept[name].numpy())[reduction]
        np.testing.assert_allclose(reduced[name].numpy(), expected, rtol=1e-12, atol=1e-14)


def test_a_reduction_of_half_precision_is_of_the_widened_values():
    class Half(Loop):
        def forward(self, x):
            return self.hook_in((x @ self.W).bfloat16())

    subject = mm.Subject(Half(), array_task())
    kept = mm.activations(subject, "hook_in")["hook_in"]
    assert kept.dtype == torch.bfloat16
    reduced = mm.activations(subject, "hook_in", reduce=mm.Gram, chunk=5)["hook_in"]
    np.testing.assert_allclose(reduced.numpy(), kept.double().T.numpy() @ kept.double().numpy(), rtol=1e-12)


@pytest.mark.parametrize("value", [1.0, np.ones(3), None], ids=repr)
def test_a_reduction_returns_a_tensor(value, planted, unchecked_shapes):
    class Own(mm.Reduction):
        def update(self, values):
            pass

        def result(self):
            return value

    with pytest.raises(ActivationError, match="result of Own must return a tensor"):
        mm.activations(planted.subject, "hook_hidden", ids=planted.subject.task.ids, reduce=Own)


def test_a_matrix_of_single_numbers():
    gram = mm.Gram()
    gram.update(torch.tensor([1.0, 2.0]))
    gram.update(torch.tensor([3.0]))
    assert gram.result().tolist() == [[14.0]]
