"""Markov sources: probabilities, drawing and the best possible loss, against every sequence one by one."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechmem.math.markov import MarkovSource


def probability(source, tokens):
    """The probability of a sequence, from the tables by hand."""
    found = 1.0
    for place, token in enumerate(tokens):
        known = tokens[max(0, place - source.order) : place]
        row = sum(each * source.vocabulary**power for power, each in enumerate(reversed(known)))
        found *= float(source.tables[len(known)][row, token])
    return found


@given(st.integers(2, 3), st.integers(1, 3), st.integers(2, 5), st.floats(0, 4), st.integers(0, 9))
def test_best_loss_and_accuracy_are_those_of_every_sequence(vocabulary, order, length, sharpness, seed):
    source = MarkovSource.drawn(vocabulary, order, sharpness, torch.Generator().manual_seed(seed))
    every = list(itertools.product(range(vocabulary), repeat=length))
    chance = torch.tensor([probability(source, each) for each in every], dtype=torch.float64)
    assert float(chance.sum()) == pytest.approx(1)
    tokens = torch.tensor(every)
    loss, accuracy = source.expected(length)
    torch.testing.assert_close(loss, (chance[:, None] * source.losses(tokens)).sum(0))
    right = (source.best(tokens) == tokens[:, 1:]).double()
    torch.testing.assert_close(accuracy, (chance[:, None] * right).sum(0))


@given(st.integers(2, 4), st.integers(1, 3), st.integers(0, 99))
def test_probabilities_are_ratios_of_those_of_prefixes(vocabulary, order, seed):
    source = MarkovSource.drawn(vocabulary, order, 2.0, torch.Generator().manual_seed(seed))
    row = source.draw(1, 5, torch.Generator().manual_seed(seed))
    tokens = row[0].tolist()
    for place in range(1, 5):
        ratio = probability(source, tokens[: place + 1]) / probability(source, tokens[:place])
        assert float(source.losses(row)[0, place - 1]) == pytest.approx(-math.log(ratio))


def test_sequences_are_drawn_as_often_as_they_are_probable():
    source = MarkovSource.drawn(3, 2, 1.0, torch.Generator().manual_seed(0))
    drawn = source.draw(40_000, 4, torch.Generator().manual_seed(1))
    number = (drawn * torch.tensor([27, 9, 3, 1])).sum(1)
    seen = number.bincount(minlength=81) / len(drawn)
    expected = torch.tensor([probability(source, each) for each in itertools.product(range(3), repeat=4)])
    assert float((seen - expected).abs().max()) < 0.01


def test_without_sharpness_every_token_is_as_probable_as_every_other():
    source = MarkovSource.drawn(5, 1, 0.0, torch.Generator().manual_seed(0))
    assert source.expected(4)[0].tolist() == pytest.approx([math.log(5)] * 3)
