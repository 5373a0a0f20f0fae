"""
Which rows of my table have a wrong label?
==========================================

A frame of pandas holds thirteen measurements of 178 wines and the kind of each. A fifth is held out, and a tenth of the
other kinds is wrong. A network of skorch, with scikit-learn's interface, is fitted to them, and its callback is asked
afterwards.
"""

import torch
from sklearn.datasets import load_wine
from skorch import NeuralNetClassifier
from torch import nn

import mechmem as mm

wine = load_wine(as_frame=True)
measured = (wine.data - wine.data.mean()) / wine.data.std()
frame = measured.assign(kind=wine.target_names[wine.target])
task = mm.DatasetTask(frame, label="kind", noise=mm.LabelNoise(0.1))
task

# %%
torch.manual_seed(0)
callback = mm.SkorchCallback(task)
net = NeuralNetClassifier(
    nn.Sequential(nn.Linear(13, 64), nn.ReLU(), nn.Linear(64, 3)),
    criterion=nn.CrossEntropyLoss,
    lr=0.1,
    max_epochs=30,
    train_split=None,
    verbose=0,
    callbacks=[callback],
)
rows, kinds = task.batch(task.train_ids)
net.fit(rows.numpy(), kinds.numpy())
network = mm.load(callback.path, model=net.module_, task=task)

# %%
# The rows in the order of suspicion, with the label that their neighbours suggest. ``issues.export`` writes them as
# parquet or CSV, and ``mm.write_review`` makes a page on which a person decides.
issues = mm.label_issues(network, "aum", point="inputs")
issues

# %%
# So the first of these: of the ten most suspect rows eight have a wrong label, and of all 142 for training fourteen.
