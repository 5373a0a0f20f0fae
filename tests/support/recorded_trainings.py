"""Data, a network and its answers, for trainings that somebody else's loop makes."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import mechmem as mm

FEATURES, CLASSES, EXAMPLES = 6, 4, 52


def planted_task():
    """Forty training examples, not the first ids, every fifth with a wrong label; classes lie apart."""
    draw = torch.Generator().manual_seed(0)
    true = torch.arange(EXAMPLES) * 7 % CLASSES
    inputs = 4 * F.one_hot(true, FEATURES) + torch.randn(EXAMPLES, FEATURES, generator=draw)
    train = torch.arange(EXAMPLES) % 13 < 10
    wrong = train & (torch.arange(EXAMPLES) % 5 == 0)
    return mm.ArrayTask(inputs, torch.where(wrong, (true + 1) % CLASSES, true), true, train, n_classes=CLASSES)


class Network(nn.Module):
    """A network that takes labels too, as those of HuggingFace do, and then returns the loss with its logits."""

    def __init__(self, width=8):
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, CLASSES))

    def forward(self, inputs, labels=None):
        logits = self.layers(inputs)
        return {"logits": logits} if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}


class Rows(torch.utils.data.Dataset):
    """A task's training examples, in their order or in another, as parts with or without names."""

    def __init__(self, task, order=None, *, named=False, labels=None):
        self.ids = task.train_ids if order is None else task.train_ids[order]
        self.inputs, given = task.batch(self.ids)
        self.labels = given if labels is None else labels
        self.named = named

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, row):
        if self.named:
            return {"inputs": self.inputs[row], "labels": self.labels[row]}
        return self.inputs[row], self.labels[row]


def said_of(logits, task):
    """Right, loss and margin of each training example, by numpy alone."""
    logits, given = logits.detach().double().numpy(), task.given(task.train_ids).numpy()
    shifted = logits - logits.max(1, keepdims=True)
    loss = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(given)), given]
    others = logits.copy()
    others[np.arange(len(given)), given] = -np.inf
    margin = logits[np.arange(len(given)), given] - others.max(1)
    return {"right": (logits.argmax(1) == given).astype(float), "loss": loss, "margin": margin}


def check_observed(observations, logits, task, *, epochs, seen=None):
    """Check that in every epoch each example was seen once, as a network that stayed as it is answers on it.

    Args:
        observations: what a run recorded.
        logits: the network's logits on the training examples, in the task's order.
        task: the task.
        epochs: number of epochs.
        seen: which of them were trained on in each epoch; by default all.
    """
    expected = said_of(logits, task)
    count = np.ones((epochs, len(task.train_ids))) if seen is None else seen.astype(float)
    assert torch.equal(observations.ids, task.train_ids)
    assert np.array_equal(observations.count.numpy(), count)
    for name, values in expected.items():
        wanted = np.where(count > 0, values, np.nan)
        assert np.allclose(getattr(observations, name).numpy(), wanted, rtol=2e-3, atol=1e-5, equal_nan=True), name


def hooks_on(model):
    """Number of hooks on a network."""
    return sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in model.modules())
