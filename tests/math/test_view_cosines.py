"""Mean cosines of views against every pair, one by one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechmem.math.representations import ViewCosines


@settings(max_examples=30)
@given(st.integers(2, 4), st.integers(2, 6), st.integers(1, 5), st.integers(0, 99), st.integers(1, 6))
def test_every_pair_counts_once(views, examples, features, seed, block):
    held = np.random.default_rng(seed).normal(size=(views, examples, features)) + 1
    held[0, 0] = 0
    unit = np.divide(held, np.linalg.norm(held, axis=2, keepdims=True), where=held.any(2, keepdims=True), out=held * 0)
    same = [
        np.mean([a @ b for v, a in enumerate(own) for w, b in enumerate(own) if v != w]) for own in unit.swapaxes(0, 1)
    ]
    pairs = [
        unit[v, i] @ unit[w, j]
        for i in range(examples)
        for j in range(examples)
        for v in range(views)
        for w in range(views)
        if i != j
    ]
    found = ViewCosines()
    for part in torch.from_numpy(held).split(block, dim=1):
        found.add(part)
    np.testing.assert_allclose(found.same, same, atol=1e-12)
    assert found.different == pytest.approx(np.mean(pairs), abs=1e-12)


def test_another_number_of_views_is_refused():
    found = ViewCosines()
    found.add(torch.ones(3, 2, 2))
    for views in (1, 2):
        with pytest.raises(ValueError, match="same number of views"):
            found.add(torch.ones(views, 2, 2))
