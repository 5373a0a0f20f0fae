"""Features against numpy, classes on planted neurons, and a null that means what it says."""

import math

import numpy as np
import pytest
import torch

from mechmem.math.filtration import frequency_power, key_frequency
from mechmem.math.fourier_neurons import (
    CLASSES,
    DEAD,
    GENERALIZING,
    MEMORIZING,
    MIXED,
    OUTSIDE,
    NullSettings,
    alignment_error,
    fourier_features,
    fourier_null,
    neuron_classes,
)
from mechmem.tasks.groups import CyclicGroup


def null_settings(p, names="uvw", *, tied=False, seed=0):
    return NullSettings(CyclicGroup(p), p, tuple(names), "add", tied, 0.01, math.pi / 4, neurons=20_000, seed=seed)


def random_vectors(p, neurons, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(p, neurons, generator=draw, dtype=dtype) for _ in range(3)]


def wave(p, k, phase):
    return torch.cos(2 * math.pi * k * torch.arange(p).double() / p + phase)


@pytest.mark.parametrize(("p", "multiplicative"), [(5, False), (12, False), (59, False), (11, True)])
def test_features_equal_numpy(p, multiplicative):
    group = CyclicGroup(p, multiplicative)
    vectors = random_vectors(p, 6)
    found = fourier_features(group, "uvw", vectors)
    shares = frequency_power(group, torch.stack(vectors[:2]), vectors[2].T)
    assert torch.equal(found.key, key_frequency(group, shares))
    torch.testing.assert_close(found.share, shares[found.key - 1, torch.arange(shares.shape[1])])
    order = group.elements.numpy()
    n = len(order)
    for row, x in enumerate(vectors):
        for m in range(6):
            transform = np.fft.rfft(x.numpy()[order, m])
            k = int(found.key[m])
            assert int(found.vector_key[row, m]) == 1 + int(np.abs(transform[1:]).argmax())
            assert float(found.phase[row, m]) == pytest.approx(np.angle(transform[k]), abs=1e-9)
            size = np.abs(transform[k]) / n * (1 if 2 * k == n else 2)
            assert float(found.amplitude[row, m]) == pytest.approx(size)
            assert float(found.norm[row, m]) == pytest.approx(np.linalg.norm(x.numpy()[:, m]))
            outside = (x.numpy()[group.outside.numpy(), m] ** 2).sum() / (x.numpy()[:, m] ** 2).sum()
            assert float(found.outside[row, m]) == pytest.approx(outside)


@pytest.mark.parametrize("p", [7, 8])
def test_alignment_of_waves_is_zero_for_their_operation_only(p):
    group, phases = CyclicGroup(p), torch.tensor([[0.3, 1.0], [3.0, 0.5]])
    u = torch.stack([wave(p, 2, float(phi)) for phi in phases[0]], 1)
    v = torch.stack([wave(p, 2, float(phi)) for phi in phases[1]], 1)
    for operation, sign in (("add", 1), ("subtract", -1)):
        w = torch.stack([wave(p, 2, float(phi)) for phi in phases[0] + sign * phases[1]], 1)
        found = fourier_features(group, "uvw", [u, v, w])
        other = "subtract" if operation == "add" else "add"
        assert float(alignment_error(found, operation).abs().max()) < 1e-6
        assert float(alignment_error(found, other).abs().min()) > 0.1
    assert alignment_error(found, "power") is None
    assert alignment_error(fourier_features(group, "uv", [u, v]), "add") is None


def test_each_rule_makes_its_class():
    p, group = 11, CyclicGroup(11, multiplicative=True)
    place, zero, one = group.logarithm, torch.zeros(p).double(), torch.zeros(p).double()
    one[3] = 1
    zero[0] = 1

    def over_group(phase):
        x = torch.zeros(p).double()
        x[group.elements] = wave(10, 2, phase)
        return x

    neurons = {
        GENERALIZING: [over_group(0.4), over_group(0.5), over_group(0.9 + 0.7)],
        MIXED: [over_group(0.4), over_group(0.5), over_group(0.9 + 0.9)],
        MEMORIZING: [one, one, one],
        OUTSIDE: [zero, zero, zero],
        DEAD: [over_group(0.4), over_group(0.5), 1e-5 * over_group(0.9)],
    }
    assert int(place[0]) == -1
    vectors = [torch.stack([triple[row] for triple in neurons.values()], 1) for row in range(3)]
    found = fourier_features(group, "uvw", vectors)
    error = alignment_error(found, "multiply")
    classes = neuron_classes(found, error, 0.9, math.pi / 4)
    assert classes.tolist() == list(neurons)
    # A phase exists only where there is a wave.
    assert torch.isnan(found.phase[:, list(neurons).index(OUTSIDE)]).all()
    assert neuron_classes(found, None, 0.9, math.pi / 4)[0] == MIXED


def test_most_of_a_layer_may_be_dead():
    vectors = random_vectors(13, 100)
    for x in vectors:
        x[:, 5:] *= 1e-9
    found = fourier_features(CyclicGroup(13), "uvw", vectors)
    assert (neuron_classes(found, None, 0.5, 1.0) == DEAD).tolist() == [False] * 5 + [True] * 95
    silent = fourier_features(CyclicGroup(13), "uvw", [torch.zeros(13, 2)] * 3)
    assert (neuron_classes(silent, None, 0.5, 1.0) == DEAD).all() and not silent.key.any()


@pytest.mark.parametrize(
    ("p", "names", "tied"),
    [(4, "uvw", False), (12, "uvw", False), (59, "uvw", False), (59, "uvw", True), (59, "w", False)],
)
def test_random_neurons_pass_at_the_stated_rate(p, names, tied):
    """On a third draw; the margin covers its own error and the threshold's, four standard deviations each."""
    null = fourier_null(null_settings(p, names, tied=tied))
    n, alpha = 20_000, 0.01
    vectors = random_vectors(p, n, seed=9, dtype=torch.float32)
    vectors[1] = vectors[0] if tied else vectors[1]
    found = fourier_features(CyclicGroup(p), names, vectors[: len(names)])
    deviation = math.sqrt(2 * alpha * (1 - alpha) / n)
    assert abs(float((found.share > null.share_threshold).double().mean()) - alpha) < 4 * deviation
    assert abs(null.common_rate.value - alpha) < 4 * deviation and null.common_rate.n == n
    if names == "uvw" and p % 2:
        assert abs(null.generalizing_rate.value - alpha / 4) < 4 * math.sqrt(alpha / 2 / n)
    if names == "w":
        assert null.generalizing_rate is None


def test_a_null_for_untied_vectors_would_not_do_for_tied_ones():
    free, tied = (fourier_null(null_settings(59, tied=tied)) for tied in (False, True))
    assert tied.share_threshold > 1.05 * free.share_threshold


def test_the_null_is_drawn_once_and_nobody_can_spoil_it():
    first = fourier_null(null_settings(7))
    wanted = first.share.clone()
    first.share.zero_()
    assert torch.equal(fourier_null(null_settings(7)).share, wanted)
    other = fourier_null(null_settings(7, seed=1))
    assert other.share_threshold != first.share_threshold


def test_classes_are_numbered_as_named():
    assert [CLASSES[kind] for kind in (GENERALIZING, MIXED, MEMORIZING, OUTSIDE, DEAD)] == list(CLASSES)
