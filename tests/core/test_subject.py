import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import mechmem as mm
from mechmem.core.ids import check_ids
from mechmem.core.task import Task
from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError


class Permuted(Task):
    """Ids in no order, as a task of images might have them."""

    ids = torch.tensor([40, 7, 23, 11])
    train_ids, test_ids = torch.tensor([7, 23]), torch.tensor([40, 11])
    n_classes = 3
    digest = "permuted"

    def __init__(self, truth=True):
        self._truth = truth

    def batch(self, ids, step=None):
        return ids.float()[:, None], torch.where(ids == 23, 0, ids % 3)

    def true(self, ids):
        return ids % 3 if self._truth or not set(ids.tolist()) & {7, 23} else None


def test_rows_finds_ids_in_any_order():
    task = Permuted()
    assert task.rows(torch.tensor([11, 40, 40, 7])).tolist() == [3, 0, 0, 1]
    assert task.rows(torch.tensor([], dtype=torch.long)).tolist() == []
    for stranger in (8, 0, 99):
        with pytest.raises(UnknownNameError, match=f"no example id {stranger}: this task's lie in 7 … 40"):
            task.rows(torch.tensor([7, stranger]))


def test_splits_of_a_task():
    known, unknown = Permuted(), Permuted(truth=False)
    # 23 % 3 is 2 and it was given 0; 7 keeps its own.
    assert known.noisy.tolist() == [False, True]
    assert {name: ids.tolist() for name, ids in known.splits.items()} == {
        "train_clean": [7],
        "train_noisy": [23],
        "test": [40, 11],
    }
    assert unknown.noisy is None
    assert unknown.splits["train_clean"] is None and unknown.splits["train_noisy"] is None
    assert unknown.splits["test"].tolist() == [40, 11]


def test_a_task_without_pairs_says_so():
    for ask in (lambda: Permuted().symbols, lambda: Permuted().cell(0, 1)):
        with pytest.raises(MissingNeedError, match="not pairs"):
            ask()


def test_memo_computes_once_and_does_not_outlive_the_model():
    subject = mm.Subject(nn.Linear(1, 3), Permuted())
    calls = []
    for _ in range(3):
        assert subject.memo("x", lambda: calls.append(1) or "value") == "value"
    assert len(calls) == 1
    other = subject.with_model(nn.Linear(1, 3))
    other.memo("x", lambda: calls.append(1))
    assert len(calls) == 2
    assert other.task is subject.task and other.name == subject.name


def test_a_copied_model_is_another_model(planted):
    copy = planted.subject.copy_model()
    with torch.no_grad():
        copy.W_in.zero_()
    assert planted.subject.model.W_in.abs().sum() > 0


def test_a_model_comes_with_its_task_and_a_subject_alone():
    from mechmem.core.subject import subject_of

    model, task = nn.Linear(2, 3), Permuted()
    subject = subject_of(model, task)
    assert (subject.model, subject.task, subject.roles) == (model, task, mm.Roles())
    assert subject_of(subject) is subject
    own = mm.Roles(hidden=("hook_own",))
    model.roles = own
    assert subject_of(model, task).roles is own and subject_of(model, task, mm.Roles()).roles == mm.Roles()
    with pytest.raises(ConfigError, match="got Linear and no task"):
        subject_of(model)
    with pytest.raises(ConfigError, match="its own task and roles"):
        subject_of(subject, task)


def test_what_is_no_model_is_named(unchecked_shapes):
    from mechmem.core.subject import subject_of

    with pytest.raises(ConfigError, match="got str and a task"):
        subject_of("model.pt", Permuted())


@pytest.mark.parametrize(
    "ids",
    [[7, 40], (7, 40), range(7, 41, 33), np.array([7, 40], np.int32), [np.int64(7), 40], torch.tensor([7, 40]).int()],
    ids=str,
)
def test_ids_come_in_many_kinds_and_leave_in_one(ids):
    found = check_ids(Permuted(), ids)
    assert found.tolist() == [7, 40] and found.dtype == torch.int64


def test_an_array_that_cannot_be_written_to_is_no_matter():
    ids = np.array([7, 40])
    ids.flags.writeable = False
    assert check_ids(Permuted(), ids).tolist() == [7, 40]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([True, False, True], r"rows must be whole numbers, got a mask of 3 values: task.ids\[mask\] are its ids"),
        (np.array([True]), "got a mask of 1 values"),
        (torch.tensor([True, False]), "got a mask of 2 values"),
        ([7.0, 40.0], r"rows must be at least one example id, whole numbers in one dimension, got \[7.0, 40.0\]"),
        (np.array([[7, 40]]), r"got torch.int64 of shape \(1, 2\)"),
        (7, "got 7"),
        ([], r"got \[\]"),
        ("train", "got 'train'"),
        ({7, 40}, "got a set"),
        ([[7], [7, 40]], r"got \[\[7\], \[7, 40\]\]"),
        (None, "got None"),
    ],
    ids=str,
)
def test_what_is_no_list_of_ids_is_named(ids, message, unchecked_shapes):
    with pytest.raises(ConfigError, match=message):
        check_ids(Permuted(), ids, "rows")
    with pytest.raises(UnknownNameError, match="no example id 8"):
        check_ids(Permuted(), [7, 8])


def test_a_subject_says_what_a_person_wants_to_know(tiny_run):
    lines = repr(tiny_run).splitlines()
    assert lines[0] == "Subject 'tiny'" and lines[1].strip() == "HookedMLP, 180 parameters"
    wrong = int(tiny_run.task.noisy.sum())
    assert lines[2].strip() == (
        f"task: ModularTask(a + b mod 5: 18 for training, {wrong} with a wrong label; 7 for testing; 5 classes)"
    )
    assert lines[3].strip() == "roles: input_embedding, readout, activation, hidden"
    assert lines[4].strip() == f"run: {tiny_run.run.path}"
    given, true, train = torch.tensor([[0, 1, 0], [-1, -1, 0], [1, 1, 0]])
    bare = mm.Subject(nn.Linear(2, 2), mm.ArrayTask(torch.arange(6.0).reshape(3, 2), given, true, train.bool()))
    assert "roles: none" in repr(bare) and "run:" not in repr(bare)
    assert repr(bare.task) == "ArrayTask(2 for training; 1 for testing; 2 classes)"


def test_a_pruned_network_can_be_copied():
    """Pruning leaves a computed tensor in the module, which Python's own copying refuses."""
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    prune.l1_unstructured(model[0], "weight", 0.5)
    labels = torch.arange(12) % 3
    task = mm.ArrayTask(torch.randn(12, 4), labels, labels, torch.arange(12) < 8)
    copied = mm.Subject(model, task).copy_model()
    inputs = task.batch(task.ids)[0]
    assert torch.equal(copied(inputs), model(inputs)) and copied[0].weight is not model[0].weight
    with torch.no_grad():
        copied[0].weight_orig.zero_()
    assert model[0].weight_orig.any() and not torch.equal(copied(inputs), model(inputs))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_ids_may_be_unsigned(dtype, tiny_run, unchecked_shapes):
    ids, task = np.arange(3, dtype=dtype), tiny_run.task
    for read in (task.given, task.true, lambda chosen: task.batch(chosen)[0]):
        assert torch.equal(read(ids), read(torch.arange(3)))


def test_a_network_without_an_evaluation_mode_is_refused():
    network = nn.Sequential(nn.Linear(1, 3), nn.ReLU())
    exported = torch.export.export(network, (torch.zeros(2, 1),)).module()
    with pytest.raises(ConfigError, match=r"model is exported by torch\.export, which has no evaluation mode"):
        mm.Subject(exported, Permuted())
    mm.Subject(torch.fx.symbolic_trace(network), Permuted())
