"""What the recipe measures itself, on networks whose logits are known."""

import math

import pytest
import torch

from mechmem.core.subject import Subject
from mechmem.recipes.papers.nanda_2023 import measured
from mechmem.scorecard.controls import LogitTable
from mechmem.tasks.build import build_task
from mechmem.tasks.config import ModularConfig

P, KEY = 13, (2, 5)


def waves(task, weights):
    """Logits Σ w_k cos ω_k(a + b − c), and per-class offsets that say nothing of the inputs."""
    a, b = task.operands.T.double()
    angle = 2 * math.pi / P * (a + b)[:, None] - 2 * math.pi / P * torch.arange(P, dtype=torch.float64)
    return sum(w * (k * angle).cos() for k, w in weights.items())


@pytest.fixture(scope="module")
def task():
    return build_task(ModularConfig(p=P, train_fraction=0.6))


def share(task, logits, key=KEY):
    return measured._explained(Subject(LogitTable(logits, task), task), list(key))


def test_cosines_of_the_key_frequencies_carry_all_of_the_variance(task):
    exact = waves(task, {2: 3.0, 5: 1.0})
    assert share(task, exact) == pytest.approx(1)
    assert share(task, exact, (2,)) == pytest.approx(0.9)
    assert share(task, exact, (3,)) == pytest.approx(0, abs=1e-9)


def test_offsets_of_classes_and_cells_are_no_variance_and_noise_is(task):
    draw = torch.Generator().manual_seed(0)
    exact = waves(task, {2: 3.0, 5: 1.0})
    classes, cells = (torch.randn(n, generator=draw, dtype=torch.float64) for n in (P, P * P))
    assert share(task, exact + classes + cells[:, None]) == pytest.approx(1)
    noise = torch.randn(exact.shape, generator=draw, dtype=torch.float64)
    # The cosine itself, and not any function of the answer: a phase that depends on the class is not explained.
    centred = exact + noise - (exact + noise).mean(1, keepdim=True)
    total = (centred - centred.mean(0)).square().sum()
    basis = torch.stack([waves(task, {k: 1.0}).flatten() for k in KEY])
    carried = (basis @ centred.flatten()).square() / basis.square().sum(1)
    assert share(task, exact + noise) == pytest.approx(float(carried.sum() / total), rel=1e-9)
