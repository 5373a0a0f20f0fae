"""
Which branch of a ResNet holds a wrong label?
=============================================

A ResNet of the transformers library, with random weights, is trained on images of four patterns; a fifth of the
labels is wrong. ``mm.attach`` puts hook points on the branches of a network that knows nothing of them.
"""

import torch
import torch.nn.functional as F
from transformers import ResNetConfig, ResNetForImageClassification

import mechmem as mm

# %%
# Noisy images of four patterns; three quarters are trained on, and a fifth of those has the next pattern's label.
draw = torch.Generator().manual_seed(0)
true = torch.arange(160) % 4
images = torch.randn(4, 3, 16, 16, generator=draw)[true] + torch.randn(160, 3, 16, 16, generator=draw)
train = torch.rand(160, generator=draw) < 0.75
wrong = train & (torch.rand(160, generator=draw) < 0.2)
task = mm.ArrayTask(images, torch.where(wrong, (true + 1) % 4, true), true, train)

# %%
# The network and its training, both without mechmem.
torch.manual_seed(0)
sizes = {"embedding_size": 16, "hidden_sizes": [16, 32, 64, 128], "depths": [2, 2, 2, 2], "layer_type": "basic"}
model = ResNetForImageClassification(ResNetConfig(**sizes, num_labels=4))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
x, labels = task.batch(task.train_ids)
for _ in range(60):
    optimizer.zero_grad()
    F.cross_entropy(model(x).logits, labels).backward()
    optimizer.step()
model = model.eval()

# %%
# Hook points at every branch, by a pattern, and at what the classifier reads. Where the logits are in what the
# network returns is said by its roles.
hooked = mm.attach(model, "*.layers.?.layer", "classifier.1.hook_in")
network = mm.Subject(hooked, task, mm.Roles(output=mm.Output(element="logits")), name="ResNet")
mm.audit(network, "raw").to_frame()[["extractor", "train_clean", "train_noisy", "test"]].round(2)

# %%
# What a rightly labelled image holds, put into the pass of a wrongly labelled one of the same pattern. Effect 1
# carries the whole difference between the two labels.
noisy, right = task.splits["train_noisy"], task.splits["train_clean"]
donors = torch.stack([right[task.true(right) == label][0] for label in task.true(noisy)])
effects = mm.patch(network, at="*.layer.hook_out", ids=noisy, donor_ids=donors, direction="denoising")
effects

# %%
# And the units that the classifier reads, removed at random.
mm.ablate(network, at="classifier.1.hook_in", order="random", points=8)

# %%
# So no single branch holds it: each of the eight, patched alone, moves the answer by some two thirds of the
# difference between the labels.
