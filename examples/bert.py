"""
Where does a HuggingFace BERT keep a wrong label?
=================================================

A BERT with random weights learns sentences of eight words, of which the first says the class. A fifth of its training
labels is wrong.
"""

import torch
import torch.nn.functional as F
from transformers import BertConfig, BertForSequenceClassification

import mechmem as mm

# %%
# Token ids, and the class that the first word tells.
draw = torch.Generator().manual_seed(0)
words = torch.randint(20, (200, 8), generator=draw)
true = words[:, 0] % 4
train = torch.rand(200, generator=draw) < 0.75
wrong = train & (torch.rand(200, generator=draw) < 0.2)
task = mm.ArrayTask(words, torch.where(wrong, (true + 1) % 4, true), true, train, n_classes=4)

# %%
# The network and its training, both without mechmem.
torch.manual_seed(0)
sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
model = BertForSequenceClassification(BertConfig(vocab_size=20, num_labels=4, **sizes))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
x, labels = task.batch(task.train_ids)
for _ in range(60):
    optimizer.zero_grad()
    F.cross_entropy(model(x).logits, labels).backward()
    optimizer.step()
model = model.eval()

# %%
# Hook points where attention and MLPs write into the stream, and at the MLPs' neurons.
hooked = mm.attach(model, "*.intermediate", "*.output.dense", "bert:pooler_output")
network = mm.Subject(hooked, task, mm.Roles(output=mm.Output(element="logits")), name="BERT")
mm.audit(network, "raw").to_frame()[["extractor", "train_clean", "train_noisy", "test"]].round(2)

# %%
# What a rightly labelled sentence holds, put into the pass of a wrongly labelled one of the same class.
noisy, right = task.splits["train_noisy"], task.splits["train_clean"]
donors = torch.stack([right[task.true(right) == label][0] for label in task.true(noisy)])
effects = mm.patch(network, at="*.dense.hook_out", ids=noisy, donor_ids=donors, direction="denoising")
effects

# %%
# The neurons of the second MLP, removed at random.
pruned = mm.ablate(network, at="bert.encoder.layer.1.intermediate.hook_out", order="random", points=8)
pruned

# %%
# So the first attention layer moves most of it, some three quarters, because it is what reads the sentence; and the
# second MLP's neurons, which write less, can be removed one and all: the wrong labels stay fitted without them.
