"""Audit a network that mechmem did not build and did not train.

The network is an `nn.Sequential` on one-hot pairs, trained with a plain torch loop. Three things are told to mechmem:
what it was trained on (a task), what its parameters are for (roles), and, for the controls, how to train one like it.

    python examples/your_own_network.py --steps 1200 --out runs/your_own_network
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import mechmem as mm

P, WIDTH = 31, 256

parser = argparse.ArgumentParser(description="Audit a network of your own.")
parser.add_argument("--steps", type=int, default=1200, help="training steps")
parser.add_argument("--out", type=Path, default=Path("runs/your_own_network"), help="where run and report are written")
arguments = parser.parse_args()


def build() -> nn.Module:
    """Return the network at its initialisation."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2 * P, WIDTH, bias=False), nn.ReLU(), nn.Linear(WIDTH, P))


# Your data: inputs as the network takes them, labels it was trained on, true labels, and which rows it was trained on.
pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
inputs = F.one_hot(pairs, P).flatten(1).float()
true = pairs.sum(1) % P
draw = torch.Generator().manual_seed(0)
train = torch.rand(len(pairs), generator=draw) < 0.8
wrong = train & (torch.rand(len(pairs), generator=draw) < 0.2)
given = torch.where(wrong, (true + torch.randint(1, P, (len(pairs),), generator=draw)) % P, true)
task = mm.ArrayTask(inputs, given, true, train, operands=pairs, operation="add")

# What the parameters are for: stored shape -> (operand, p, neuron) and (neuron, class).
roles = mm.Roles(
    input_embedding=mm.Role("0.weight", "neuron (operand p) -> operand p neuron", {"operand": 2}),
    readout=mm.Role("2.weight", "class neuron -> neuron class"),
    bias=mm.Role("2.bias", "class -> class"),
    activation="1",
)


def fit(model, task, steps, recorder=None):
    """Train with a loop of your own; a recorder looks on, if there is one."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1.0)
    x, labels = task.batch(task.train_ids)
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()
        if recorder is not None:
            recorder(step)
    return model


model = build()
recorder = mm.Recorder(model, task, steps=arguments.steps, out=arguments.out / "my_network", roles=roles)
recorder(0)
fit(model, task, arguments.steps, recorder)
subject = mm.Subject(model, task, roles, run=recorder.run(), name="my network")

# The controls: the same network untrained, after one step, and trained by the same loop on labels that are pure noise.
card = mm.audit(
    subject,
    untrained=build(),
    one_step=fit(build(), task, 1),
    train=lambda noise_only: fit(build(), noise_only, arguments.steps),
)
columns = ["extractor", "train_clean", "train_noisy", "test", "untrained_test", "one_step_test", "noise_only_test"]
print(card.to_frame()[columns].round(3).to_string(index=False))
print(card.sentence)

mm.write_report([(subject, card)], arguments.out / "report.html")
print(f"report: {arguments.out / 'report.html'}")
