"""Masks by id against SplitMix64 written with Python's own whole numbers."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mechmem.math.example_masks import example_mask

WORD = 2**64 - 1


def mixed(state):
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & WORD
    return state ^ (state >> 31)


def reference(example, unit, keep, key):
    golden = 0x9E3779B97F4A7C15
    state = (mixed((example * golden + key) & WORD) + (unit + 1) * golden) & WORD
    return (mixed(state) >> 1) < int(keep * 2**63)


IDS = st.lists(st.integers(0, 2**62), min_size=1, max_size=6)


@given(IDS, st.integers(1, 9), st.floats(0.001, 0.999), st.integers(0, 2**63 - 1))
@settings(max_examples=60, deadline=None)
def test_a_mask_is_the_hash_of_key_id_and_unit(ids, units, keep, key):
    found = example_mask(torch.tensor(ids), units, keep, key)
    assert found.tolist() == [[reference(i, unit, keep, key) for unit in range(units)] for i in ids]


@given(IDS, st.randoms())
@settings(max_examples=30, deadline=None)
def test_a_mask_does_not_depend_on_the_batch(ids, shuffle):
    whole = dict(zip(ids, example_mask(torch.tensor(ids), 40, 0.3, 5), strict=True))
    shuffle.shuffle(ids)
    for one in ids:
        assert torch.equal(example_mask(torch.tensor([one]), 40, 0.3, 5)[0], whole[one])


def test_units_belong_to_an_example_at_the_given_rate_and_independently():
    for keep in (0.1, 0.5, 0.73):
        ids = torch.cat([torch.arange(200), 2**24 + torch.arange(200), 2**53 + torch.arange(200)])
        found = example_mask(ids, 500, keep, 11).double().numpy()
        low, high = stats.binom.interval(1 - 1e-9, found.size, keep)
        assert low <= found.sum() <= high
        for axis in (0, 1):
            # Counts per unit, and per example, spread as independent draws do.
            counts = found.sum(axis)
            spread = counts.var() / (found.shape[axis] * keep * (1 - keep))
            assert 0.7 < spread < 1.35
        other = example_mask(ids, 500, keep, 12).double().numpy()
        between = np.corrcoef(found.ravel(), other.ravel())[0, 1]
        after = np.corrcoef(found[:-1].ravel(), found[1:].ravel())[0, 1]
        assert abs(between) < 0.01 and abs(after) < 0.01


@pytest.mark.slow
def test_masks_are_the_same_in_another_process():
    code = (
        "import torch; from mechmem.math.example_masks import example_mask as m;"
        "print(m(torch.tensor([7, 2**40]), 24, .4, 99).int().flatten().tolist())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert found == str(example_mask(torch.tensor([7, 2**40]), 24, 0.4, 99).int().flatten().tolist())
