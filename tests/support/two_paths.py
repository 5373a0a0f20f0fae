"""A network of two paths, one that holds the rule and one that holds the wrong labels, and what it was before."""

import dataclasses

import torch
from torch import nn
from transformer_lens.hook_points import HookPoint

import mechmem as mm

CLASSES, TRAIN, TEST = 3, 12, 6


class TwoPaths(nn.Module):
    """Logits = readout(rule(the class) + memory(the example)); behind the memory a BatchNorm that can be set wrong."""

    def __init__(self):
        super().__init__()
        self.rule = nn.Linear(CLASSES, CLASSES, bias=False)
        self.memory = nn.Linear(TRAIN + TEST, CLASSES, bias=False)
        self.norm = nn.BatchNorm1d(CLASSES, affine=False)
        self.hook_sum, self.readout = HookPoint(), nn.Linear(CLASSES, CLASSES)

    def forward(self, both):
        ruled, remembered = both.split([CLASSES, TRAIN + TEST], 1)
        return self.readout(self.hook_sum(self.rule(ruled) + self.norm(self.memory(remembered))))

    @property
    def roles(self):
        readout = mm.Role("readout.weight", "classes neuron -> neuron classes")
        return mm.Roles(readout=readout, bias=mm.Role("readout.bias", "classes -> classes"), hidden="hook_sum")


@dataclasses.dataclass(frozen=True)
class Before:
    """A retrainer that knows nothing but the initialisation."""

    model: nn.Module

    def twin(self, kind, *, progress=False):
        assert kind == "untrained"
        return self.model


def two_paths(noise=1 / 3, known=True, retrainer=True):
    """The subject: every example's class is in its input, and its number; memory holds the wrong labels."""
    n = TRAIN + TEST
    true = torch.arange(n) % CLASSES
    train = torch.arange(n) < TRAIN
    noisy = torch.arange(n) < round(TRAIN * noise)
    given = torch.where(noisy, (true + 1) % CLASSES, true)
    inputs = torch.cat([torch.eye(CLASSES)[true], torch.eye(n)], 1).double()
    task = mm.ArrayTask(inputs, given, true if known else torch.where(train, -1, true), train)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        initial, model = TwoPaths().double().eval(), TwoPaths().double().eval()
    with torch.no_grad():
        # Before training the norm hides the memory, and the memory is empty.
        initial.memory.weight.zero_()
        initial.norm.running_var.fill_(1e6)
        model.rule.weight.copy_(torch.eye(CLASSES))
        model.readout.weight.copy_(torch.eye(CLASSES))
        model.readout.bias.zero_()
        model.memory.weight.zero_()
        model.memory.weight[given[noisy], noisy.nonzero().flatten()] = 5
    return mm.Subject(model, task, model.roles, retrainer=Before(initial) if retrainer else None)
