"""Every task takes example ids in every form in which a list of whole numbers is written, and refuses all else."""

import importlib
import pkgutil

import numpy as np
import pandas as pd
import pytest
import torch

import mechmem
import mechmem as mm
from mechmem.analyses.layers.view_invariance import Views
from mechmem.core.task import Task
from mechmem.errors import ConfigError, UnknownNameError
from mechmem.sequences.memorized import _Given
from mechmem.tasks.relabelled import noise_only

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

FORMS = {
    "list": list,
    "tuple": tuple,
    "range": lambda ids: range(ids[0], ids[-1] + 1),
    "list of tensors": lambda ids: [torch.tensor(each) for each in ids],
    "numpy": np.asarray,
    "numpy, unsigned": lambda ids: np.asarray(ids, dtype=np.uint16),
    "bytes as numbers": lambda ids: torch.tensor(ids, dtype=torch.uint8),
    "int32": lambda ids: torch.tensor(ids, dtype=torch.int32),
}
WRONG = {
    "one number": 1,
    "0-dimensional": torch.tensor(1),
    "0-dimensional of numpy": np.int64(1),
    "nested": [[0, 1]],
    "fractions": [0.0, 1.0],
    "fractional tensor": torch.tensor([0.0]),
    "a mask": torch.ones(2, dtype=torch.bool),
    "a list of truth values": [True, False],
    "a word": "ab",
    "words": ["a"],
    "a set": {0, 1},
    "None": None,
    "negative": [-1],
    "too large": (10**6,),
}


def arrays(**settings):
    inputs = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    return mm.ArrayTask(inputs, torch.arange(9) % 3, None, torch.arange(9) < 6, **settings)


def sequences():
    return mm.SequenceTask([[0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 0, 1]], split=["train", "train", "train", "test"])


def images():
    return mm.ImageTask(mm.ImageConfig(train=20, test=10, augmentation=mm.Augmentation(degrees=5, views=1)))


def digits(count=4):
    return mm.ImageTask(mm.ImageConfig(train=20, test=10)), torch.zeros(count, 1, 8, 8), torch.arange(count)


TASKS = {
    "ArrayTask": arrays,
    "CleanedTask": lambda: mm.cleaned(arrays(), pd.DataFrame(columns=["id", "decision", "label"])),
    "DatasetTask": lambda: mm.DatasetTask([(torch.full((2,), float(row)), row % 2) for row in range(9)]),
    "GrammarTask": lambda: mm.GrammarTask(
        mm.GrammarConfig(vocabulary=8, length=12, train=20, test=4, repeats=(1,), controls=2)
    ),
    "GroupTask": lambda: mm.GroupTask(mm.GroupConfig("S3")),
    "ImageTask": images,
    "ModularTask": lambda: mm.ModularTask(mm.ModularConfig(p=5)),
    "RelabelledTask": lambda: noise_only(arrays()),
    "SequenceTask": sequences,
    "Views": lambda: Views(digits()[1], digits()[2], digits()[0]),
    "_Given": lambda: _Given(sequences(), torch.tensor([[0, -1], [0, 1], [1, -1]])),
}
ABSTRACT = {"ConfiguredTask", "GridTask"}


def every_task_class():
    for module in pkgutil.walk_packages(mechmem.__path__, "mechmem."):
        if ".tasks." in module.name:
            importlib.import_module(module.name)
    found, left = set(), [Task]
    while left:
        own = [each for each in left.pop().__subclasses__() if each.__module__.startswith("mechmem.")]
        found |= {each.__name__ for each in own}
        left += own
    return found


def test_every_task_class_is_here():
    assert every_task_class() - ABSTRACT == set(TASKS)


def answers(task, ids):
    inputs, given = task.batch(ids)
    true, positions, noisy = task.true(ids), task.answer_positions(ids), task.is_noisy(ids)
    return [inputs, given, task.given(ids), true, positions, noisy, task.source(ids), task.rows(ids)]


@pytest.fixture(scope="module")
def made():
    return {}


def task_of(name, made):
    if name not in made:
        made[name] = TASKS[name]()
    return made[name]


@pytest.mark.parametrize("name", TASKS)
def test_ids_in_every_form(name, made):
    task = task_of(name, made)
    first = task.ids[torch.tensor([0, 1, 2])].tolist() if "Image" not in name else task.ids.sort().values[:1].tolist()
    wanted = answers(task, torch.tensor(first))
    assert wanted[1].shape == (len(first),)
    for form, make in FORMS.items():
        if form == "bytes as numbers" and max(first) > 255:
            continue
        ids = make(first)
        if form == "range" and [*ids] != first:
            continue
        for found, right in zip(answers(task, ids), wanted, strict=True):
            assert (found is None) == (right is None), form
            assert right is None or (torch.equal(found, right) and found.dtype == right.dtype), form
    assert [len(each) for each in answers(task, [])[1:3]] == [0, 0]
    assert [each.shape for each in answers(task, (first[0],))[1:3]] == [(1,), (1,)]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", TASKS)
def test_what_is_no_list_of_ids_is_refused(name, wrong, made):
    task = task_of(name, made)
    methods = [task.batch, task.given, task.true, task.rows, task.is_noisy]
    if name == "_Given":  # whose truth is never known
        methods = [task.batch, task.given, task.rows]
    if name.endswith(("SequenceTask", "GrammarTask")):
        methods.append(task.answer_positions)
    for method in methods:
        with pytest.raises((ConfigError, UnknownNameError), match="ids must be whole numbers|no example id"):
            method(WRONG[wrong])
