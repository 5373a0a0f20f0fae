"""A network whose layers hold what a test puts there: its input is an example's number, its layers are tables."""

import torch
from torch import nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

import mechmem as mm


class HeldLayers(HookedRootModule):
    def __init__(self, logits, *tables):
        super().__init__()
        self.tables = nn.ParameterList([nn.Parameter(table.clone(), requires_grad=False) for table in tables])
        self.logits = nn.Parameter(logits.clone(), requires_grad=False)
        self.layers = nn.ModuleList([Layer() for _ in tables])
        self.roles = mm.Roles(hidden=tuple(f"layers.{number}.hook_hidden" for number in range(len(tables))))
        self.setup()

    def forward(self, x):
        number = x[:, 0].long()
        gone = sum(
            layer.hook_hidden(table[number]).sum() for layer, table in zip(self.layers, self.tables, strict=True)
        )
        return self.logits[number] + 0 * gone


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.hook_hidden = HookPoint()


def held(given, true, train, *tables, logits=None, inputs=None, **parts):
    """Return a subject; inputs are (number, …), and logits by default the given labels."""
    number = torch.arange(len(given))[:, None].double()
    inputs = number if inputs is None else torch.cat([number, inputs], 1)
    task = mm.ArrayTask(inputs, given, true, train)
    classes = task.n_classes
    model = HeldLayers(torch.eye(classes, dtype=torch.float64)[given] if logits is None else logits, *tables)
    return mm.Subject(model, task, model.roles, **parts)


class Twins:
    """A retrainer whose twins are handed to it; a text is why there is none."""

    def __init__(self, **twins):
        self.twins = twins
        self.made = []

    def twin(self, kind, *, progress=False):
        self.made.append(kind)
        if isinstance(self.twins.get(kind, "not known"), str):
            raise mm.errors.MissingNeedError(self.twins.get(kind, "not known"))
        return self.twins[kind]
