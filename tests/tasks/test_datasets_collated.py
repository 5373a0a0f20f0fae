"""Collate functions of users: each row of a batch must be its item, whatever other items are in the batch."""

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, default_collate

import mechmem as mm
from mechmem.errors import ConfigError

N = 40
X = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N) % 2
PAIRS = list(zip(X, Y.tolist(), strict=True))
TEXTS = [(torch.arange(1, 2 + place % 7) + place, place % 2) for place in range(N)]
"""Sequences of 1 … 7 tokens."""


def sort(items):
    return sorted(items, key=lambda item: -float(item[0].float().mean()))


def by_length(items):
    return sorted(items, key=lambda item: -len(item[0]))


def parts(items):
    return [x for x, _ in items], torch.tensor([label for _, label in items])


def parts_of(items):
    rows, labels = parts(items)
    return torch.stack(rows), labels


def told(items):
    return torch.tensor([each["label"] for each in items])


def padded(items, side="right"):
    rows, labels = parts(items)
    return pad_sequence(rows, batch_first=True, padding_side=side), labels


def centred(items):
    rows, labels = parts(items)
    return torch.stack(rows) - torch.stack(rows).mean(0), labels


def mixed(items):
    rows, labels = parts(items)
    rows = torch.stack(rows)
    return 0.7 * rows + 0.3 * rows[torch.randperm(len(rows))], labels


def noisy(items):
    rows, labels = parts(items)
    return torch.stack(rows) + 0.1 * torch.randn(len(rows), 3), labels


def named(items):
    rows, labels = parts(items)
    return {"x": torch.stack(rows), "labels": labels}


REFUSED = {
    "sorted": (PAIRS, lambda items: default_collate(sort(items)), "collate puts [01] at place 1 for row"),
    "sorted by length": (TEXTS, lambda items: padded(by_length(items)), "collate puts [01] at place 1 for row"),
    "inputs sorted": (PAIRS, lambda items: torch.stack(parts(sort(items))[0]), "come in another order"),
    "inputs sorted by length": (TEXTS, lambda items: padded(by_length(items))[0], "come in another order"),
    "labels sorted": (PAIRS, lambda items: (torch.stack(parts(items)[0]), parts(sort(items))[1]), "collate puts"),
    "normalised": (PAIRS, centred, "beside other items than alone"),
    "normalised by name": (
        [{"x": x, "label": label} for x, label in PAIRS],
        lambda items: {"x": centred([(each["x"], each["label"]) for each in items])[0]},
        "beside other items than alone",
    ),
    "mixed": (PAIRS, mixed, "at every call"),
    "noisy": (PAIRS, noisy, "at every call"),
    "fewer labels": (PAIRS, lambda items: (torch.stack(parts(items)[0]), torch.tensor([0])), "collate made 1 labels"),
    "nested": (
        TEXTS,
        lambda items: (torch.nested.nested_tensor(parts(items)[0], layout=torch.jagged), parts(items)[1].tolist()),
        "collate made no ordinary tensors of 8 items",
    ),
    "words mixed up": (
        [(x, "ab"[label]) for x, label in PAIRS],
        lambda items: (torch.stack([x for x, _ in items]), torch.arange(len(items))),
        "collate puts 1 at place 1 for row 6 of train, whose label is 'a', number 0 of the task",
    ),
    "numbered otherwise": (
        [(x, "ab"[label]) for x, label in PAIRS],
        lambda items: (torch.stack([x for x, _ in items]), torch.tensor([label == "a" for _, label in items]).long()),
        "collate puts 1 at place 1 for row 0 of train, whose label is 'a', number 0 of the task: number classes in its",
    ),
}
"""Data, a collate function, and what is said of it."""


@pytest.mark.parametrize("name", REFUSED)
def test_a_function_whose_rows_are_not_its_items_is_refused(name):
    data, collate, said = REFUSED[name]
    with pytest.raises(ConfigError, match=said) as error:
        mm.DatasetTask(data, collate=collate)
    assert str(error.value).startswith("collate") and "\n" not in str(error.value)


TAKEN = {
    "torch's": (PAIRS, default_collate),
    "by name": (PAIRS, named),
    "padded": (TEXTS, padded),
    "padded before": (TEXTS, lambda items: padded(items, "left")),
    "padded, inputs alone": (TEXTS, lambda items: padded(items)[0]),
    "cut to the shortest": (TEXTS, lambda items: torch.stack([x[: min(len(x) for x, _ in items)] for x, _ in items])),
    "numbers for words": (
        [(x, "ab"[label]) for x, label in PAIRS],
        lambda items: (torch.stack([x for x, _ in items]), torch.tensor([label == "b" for _, label in items]).long()),
    ),
    "labels as a column": (PAIRS, lambda items: (torch.stack(parts(items)[0]), parts(items)[1][:, None].float())),
    "labels one-hot": (PAIRS, lambda items: (torch.stack(parts(items)[0]), torch.eye(2)[parts(items)[1]])),
    "rounded otherwise": (
        PAIRS,
        lambda items: (torch.stack(parts(items)[0]) * (1 + 1e-6 * len(items)), parts(items)[1]),
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_padding_and_labels_in_another_form_are_no_fault(name):
    data, collate = TAKEN[name]
    task = mm.DatasetTask(data, collate=collate)
    inputs, labels = task.batch(task.train_ids[[5, 0, 3]])
    assert len(inputs) == 3 and labels.tolist() == task.given(task.train_ids[[5, 0, 3]]).tolist()


NAMED = [{"x": x, "label": label} for x, label in PAIRS]


def lengths_between(items):
    rows, labels = padded(items)
    return rows, torch.tensor([len(x) for x, _ in items]), labels


ELSEWHERE = {
    "a mapping of tuples": (PAIRS, named, None, {"x": X[:3]}),
    "under another name": (
        NAMED,
        lambda items: {"x": torch.stack([each["x"] for each in items]), "y": told(items)},
        None,
        {"x": X[:3]},
    ),
    "before the input": (PAIRS, lambda items: parts_of(items)[::-1], None, {"": X[:3]}),
    "a tuple of mappings": (
        NAMED,
        lambda items: (torch.stack([each["x"] for each in items]), told(items)),
        None,
        {"": X[:3]},
    ),
    "behind two inputs": (TEXTS, lengths_between, ["a", "b"], {"b": torch.tensor([1, 2, 3])}),
    "one-hot, before": (PAIRS, lambda items: (torch.eye(2)[parts(items)[1]], parts_of(items)[0]), None, {"": X[:3]}),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_label_is_no_input_wherever_a_function_puts_it(name):
    data, collate, inputs, wanted = ELSEWHERE[name]
    task = mm.DatasetTask(data, collate=collate, inputs=inputs)
    for count in (3, 1):
        found, labels = task.batch(task.ids[:count])
        tensors = {"": found} if isinstance(found, torch.Tensor) else found.tensors
        assert (
            {*wanted} <= {*tensors} and len(tensors) == len(inputs or wanted) and labels.tolist() == Y[:count].tolist()
        )
        assert all(torch.equal(tensors[key], each[:count]) for key, each in wanted.items())


def test_labels_that_are_given_apart_are_no_input_either():
    task = mm.DatasetTask(PAIRS, label=Y, collate=default_collate)
    assert torch.equal(task.batch(task.ids[:3])[0], X[:3])


def test_labels_at_two_places_are_refused():
    with pytest.raises(ConfigError, match="collate puts the labels at 'a' and 'b'"):
        mm.DatasetTask(
            NAMED, collate=lambda items: {"x": torch.zeros(len(items), 2), "a": told(items), "b": told(items)}
        )


def test_a_batch_that_is_sorted_later_on_is_refused_then():
    task = mm.DatasetTask(PAIRS, collate=lambda items: default_collate(sort(items) if len(items) == 9 else items))
    task.batch(task.ids[:8])
    with pytest.raises(ConfigError, match=r"collate puts [01] at place 1 for row \d of train, whose label is [01]"):
        task.batch(task.ids[:9])


def test_lengths_behind_the_label_are_an_input():
    def collate(items):
        rows, labels = padded(items)
        return rows, labels, torch.tensor([len(x) for x, _ in items])

    task = mm.DatasetTask(TEXTS, inputs=["tokens", "lengths"], collate=collate)
    inputs, labels = task.batch(torch.tensor([3, 1]))
    assert inputs.tensors["lengths"].tolist() == [4, 2] and labels.tolist() == [1, 1]


def test_a_function_that_joins_inputs_leaves_the_label_last():
    triples = [(x, x + 1, label) for x, label in PAIRS]

    def collate(items):
        return torch.stack([torch.cat([a, b]) for a, b, _ in items]), torch.tensor([each[2] for each in items])

    task = mm.DatasetTask(triples, collate=collate)
    assert torch.equal(task.batch(torch.tensor([2]))[0], torch.cat([X[2], X[2] + 1])[None])


def pop(items):
    return named([(item["x"], item.pop("label")) for item in items])


def shift(items):
    for x, _ in items:
        x -= 1
    return default_collate(items)


@pytest.mark.parametrize(
    ("data", "collate"),
    [
        ([{"x": x, "label": label} for x, label in PAIRS], pop),
        ([(x.clone(), label) for x, label in PAIRS], shift),
    ],
)
def test_a_function_that_changes_what_the_data_set_holds_is_refused(data, collate):
    with pytest.raises(ConfigError, match="collate changes the items that it is given, which the data set holds"):
        mm.DatasetTask(data, collate=collate)


def test_a_function_may_change_items_that_are_made_anew():
    class Made(Dataset):
        def __len__(self):
            return N

        def __getitem__(self, row):
            return {"x": X[row], "label": int(Y[row])}

    task = mm.DatasetTask(Made(), collate=pop)
    assert torch.equal(task.batch(task.ids)[0].tensors["x"], X)
