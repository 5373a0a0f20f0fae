import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mechmem as mm
from mechmem.tasks.splits import training_mask

answers = st.lists(st.integers(0, 6), min_size=1, max_size=80).map(torch.tensor)
fractions = st.floats(0, 1)
seeds = st.integers(0, 1000)


@given(answers, fractions, seeds)
def test_random_takes_its_share(labels, fraction, seed):
    mask = training_mask(labels, fraction, "random", seed)
    assert int(mask.sum()) == round(fraction * len(labels))


@given(answers, st.integers(0, 20).map(lambda i: i / 20), seeds)
def test_stratified_takes_the_same_share_of_every_answer(labels, fraction, seed):
    mask = training_mask(labels, fraction, "stratified", seed)
    for answer in set(labels.tolist()):
        count = int((labels == answer).sum())
        assert int(mask[labels == answer].sum()) == round(fraction * count)


@given(st.integers(1, 30), fractions, seeds)
def test_answers_are_held_out_whole(p, fraction, seed):
    labels = torch.arange(p * p) % p
    mask = training_mask(labels, fraction, "answers", seed)
    trained = {answer for answer in range(p) if mask[labels == answer].all()}
    held_out = {answer for answer in range(p) if not mask[labels == answer].any()}
    assert len(trained) + len(held_out) == p
    assert len(trained) == round(fraction * p)


@pytest.mark.parametrize("kind", ["random", "stratified", "answers"])
def test_every_cell_is_as_likely_as_any_other(kind):
    labels = torch.arange(20) % 5
    share = torch.stack([training_mask(labels, 0.6, kind, seed) for seed in range(600)]).double().mean(0)
    expected = 0.5 if kind == "stratified" else 0.6
    # round(.6 · 4) of every answer is 2; five standard errors.
    assert (share - expected).abs().max() < 5 * (0.25 / 600) ** 0.5


@pytest.mark.parametrize("kind", ["random", "stratified", "answers"])
@given(seed=seeds)
def test_seeds_decide(kind, seed):
    labels = torch.arange(400) % 20
    masks = [training_mask(labels, 0.5, kind, s) for s in (seed, seed, seed + 1)]
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


def test_no_held_out_answer_has_a_label_in_training():
    task = mm.ModularTask(mm.ModularConfig(p=13, train_fraction=0.6, split="answers"))
    assert not set(task.true(task.train_ids).tolist()) & set(task.true(task.test_ids).tolist())
    assert len(task.train_ids) == 8 * 13
