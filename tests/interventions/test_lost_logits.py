"""Edits that make logits NaN, and networks that have some: no figure counts them as an answer."""

import math

import pytest
import torch
from torch import nn

import mechmem as mm

ROWS = torch.arange(60)
LABELS = torch.where(ROWS % 10 < 8, 0, ROWS % 2 + 1)
X = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
TASK = mm.ArrayTask(X, LABELS, LABELS, ROWS < 40, n_classes=3)


class Normed(nn.Module):
    """Divides by the norm of its neurons: 0 / 0 where all are zeroed; and returns a value of choice for one example."""

    def __init__(self, gone=(), value=math.nan):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.r, self.o = nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)
        self.gone, self.value = X[list(gone)], value

    def forward(self, x):
        hidden = self.r(self.a(x))
        logits = self.o(hidden / hidden.norm(dim=1, keepdim=True))
        same = (x[:, None] == self.gone).all(2).any(1)
        return torch.where(same[:, None], self.value, logits)


def figures(frame, **chosen):
    for column, value in chosen.items():
        frame = frame[frame[column] == value]
    return dict(zip(frame["split"], frame["accuracy"], strict=True))


def test_an_edit_without_logits_has_no_accuracy():
    network = mm.attach(Normed())
    found = mm.intervene(network, [mm.Edit("r.hook_out"), mm.Edit("r.hook_out", neurons=[0])], TASK)
    frame = found.to_frame().query("n > 0")
    assert frame.groupby("edit", sort=False)["accuracy"].apply(lambda each: each.isna().all()).tolist() == [True, False]
    lost = frame["accuracy"].isna()
    assert frame.loc[lost, ["low", "high", "change", "loss"]].isna().all(axis=None)
    assert frame.loc[~lost, ["low", "high", "change", "loss"]].notna().all(axis=None)
    found.plot()


def test_ablation_of_every_neuron_has_no_accuracy():
    found = mm.ablate(mm.attach(Normed()), task=TASK, at="r.hook_out", order="random", points=2)
    assert math.isnan(figures(found.to_frame(), fraction=1.0)["test"])
    assert figures(found.to_frame(), fraction=0.5)["test"] >= 0
    assert found.at("random", 1.0)["accuracy"].isna().all()
    found.plot()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_one_lost_example_costs_its_own_split_only(value):
    network = mm.attach(Normed([45], value))
    frame = mm.intervene(network, mm.Edit("r.hook_out", neurons=[0]), TASK).to_frame()
    found = figures(frame)
    assert math.isnan(found["test"]) and found["train_clean"] >= 0
    train = frame[frame["split"] == "train_clean"]
    assert train[["loss", "loss_change"]].notna().all(axis=None) and frame["loss"].isna().sum() == 3


def test_patching_says_that_logits_are_lost():
    network = mm.attach(Normed([45]))
    found = mm.patch(network, at="r.hook_out", task=TASK, ids=range(40, 50), donor_ids=range(50, 60))
    frame = found.to_frame()
    assert frame["effect"].isna().all() and frame["given_before"].isna().any()
    assert set(frame["reason"]) == {"the logits of 1 of 10 examples are NaN or infinite"}
