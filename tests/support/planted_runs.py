"""Runs in which a test says which predictions are right when."""

import torch
from torch import nn

import mechmem as mm


class Answers(nn.Module):
    """Logits that are a table; the input is an example's number."""

    def __init__(self, examples, classes):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(examples, classes))

    def forward(self, numbers):
        return self.table[numbers[:, 0].long()]


def planted_run(steps, right, test=()):
    """Return a subject whose run was evaluated at these steps; right: (evaluation, example), of the given label."""
    n = right.shape[1]
    given = torch.arange(n) % 2
    train = ~torch.isin(torch.arange(n), torch.tensor(test))
    task = mm.ArrayTask(torch.arange(n)[:, None].double(), given, torch.where(train, 1 - given, given), train)
    model = Answers(n, 2)
    recorder = mm.Recorder(model, task, steps=steps[-1], evaluations=steps, checkpoints=steps[-1:])
    for step, row in zip(steps, right, strict=True):
        model.table.data = nn.functional.one_hot(torch.where(row, given, 1 - given), 2).float()
        recorder(step)
    return mm.Subject(model, task, run=recorder.run())
