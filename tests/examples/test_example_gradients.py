"""Gradients of single examples against one backward pass per example."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mechmem as mm
from mechmem.errors import MissingNeedError, UnknownNameError
from mechmem.examples.example_gradients import MOST_HELD, ExampleGradients, check_held

N = 12


def task_of(*shape, classes=3):
    draw = torch.Generator().manual_seed(0)
    given = torch.randint(classes, (N,), generator=draw)
    return mm.ArrayTask(torch.randn(N, *shape, generator=draw), given, given, torch.arange(N) < N - 2)


class Looking(nn.Module):
    """A network that looks at its values, which torch cannot map over examples."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        assert float(x.abs().max()) < 1e6
        return self.last(self.first(x).relu())


class Asking(nn.Module):
    """A network that asks for its parameters by name, which only real parameters have, and not what torch maps."""

    def __init__(self):
        super().__init__()
        self.only = nn.Linear(4, 3)

    def forward(self, x):
        return F.linear(x, self.only.get_parameter("weight"), self.only.bias)


NETWORKS = {
    "linear": (lambda: nn.Linear(4, 3), (4,)),
    "deep": (lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)), (4,)),
    "convolutions": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3)),
        (2, 4, 4),
    ),
    "looking": (Looking, (4,)),
    "asking": (Asking, (4,)),
    "masked": (lambda: nn.Sequential(nn.Linear(4, 6), mm.TurnOverDropout(6), nn.Linear(6, 3)), (4,)),
}


def plain(subject, ids):
    rows = []
    for row in range(len(ids)):
        subject.model.zero_grad()
        inputs, given = subject.task.batch(ids[row : row + 1])
        F.cross_entropy(subject.model(inputs), given).backward()
        rows.append(torch.cat([each.grad.flatten() for each in subject.model.parameters()]))
    return torch.stack(rows)


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_are_those_of_a_pass_per_example(name):
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    subject = mm.Subject(make().eval(), task_of(*shape))
    found = ExampleGradients(subject)
    ids = subject.task.ids
    rows = torch.cat([rows for _, rows in found.blocks(ids, at_most=5)])
    torch.testing.assert_close(rows, plain(subject, ids), rtol=1e-4, atol=1e-6)
    assert found.size == rows.shape[1] == sum(each.numel() for each in subject.model.parameters())
    parts = found.split(rows)
    assert {key: part.shape[1:] for key, part in parts.items()} == {
        key: each.shape for key, each in subject.model.named_parameters()
    }
    torch.testing.assert_close(torch.cat([part.flatten(1) for part in parts.values()], 1), rows)


def test_masks_of_an_own_subnetwork_are_each_example_s():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), mm.TurnOverDropout(6), nn.Linear(6, 3)).eval()
    subject = mm.Subject(model, task_of(4))
    ids = subject.task.train_ids
    with mm.subnetwork(model, "own"):
        found = ExampleGradients(subject)(ids)
    for row, own in enumerate(ids.tolist()):
        with mm.subnetwork(model, "own", [own]):
            torch.testing.assert_close(found[row : row + 1], plain(subject, ids[row : row + 1]), rtol=1e-4, atol=1e-6)


def test_chosen_parameters_are_columns_of_all():
    torch.manual_seed(0)
    subject = mm.Subject(NETWORKS["deep"][0](), task_of(4))
    every, last = ExampleGradients(subject), ExampleGradients(subject, "2.*")
    ids = subject.task.train_ids
    assert list(every.layers()) == ["0", "2"] and list(last.chosen) == ["2.weight", "2.bias"]
    assert torch.equal(last(ids), every(ids)[:, every.layers()["2"]])
    subject.model[0].requires_grad_(False)
    assert torch.equal(ExampleGradients(subject)(ids), last(ids))
    subject.model.requires_grad_(False)  # frozen for inspection
    assert torch.equal(ExampleGradients(subject)(ids), every(ids))


def test_labels_may_be_others():
    torch.manual_seed(0)
    subject = mm.Subject(nn.Linear(4, 3), task_of(4))
    ids, other = subject.task.ids, (subject.task.given(subject.task.ids) + 1) % 3
    changed = dataclasses.replace(
        subject, task=mm.ArrayTask(subject.task.inputs, other, other, torch.arange(N) < N - 2)
    )
    torch.testing.assert_close(ExampleGradients(subject)(ids, other), ExampleGradients(changed)(ids))


def test_what_is_missing_is_said():
    subject = mm.Subject(nn.Linear(4, 3), task_of(4))
    with pytest.raises(UnknownNameError, match=r"no trained parameter 'last.\*'; the network has weight, bias"):
        ExampleGradients(subject, "weight last.*")
    bare = mm.Subject(nn.Flatten(), task_of(3))
    with pytest.raises(MissingNeedError, match="needs trained parameters"):
        ExampleGradients(bare)
    check_held("it", 1, MOST_HELD, "")
    with pytest.raises(
        MissingNeedError, match=r"it holds 3 vectors of 536,870,912 numbers, .* 6 GB, more than 2: less"
    ):
        check_held("it", 3, MOST_HELD, "less")
