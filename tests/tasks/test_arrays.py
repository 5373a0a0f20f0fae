import numpy as np
import pandas as pd
import pytest
import torch

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError
from mechmem.tasks.relabelled import noise_only

P = 5
PAIRS = torch.cartesian_prod(torch.arange(P), torch.arange(P))
TRUE = PAIRS.sum(1) % P
TRAIN = torch.arange(P * P) % 4 != 0


def made(**changes):
    arrays = {"inputs": PAIRS, "given": TRUE, "true": TRUE, "train": TRAIN, **changes}
    return mm.ArrayTask(**arrays)


def test_ids_are_rows_and_held_out_labels_are_true():
    given_labels = (TRUE + torch.arange(25) % 2) % P
    task = made(given=given_labels)
    assert task.ids.tolist() == list(range(25))
    assert torch.equal(task.train_ids, TRAIN.nonzero()[:, 0]) and torch.equal(task.test_ids, (~TRAIN).nonzero()[:, 0])
    assert torch.equal(task.given(task.train_ids), given_labels[TRAIN])
    assert torch.equal(task.given(task.test_ids), TRUE[~TRAIN])
    assert torch.equal(task.noisy, given_labels[TRAIN] != TRUE[TRAIN])
    assert task.n_classes == P and task.operation is None and task.group is None
    assert torch.equal(task.operands, PAIRS) and task.symbols == P and task.cell(2, 3) == 13


def test_no_true_labels_are_those_given_to_held_out_examples():
    given_labels = torch.where(TRAIN, (TRUE + 1) % P, TRUE)
    task = made(given=given_labels, true=None)
    assert task.digest == made(given=given_labels, true=torch.where(TRAIN, -1, TRUE)).digest
    assert task.noisy is None and torch.equal(task.true(task.test_ids), TRUE[~TRAIN])


def test_truth_may_be_unknown_on_training_data():
    hidden = torch.where(TRAIN, -1, TRUE)
    task = made(true=hidden)
    assert task.noisy is None and task.splits["train_clean"] is None and task.splits["train_noisy"] is None
    assert task.true(task.train_ids) is None and task.true(task.ids) is None
    assert torch.equal(task.true(task.test_ids), TRUE[~TRAIN])
    one_hidden = TRUE.clone()
    one_hidden[1] = -1
    assert made(true=one_hidden).noisy is None


ANSWERS = {"add": TRUE, "subtract": (PAIRS[:, 0] - PAIRS[:, 1]) % P, "multiply": PAIRS.prod(1) % P}


@pytest.mark.parametrize("operation, answer", ANSWERS.items())
def test_a_named_operation_brings_its_group(operation, answer):
    task = made(given=answer, true=answer, operation=operation)
    assert task.operation == operation and task.group.p == P
    assert task.group.multiplicative == (operation == "multiply")
    assert task.symbols == P


def test_a_short_name_of_an_operation_is_the_same_task():
    subtract, multiply = ({"given": ANSWERS[name], "true": ANSWERS[name]} for name in ("subtract", "multiply"))
    assert made(operation="sub", **subtract).digest == made(operation="subtract", **subtract).digest
    assert made(operation="sub", **subtract).operation == "subtract"
    assert made(operation="mul", **multiply).group.multiplicative


@pytest.mark.parametrize("operation", ["subtract", "multiply"])
def test_true_labels_of_another_rule_are_refused(operation):
    differ = int((ANSWERS[operation] != TRUE).sum())
    with pytest.raises(ConfigError, match=rf"gives \d for \(\d, \d\) mod 5, but the true label .* \({differ} of 25"):
        made(operation=operation)
    unknown = torch.where(TRAIN, -1, TRUE)
    with pytest.raises(ConfigError, match="leave operation out for another rule"):
        made(operation=operation, true=unknown)
    assert made(operation="add", true=unknown).operation == "add"


def test_symbols_are_the_classes_where_an_operation_is_named():
    few = PAIRS[PAIRS.max(1).values < 4]
    labels = few.sum(1) % P
    train = torch.arange(16) < 12
    assert mm.ArrayTask(few, labels, labels, train).symbols == 4
    assert mm.ArrayTask(few, labels, labels, train, operation="add", n_classes=P).symbols == P


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(train=torch.ones(25, dtype=torch.bool)), "the test set is empty"),
        (dict(train=torch.zeros(25, dtype=torch.bool)), "the training set is empty"),
        (dict(true=torch.full((25,), -1)), "true label of every held-out example must be known"),
        (dict(n_classes=4), "labels must lie in 0 … 3"),
        (dict(given=torch.where(TRAIN, -1, TRUE)), "given must be classes, .* holds -1, which is no class"),
        (dict(given=TRUE % 2 * 2 - 1, true=None), r"holds -1, which is no class; .* by \(labels \+ 1\) // 2"),
        (dict(given=TRUE % 2 * 2 - 1, true=TRUE % 2 * 2 - 1), "given must be classes, .* which is no class"),
        (dict(given=torch.where(TRAIN, 7, TRUE), n_classes=5), "labels must lie in 0 … 4"),
        (dict(operation="divide"), "'divide' needs integer operands and one of add, subtract, multiply"),
        (dict(inputs=PAIRS.float(), operation="add"), "needs integer operands"),
        (dict(operation="multiply", n_classes=6), "prime number of classes, got 6"),
        (dict(inputs=PAIRS + 1, operation="add"), "operands must lie in 0 … 4"),
        (dict(inputs=PAIRS - 1, operation="add"), "operands must lie in 0 … 4"),
        (dict(inputs=PAIRS.float(), operands=PAIRS - 1), "operands"),
        (dict(train=torch.randperm(25)), r"whole numbers 0 … 24. From ids, make torch.isin\(torch.arange\(25\), ids\)"),
        (dict(train=torch.randperm(25).numpy()), "whole numbers 0 … 24"),
        (dict(train=-TRAIN.long()), "whole numbers -1 … 0"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        made(**changes)


@pytest.mark.parametrize("name", ["inputs", "given", "true", "train"])
def test_lengths_must_agree(name, unchecked_shapes):
    value = {"inputs": PAIRS, "given": TRUE, "true": TRUE, "train": TRAIN}[name][:-1]
    with pytest.raises(ConfigError, match=r"must have one length, got \[24, 25\]"):
        made(**{name: value})


@pytest.mark.parametrize("operands", [PAIRS[:-1], PAIRS[:, :1], torch.zeros(25, 3, dtype=torch.long)])
def test_operands_are_one_pair_per_example(operands, unchecked_shapes):
    with pytest.raises(ConfigError, match="one pair per example, got shape"):
        made(inputs=PAIRS.float(), operands=operands)


def test_ids_in_the_place_of_truth_values_are_told_from_another_length(unchecked_shapes):
    with pytest.raises(ConfigError, match="From ids, make"):
        made(train=torch.arange(20))


def test_zeros_and_ones_are_truth_values():
    for dtype in (torch.long, torch.uint8, torch.int32):
        assert torch.equal(made(train=TRAIN.to(dtype)).train_ids, made().train_ids)


def test_tables_whose_rows_have_the_same_names_in_another_order_are_refused():
    order = np.random.default_rng(0).permutation(25)
    table, column = pd.DataFrame(PAIRS.numpy()), pd.Series(TRUE.numpy())
    for changes in ({"given": column.iloc[order]}, {"train": pd.Series(TRAIN.numpy()).iloc[order]}):
        with pytest.raises(ConfigError, match=f"inputs and {next(iter(changes))} have one index in two orders"):
            made(inputs=table, true=column, **changes)
    with pytest.raises(ConfigError, match="inputs and train have other rows: 1 is in the index of inputs alone"):
        made(
            inputs=table.set_axis(range(1, 26)),
            true=TRUE,
            train=pd.Series(TRAIN.numpy(), index=[*range(2, 25), 30, 31]),
        )
    named = [f"row {place}" for place in order]
    for index, labels in ((order, TRUE), (named, column), (np.arange(25) * 2, column)):
        # One index, one table alone, or rows of other names: by position.
        shuffled = pd.DataFrame(PAIRS.numpy(), index=index)
        same = pd.Series(TRUE.numpy(), index=index)
        assert made(inputs=shuffled, given=same).digest == made(inputs=shuffled, given=labels).digest == made().digest


def test_inputs_that_are_no_pairs_of_symbols_have_no_operands():
    for inputs in (PAIRS.float(), PAIRS - 2, torch.arange(75).reshape(25, 3)):
        task = made(inputs=inputs)
        assert task.operands is None
        with pytest.raises(MissingNeedError):
            task.cell(0, 0)


def test_operands_may_be_named_apart_from_the_inputs(draw):
    images = torch.randn(25, 3, 3, generator=draw)
    task = made(inputs=images, operands=PAIRS, operation="add")
    assert task.cell(4, 4) == 24
    assert torch.equal(task.batch(torch.tensor([7]))[0][0], images[7])


def test_a_pair_that_occurs_twice_or_never_has_no_id():
    twice = PAIRS.clone()
    twice[0] = torch.tensor([4, 4])
    with pytest.raises(UnknownNameError, match=r"2 examples are the pair \(4, 4\)"):
        made(inputs=twice).cell(4, 4)
    with pytest.raises(UnknownNameError, match=r"0 examples are the pair \(0, 0\)"):
        made(inputs=twice).cell(0, 0)


def test_the_digest_is_of_everything():
    base = made(operation="add")
    assert base.digest == made(operation="add").digest
    changed = [
        made(),
        made(operation="subtract", given=ANSWERS["subtract"], true=ANSWERS["subtract"]),
        made(n_classes=6),
        made(operation="add", inputs=PAIRS.flip(0), operands=PAIRS),
        made(operation="add", inputs=PAIRS, operands=PAIRS.flip(1)),
        made(operation="add", given=(TRUE + 1) % P),
        made(operation="add", true=torch.where(TRAIN, -1, TRUE)),
        made(operation="add", train=~TRAIN),
    ]
    assert len({base.digest, *(task.digest for task in changed)}) == 1 + len(changed)


def test_inputs_of_any_dtype():
    for dtype in (torch.bfloat16, torch.float16, torch.uint8, torch.bool):
        assert made(inputs=(torch.arange(25)[:, None] >> torch.arange(5) & 1).to(dtype)).digest


def test_numpy_arrays_are_as_good_as_tensors():
    arrays = {"inputs": PAIRS.numpy(), "given": TRUE.numpy(), "true": TRUE.numpy(), "train": TRAIN.numpy()}
    task = mm.ArrayTask(**arrays, operands=PAIRS.numpy(), operation="add")
    assert task.digest == made(operands=PAIRS, operation="add").digest
    assert torch.equal(task.batch(task.train_ids)[0], PAIRS[TRAIN])


@pytest.mark.parametrize("as_array", [lambda tensor: tensor, lambda tensor: tensor.numpy()], ids=["tensors", "arrays"])
@pytest.mark.parametrize("operands", [None, PAIRS])
def test_arrays_that_are_changed_afterwards_change_nothing(as_array, operands):
    held = {"inputs": PAIRS, "given": TRUE, "true": TRUE, "train": TRAIN} | (
        {} if operands is None else {"operands": PAIRS}
    )
    mine = {name: as_array(tensor.clone()) for name, tensor in held.items()}
    task, kept = made(**mine), made(**held)
    for array in mine.values():
        array[:] = ~array if str(array.dtype).endswith("bool") else array + 1
    for found, wanted in ((task, kept), (noise_only(task), noise_only(kept))):
        for part in ("given", "true"):
            assert torch.equal(getattr(found, part)(found.ids), getattr(wanted, part)(wanted.ids))
        assert torch.equal(found.batch(found.ids)[0], PAIRS) and torch.equal(found.operands, PAIRS)
        assert torch.equal(found.train_ids, wanted.train_ids) and found.digest == wanted.digest


def test_a_relabelled_task_shares_the_inputs():
    task = made()
    assert noise_only(task)._task.inputs is task.inputs
