"""The four splits against a count of one example at a time, where the truth is known and where it is not."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mechmem as mm
from mechmem.core.task import Task
from mechmem.math.logits import NOT_FINITE
from mechmem.tasks.config import SPLITS
from mechmem.tasks.image_config import Augmentation
from mechmem.tasks.relabelled import noise_only
from mechmem.tasks.splits import (
    NOT_IN_SPLIT,
    Marks,
    labelled_splits,
    split_ids,
    split_labels,
    split_names,
    training_set,
)

EXAMPLES = ["training", "sources"]
CLASSES = 3


class Shuffled(Task):
    """Ids in no order; the truth of test examples may be unknown too."""

    ids = torch.tensor([40, 7, 23, 11, 8, 2])
    train_ids, test_ids = torch.tensor([7, 23, 8]), torch.tensor([40, 11, 2])
    n_classes, digest = CLASSES, "shuffled"

    def __init__(self, tested=True):
        self._tested = tested

    def batch(self, ids, step=None):
        return ids.float()[:, None], torch.where(ids == 23, 0, ids % 3)

    def true(self, ids):
        return ids % 3 if self._tested or not torch.isin(ids, self.test_ids).any() else None


def arrays(given, true, train):
    given, true, train = (torch.tensor(values) for values in (given, true, train))
    return mm.ArrayTask(torch.arange(len(given))[:, None].float(), given, true, train, n_classes=CLASSES)


def views(labels):
    augmentation = Augmentation(views=2, translate=0.1, labels=labels)
    return mm.ImageTask(
        mm.ImageConfig("digits", train=30, test=10, noise=mm.LabelNoise(0.3), augmentation=augmentation)
    )


TRAIN, TRUE = [True, False, True, True, False, True], [0, 1, 2, 1, 2, 0]
TASKS = {
    "some noise": lambda: arrays([0, 1, 1, 1, 2, 2], TRUE, TRAIN),
    "no noise": lambda: arrays(TRUE, TRUE, TRAIN),
    "all noise": lambda: arrays([(label + 1) % 3 for label in TRUE], TRUE, TRAIN),
    "truth unknown": lambda: arrays([0, 1, 1, 1, 2, 2], [-1, 1, -1, -1, 2, -1], TRAIN),
    "one truth unknown": lambda: arrays([0, 1, 1, 1, 2, 2], [0, 1, -1, 1, 2, 0], TRAIN),
    "ids in no order": Shuffled,
    "test truth unknown": lambda: Shuffled(tested=False),
    "grid": lambda: mm.ModularTask(mm.ModularConfig(p=5, noise=mm.LabelNoise(0.4))),
    "views with the labels of their sources": lambda: views("same"),
    "views with labels of their own": lambda: views("independent"),
    "views with new labels": lambda: noise_only(views("same")),
}


@pytest.fixture(params=TASKS)
def task(request):
    return TASKS[request.param]()


def one(labels):
    return None if labels is None else int(labels)


def reference(task, examples):
    """Label of each example in each of the four splits, one example at a time."""
    train = (task.sources if examples == "sources" else task.train_ids).tolist()
    test = task.test_ids.tolist()
    known = {number: one(task.true(torch.tensor([number]))) for number in train + test}
    found = {name: {} for name in SPLITS}
    if None not in [known[number] for number in train]:
        for number in train:
            told = int(task.given(torch.tensor([number])))
            if told == known[number]:
                found["train_clean"][number] = told
            else:
                found["train_noisy"][number] = told
                found["train_noisy_true"][number] = known[number]
    if None not in [known[number] for number in test]:
        found["test"] = {number: known[number] for number in test}
    return found


@pytest.mark.parametrize("examples", EXAMPLES)
def test_splits_have_the_examples_and_labels_of_a_plain_count(task, examples):
    wanted = {name: labels for name, labels in reference(task, examples).items() if labels}
    found = labelled_splits(task, examples)
    assert [split.name for split in found] == list(wanted)
    for split in found:
        assert dict(zip(split.ids.tolist(), split.labels.tolist(), strict=True)) == wanted[split.name]
        assert split.ids.tolist() == list(wanted[split.name])
        assert torch.equal(split.truth, task.true(split.ids))


@pytest.mark.parametrize("examples", EXAMPLES)
def test_ids_and_names_are_of_one_split_each(task, examples):
    train = task.sources if examples == "sources" else task.train_ids
    wanted, found = reference(task, examples), split_ids(task, examples)
    known = bool(wanted["train_clean"] or wanted["train_noisy"])
    assert list(found) == (["train_clean", "train_noisy", "test"] if known else ["train", "test"])
    assert found["test"].tolist() == task.test_ids.tolist()
    if known:
        assert [found[name].tolist() for name in SPLITS[:2]] == [list(wanted[name]) for name in SPLITS[:2]]
    else:
        assert found["train"].tolist() == train.tolist()
    names = split_names(task.is_noisy(train), len(train))
    assert names == tuple(next(name for name, ids in found.items() if number in ids) for number in train)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_all_training_examples_have_their_given_labels(task, examples):
    train = task.sources if examples == "sources" else task.train_ids
    found, truth = training_set(task, examples), task.true(train)
    assert found.name == "train" and torch.equal(found.ids, train) and torch.equal(found.labels, task.given(train))
    assert torch.equal(found.truth, task.given(train) if truth is None else truth)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_labels_of_any_examples_in_any_order(task, examples):
    ids = task.ids[torch.randperm(len(task.ids), generator=torch.Generator().manual_seed(0))][: len(task.ids) // 2 + 1]
    wanted = reference(task, examples)
    assert split_labels(task, ids, examples).tolist() == [
        [wanted[name].get(number, NOT_IN_SPLIT) for number in ids.tolist()] for name in SPLITS
    ]
    assert split_labels(task, ids[:0], examples).shape == (len(SPLITS), 0)


def counted(wanted, *answers):
    """Examples of each split that all answer correctly; −1 where there is none, or an answer that is not finite."""
    return [
        -1
        if not labels or any(each[number] == NOT_FINITE for each in answers for number in labels)
        else sum(all(each[number] == label for each in answers) for number, label in labels.items())
        for labels in wanted.values()
    ]


@pytest.mark.parametrize("examples", EXAMPLES)
def test_marks_are_a_plain_count(task, examples):
    marks, wanted = Marks(task, examples), reference(task, examples)
    train = task.sources if examples == "sources" else task.train_ids
    assert marks.ids.tolist() == train.tolist() + task.test_ids.tolist()
    assert marks.n.tolist() == [len(labels) for labels in wanted.values()]
    assert [marks.ids[own].tolist() for own in marks.member] == [list(labels) for labels in wanted.values()]
    answers = torch.randint(0, task.n_classes, (2, 3, len(marks.ids)), generator=torch.Generator().manual_seed(0))
    answers[0, 1, 0] = answers[1, 2, -1] = NOT_FINITE
    told = [[dict(zip(marks.ids.tolist(), row, strict=True)) for row in rows] for rows in answers.tolist()]
    assert marks.counts(answers).tolist() == [[counted(wanted, row) for row in rows] for rows in told]
    assert marks.both(*answers).tolist() == [counted(wanted, *pair) for pair in zip(*told, strict=True)]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 2), st.booleans()), min_size=2, max_size=12).filter(
        lambda rows: len({row[2] for row in rows}) == 2
    )
)
def test_any_array_is_split_as_by_a_plain_count(rows):
    found = arrays(*zip(*[(told, true if train else told, train) for told, true, train in rows], strict=True))
    wanted = {name: labels for name, labels in reference(found, "training").items() if labels}
    assert {
        split.name: dict(zip(split.ids.tolist(), split.labels.tolist(), strict=True))
        for split in labelled_splits(found)
    } == wanted
