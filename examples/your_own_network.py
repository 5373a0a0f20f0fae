"""
How is a network audited that mechmem neither built nor trained?
================================================================

The network is an ``nn.Sequential`` on one-hot pairs, trained with a plain loop. mechmem is told three things: what it
was trained on, what its parameters are for, and, for the controls, how to train one like it.
"""

import torch
import torch.nn.functional as F
from torch import nn

import mechmem as mm

P, WIDTH = 31, 256

# %%
# Your data: inputs as the network takes them, the labels that it was trained on, the true ones, and which rows it
# saw.
pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
true = pairs.sum(1) % P
draw = torch.Generator().manual_seed(0)
train = torch.rand(len(pairs), generator=draw) < 0.8
wrong = train & (torch.rand(len(pairs), generator=draw) < 0.2)
given = torch.where(wrong, (true + torch.randint(1, P, (len(pairs),), generator=draw)) % P, true)
inputs = F.one_hot(pairs, P).flatten(1).float()
task = mm.ArrayTask(inputs, given, true, train, operands=pairs, operation="add")


# %%
# Your network and your loop.
def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2 * P, WIDTH, bias=False), nn.ReLU(), nn.Linear(WIDTH, P))


def fit(task, steps=1200):
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1.0)
    x, labels = task.batch(task.train_ids)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()
    return model


# %%
# What the parameters are for: from the stored shape to (operand, p, neuron) and (neuron, class).
roles = mm.Roles(
    input_embedding=mm.Role("0.weight", "neuron (operand p) -> operand p neuron", {"operand": 2}),
    readout=mm.Role("2.weight", "class neuron -> neuron class"),
    bias=mm.Role("2.bias", "class -> class"),
    activation="1",
)
subject = mm.Subject(fit(task), task, roles, name="my network")

# %%
# The controls come from the same loop: untrained, after one step, and trained on labels that are nothing but noise.
card = mm.audit(subject, untrained=build(), one_step=fit(task, 1), train=fit)
card

# %%
print(card.sentence)

# %%
# So a network needs no mechmem in it to be audited: this one is right on 2 % of new pairs, and computes the rule all
# the same.
