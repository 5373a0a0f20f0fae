"""Data sets that would give other figures than the user means: each is refused in one line."""

import numpy as np
import pandas as pd
import pytest
import torch
from small_data_sets import DICTS, FEATURES, FRAME, HF, IDS, OTHER, PAIRS, TORCH, N, X, Y, column
from torch.utils.data import Dataset, TensorDataset

import mechmem as mm
from mechmem.errors import ConfigError, UnknownNameError

SHUFFLED = FRAME["label"].sample(frac=1, random_state=0)
PARTS = ["train"] * 30 + ["test"] * 10


class Length(Dataset):
    """A data set that says another length than it has."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, row):
        return X[row], int(Y[row])


class Several(Length):
    """A data set that is read several rows at a time, and gives what it likes."""

    def __init__(self, made):
        super().__init__(N)
        self.made = made

    def __getitems__(self, rows):
        return self.made([self[row] for row in rows])


class Broken(Length):
    """Row 5 cannot be read, for whatever reason."""

    def __init__(self, error):
        super().__init__(N)
        self.error = error

    def __getitem__(self, row):
        if row == 5:
            raise self.error
        return super().__getitem__(row)


class Growing(Length):
    """Has another length whenever it is asked."""

    def __init__(self, *lengths):
        super().__init__(N)
        self.lengths = list(lengths)

    def __len__(self):
        return self.lengths.pop(0) if len(self.lengths) > 1 else self.lengths[0]


class Flipped(Length):
    """Flips inputs at random, one in two."""

    def __getitem__(self, row):
        x, label = super().__getitem__(row)
        return x.flip(0) if torch.rand(()) < 0.5 else x, label


def one(place, item):
    """Return items of which one is another."""
    return [item if row == place else each for row, each in enumerate(PAIRS)]


def changed_inputs():
    x = X.clone()
    task = mm.DatasetTask(TensorDataset(x, Y))
    x.mul_(5)
    return task


def changed_row():
    items = [{"x": x, "label": y} for x, y in PAIRS]
    task = mm.DatasetTask(items, inputs="x")
    items[17]["x"] = X[17] + 1
    return task


REFUSED = {
    # The order of rows.
    "label-order": (lambda: mm.DatasetTask(FEATURES, label=SHUFFLED), "train and label have one index in two orders"),
    "true-order": (
        lambda: mm.DatasetTask(FRAME, true=SHUFFLED),
        "train and true have one index in two orders",
    ),
    "order-of-two": (
        lambda: mm.DatasetTask(FEATURES[:30], FEATURES[30:], label=SHUFFLED),
        "train and label have one index in two orders",
    ),
    "order-of-labels": (
        lambda: mm.DatasetTask(list(X), label=FRAME["label"], true=SHUFFLED),
        "label and true have one index in two orders",
    ),
    "order-of-a-column": (
        lambda: mm.DatasetTask(FRAME["a"], label=SHUFFLED),
        "train and label have one index in two orders",
    ),
    "other-rows": (
        lambda: mm.DatasetTask(FEATURES.drop(index=5), label=FRAME["label"].drop(index=7)),
        "train and label have other rows: 7 is in the index of train alone",
    ),
    "order-of-categories": (
        lambda: mm.DatasetTask(
            *(FEATURES.assign(label=pd.Categorical(["a", "b"] * 20, [*each])) for each in ("ab", "ba"))
        ),
        "categories in two orders, a, b and b, a",
    ),
    # Which part is held out.
    "unknown-split": (
        lambda: mm.DatasetTask({"train": TORCH, "holdout": OTHER}),
        "train has the splits train and holdout, of which none is called 'test' or 'validation'",
    ),
    "test-of-parts": (
        lambda: mm.DatasetTask(TORCH, {"train": OTHER, "test": OTHER}),
        "test has the splits train and test, and must be one",
    ),
    "two-tests": (lambda: mm.DatasetTask({"train": TORCH, "val": OTHER}, OTHER), "test is given, but train has"),
    "dict-of-columns": (lambda: mm.DatasetTask({"x": X, "label": Y}), "it has x, label. Columns are passed as a frame"),
    "held-out-1": (lambda: mm.DatasetTask(TORCH, held_out=1), "held_out=1 of 40 examples cannot be held out"),
    "held-out-and-test": (lambda: mm.DatasetTask(TORCH, OTHER, held_out=0.2), "test says what is held out"),
    "held-out-and-split": (
        lambda: mm.DatasetTask(column(s=PARTS), split="s", held_out=0.2),
        "split says what is held out",
    ),
    "split-missing": (
        lambda: mm.DatasetTask(column(s=[*PARTS[:-1], np.nan]), split="s"),
        "split: column 's' has no value in row 39 of train",
    ),
    "split-none": (
        lambda: mm.DatasetTask(column(s=[None, *PARTS[1:]]), split="s"),
        "split: column 's' has no value in row 0 of train",
    ),
    "group-missing": (
        lambda: mm.DatasetTask(column(g=[*range(20), *[np.nan] * 20]), group="g"),
        "group: column 'g' has no value in row 20 of train",
    ),
    "group-missing-held-out": (
        lambda: mm.DatasetTask(column(g=range(N))[:30], column(g=[pd.NA] * N)[30:], group="g"),
        "group: column 'g' has no value in row 0 of test",
    ),
    "one-split-said": (
        lambda: mm.DatasetTask([{**item, "s": torch.tensor(False)} for item in DICTS], split="s", inputs="x"),
        "the training set is empty; the column of splits holds False",
    ),
    "seed": (lambda: mm.DatasetTask(TORCH, seed=2**40), "seed must be at most 4,294,967,295"),
    # What the inputs are.
    "leak": (lambda: mm.DatasetTask(FRAME, label=Y), "label is given apart, so that 'label' of train would be an"),
    "leak-of-items": (lambda: mm.DatasetTask(DICTS, label=Y), "label is given apart, so that 'label' of train"),
    "leak-of-a-batch": (
        lambda: mm.DatasetTask(HF, label=Y.roll(1), collate=torch.utils.data.default_collate),
        "label is given apart, so that 'label' of train",
    ),
    "column-twice": (
        lambda: mm.DatasetTask(pd.concat([FRAME[["a"]] + 7, FRAME], axis=1)),
        "train has two columns called 'a'",
    ),
    "label-twice": (
        lambda: mm.DatasetTask(pd.concat([FRAME, FRAME[["label"]]], axis=1)),
        "train has two columns called 'label'",
    ),
    "names-alike": (
        lambda: mm.DatasetTask(TORCH, FRAME.rename(columns={"a": 2, "b": "2"})),
        "test has two columns called '2'",
    ),
    "no-inputs": (lambda: mm.DatasetTask(FRAME, inputs=[]), "inputs must name at least one input"),
    "label-alone": (lambda: mm.DatasetTask(FRAME[["label"]]), "train has no inputs besides label"),
    "label-as-input": (lambda: mm.DatasetTask(FRAME, inputs=["a", "label"]), "inputs: 'label' holds the labels"),
    "input-twice": (lambda: mm.DatasetTask(FRAME, inputs=["a", "a"]), "inputs: 'a' is given twice"),
    "input-of-items": (lambda: mm.DatasetTask(DICTS, inputs="q"), "no column 'q'"),
    "large": (
        lambda: mm.DatasetTask(FRAME.assign(a=np.full(N, 1e300))).batch(IDS),
        "column 'a' holds a number that is missing, infinite or too large for float32, 1e+300",
    ),
    "one-form": (lambda: mm.DatasetTask(TORCH, HF), "test has columns (x, label), and train items without"),
    "lacking": (lambda: mm.DatasetTask(FRAME, FEATURES), "train has 'label', and test only a, b"),
    # Data that are others at a second reading.
    "flips": (lambda: mm.DatasetTask(Flipped(N)), "is another input at every reading: a random transform"),
    "changed": (lambda: changed_inputs().batch(IDS), "row 0 of train is another input than when the task was made"),
    "changed-items": (lambda: changed_inputs().items(IDS), "row 0 of train is another input than when the task"),
    "changed-row": (lambda: changed_row().batch(torch.tensor([3, 17])), "row 17 of train is another input than when"),
    # Rows that are not there, or none.
    "too-long": (lambda: mm.DatasetTask(Length(45)), "row 40 of train is not there, though its length is 45"),
    "too-long-test": (lambda: mm.DatasetTask(OTHER, Length(45)), "row 40 of test is not there"),
    "key": (lambda: mm.DatasetTask(Broken(KeyError(5))), "row 5 of train cannot be read: KeyError: 5"),
    "value": (
        lambda: mm.DatasetTask(OTHER, Broken(ValueError("bad"))),
        "row 5 of test cannot be read: ValueError: bad",
    ),
    "own-error": (
        lambda: mm.DatasetTask(Broken(ZeroDivisionError())),
        "row 5 of train cannot be read: ZeroDivisionError",
    ),
    "together": (
        lambda: mm.DatasetTask(Several(lambda items: items if len(items) < 2 else 1 / 0)),
        "row 0 of train to row 39 of train cannot be read together: ZeroDivisionError: division by zero",
    ),
    "shrinks": (lambda: mm.DatasetTask(Growing(40, 39)), "row 39 of train is gone: there were 40 rows, and now 39"),
    "grows": (lambda: mm.DatasetTask(Growing(38, 40)), "row 38 of train is new: there were 38 rows, and now 40"),
    "shrinks-test": (lambda: mm.DatasetTask(OTHER, Growing(30, 29)), "row 29 of test is gone: there were 30 rows"),
    "no-length": (lambda: mm.DatasetTask(Growing()), "train has no length that can be used: list index out of range"),
    "plus-minus": (
        lambda: mm.DatasetTask(FRAME.assign(label=np.arange(N) % 2 * 2 - 1)),
        "label must be classes, numbered from 0 on, and holds -1, which is no class",
    ),
    "plus-minus-classes": (
        lambda: mm.DatasetTask(FRAME.assign(label=np.arange(N) % 2 * 2 - 1), n_classes=2, true=[0, 1] * (N // 2)),
        "label must be classes, numbered from 0 on, and holds -1, which is no class",
    ),
    "unlabelled-test": (
        lambda: mm.DatasetTask(FRAME, FRAME.assign(a=range(N), label=-1), label="label"),
        "label of every held-out example must be known, and −1 says that it is not",
    ),
    "word-among-numbers": (
        lambda: mm.DatasetTask(FRAME.assign(a=[1.5] * (N - 1) + ["high"])),
        f"column 'a' holds 'high' in row {N - 1} of train, which is no number",
    ),
    "one-class-noise": (
        lambda: mm.DatasetTask(FRAME.assign(label="cat"), noise=mm.LabelNoise(0.1)),
        "label noise 'wrong' needs at least two classes, and there is 1",
    ),
    "few-labels-of-items": (
        lambda: mm.DatasetTask(TORCH).items(IDS, torch.tensor([1])),
        "labels must be one class for each of 4 ids, got 1",
    ),
    "no-class-of-items": (lambda: mm.DatasetTask(TORCH).items(IDS, IDS + 90), "labels must lie in 0 … 3, got 90 … 93"),
    "half-a-class": (lambda: mm.DatasetTask(TORCH).items(IDS, IDS + 0.5), "labels must be whole numbers"),
    "negative": (lambda: mm.DatasetTask(Length(-1)), "train has no length that can be used"),
    "word": (lambda: mm.DatasetTask(Length("many")), "train has no length that can be used"),
    "fewer": (lambda: mm.DatasetTask(Several(lambda items: items[:-1])), "train gives 0 items of 1 rows"),
    "nothing": (lambda: mm.DatasetTask(Several(lambda items: None)), "train gives 0 items of 1 rows"),
    "none": (lambda: mm.DatasetTask(one(3, None)), "row 3 of train is None"),
    "no-label": (lambda: mm.DatasetTask(one(5, (X[5],))), "row 5 of train has no label: 1 of (a Tensor,) cannot"),
    "number": (lambda: mm.DatasetTask(one(5, 7)), "row 5 of train has no label"),
    "no-key": (
        lambda: mm.DatasetTask([*DICTS[:5], {"x": X[5]}, *DICTS[6:]]),
        "row 5 of train has no label: 'label' of a dict cannot be read (KeyError: 'label')",
    ),
    "other-keys": (
        lambda: mm.DatasetTask([*DICTS[:5], {**DICTS[5], "z": 1}, *DICTS[6:]]),
        "row 5 of train holds x, label, z, and the first row x, label",
    ),
    "other-forms": (
        lambda: mm.DatasetTask([X[0], *DICTS[1:]], label=Y),
        "row 1 of train holds x, label, and the first",
    ),
    "no-group": (lambda: mm.DatasetTask([{**DICTS[0], "g": 1}, *DICTS[1:]], group="g", inputs="x"), "row 1 of train"),
    "meta": (lambda: mm.DatasetTask(one(5, (X[5].to("meta"), 1))), "the input of row 5 of train cannot be read: a ten"),
    "sparse": (lambda: mm.DatasetTask(one(5, (X[5].to_sparse(), 1))), "the input of row 5 of train cannot be read"),
    "meta-label": (lambda: mm.DatasetTask(one(5, (X[5], Y[5].to("meta")))), "row 5 of train has no label"),
    "shapes": (
        lambda: mm.DatasetTask([(x[: 2 + y % 2], y) for x, y in PAIRS]).batch(IDS),
        "4 items cannot be put into one batch: stack expects each tensor to be equal size",
    ),
    "no-name": (
        lambda: mm.DatasetTask([(x, "abcd"[y]) for x, y in PAIRS], n_classes=9).items(IDS, IDS + 5),
        "labels are names, but class 8 has none: there are 4 names",
    ),
    "long-path": (lambda: mm.DatasetTask("a" * 999), "nor a data set that opens"),
    "grouped": (lambda: mm.DatasetTask(FRAME.groupby("label")), "a frame of pandas or the path of a folder, got a"),
    "missing-label": (lambda: mm.DatasetTask(column(label=[np.nan] * N)), "row 0 is missing (NaN)"),
    "missing-label-of-pandas": (
        lambda: mm.DatasetTask(FRAME.assign(label=FRAME["label"].astype("Int64").where(FRAME.index > 3))),
        "label must have no missing values, but row 0 is None",
    ),
    "missing-truth-of-pandas": (
        lambda: mm.DatasetTask(FRAME, true=FRAME["label"].astype("Int64").where(FRAME.index > 3)),
        "true must be one label per example, but row 0 is missing",
    ),
    "half-an-id": (lambda: mm.DatasetTask(TORCH).batch([0.5]), "ids must be whole numbers, one per example, got [0.5]"),
    "nested-ids": (lambda: mm.DatasetTask(TORCH).batch([[1]]), "one per example, got [[1]]"),
    "one-id": (lambda: mm.DatasetTask(TORCH).given(3), "one per example, got 3"),
    "word-for-ids": (lambda: mm.DatasetTask(TORCH).batch("all"), "one per example, got 'all'"),
    "half-an-id-true": (lambda: mm.DatasetTask(TORCH).true(torch.tensor([0.0])), "ids must be whole numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_read_wrongly_is_one_clear_error(name, unchecked_shapes):
    call, said = REFUSED[name]
    with pytest.raises((ConfigError, UnknownNameError)) as error:
        call()
    assert said in str(error.value) and "\n" not in str(error.value)
