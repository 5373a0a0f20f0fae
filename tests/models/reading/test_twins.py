"""Where a twin comes from, and that it is the same network whichever way it comes."""

import dataclasses

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

import mechmem as mm
from mechmem.errors import MissingNeedError
from mechmem.models.reading.twins import twin, twin_subject

PAIRS = mm.ModularConfig(p=5, train_fraction=0.7, noise=mm.LabelNoise(0.3))
DIGITS = mm.ImageConfig("digits", train=40, test=20, noise=mm.LabelNoise(0.3))
NETWORKS = {
    "pairs": (PAIRS, mm.MLPConfig(width=12)),
    "transformer": (PAIRS, mm.TransformerConfig(d_model=8, heads=2, d_mlp=12)),
    "images": (DIGITS, mm.ImageMLPConfig(widths=(8, 8), projector=8)),
    "running statistics": (DIGITS, mm.ResNetConfig(width=4)),
    "masked": (DIGITS, mm.ImageMLPConfig(widths=(16, 16), biases=False, masks=mm.TurnOver(layers=(0, -1)))),
}


def same(one, two):
    first, second = one.state_dict(), two.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {
        name: mm.train(mm.TrainConfig(task, model, steps=2, batch_size=20), out=folder / name, progress=False)
        for name, (task, model) in NETWORKS.items()
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_step_0_on_disk_is_the_retrainer_s_untrained_twin_to_the_bit(runs, name):
    run = runs[name]
    assert 0 in run.run.checkpoint_steps()
    found, made = (twin(each, "untrained") for each in (run, dataclasses.replace(run, run=None)))
    assert same(found, made) and not same(found, run.model)
    loaded = mm.load(run.run.path)
    assert same(twin(loaded, "untrained"), found)


class Twins:
    """A retrainer with one twin of its own, and a reason for all others."""

    def __init__(self, kind, model):
        self.kind, self.model = kind, model

    def twin(self, kind, *, progress=False):
        if kind != self.kind:
            raise MissingNeedError("its labels are not to be had")
        return self.model


def recorded(planted, folder, steps):
    """Return a run of a user's own loop, opened again: it knows no config."""
    model, task, roles = planted.subject.copy_model(), planted.subject.task, planted.subject.roles
    recorder = mm.Recorder(model, task, steps=3, out=folder, roles=roles, checkpoints=steps, evaluations=steps)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    inputs, labels = task.batch(task.train_ids)
    for step in range(4):
        recorder(step)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return mm.load(folder, model=model, task=task, roles=roles)


def test_the_run_comes_before_the_retrainer_for_step_0_alone(planted, tmp_path):
    run, other = recorded(planted, tmp_path / "run", [0, 1, 3]), planted.subject.copy_model()
    torch.nn.init.zeros_(other.W_in)
    assert same(twin(run, "untrained"), planted.subject.model)
    for kind in ("untrained", "one_step", "noise_only", "clean_labels"):
        told = dataclasses.replace(run, retrainer=Twins(kind, other))
        assert (twin(told, kind) is other) == (kind != "untrained")
        assert twin(dataclasses.replace(told, run=None), kind) is other
        assert twin(told, kind, run.model) is run.model
    late = recorded(planted, tmp_path / "late", [1, 3])
    assert twin(dataclasses.replace(late, retrainer=Twins("untrained", other)), "untrained") is other


def test_a_train_callable_makes_the_noise_only_twin_and_no_other(planted):
    other = planted.subject.copy_model()
    with torch.no_grad():
        next(other.parameters()).add_(1)
    told = dataclasses.replace(planted.subject, retrainer=Twins("noise_only", planted.subject.model))
    assert twin(told, "noise_only", train=lambda task: other) is other
    assert "not to be had" in twin(told, "clean_labels", train=lambda task: other)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("untrained", "no untrained twin: the network has neither a run with step 0 nor a retrainer"),
        ("one_step", "no one-step twin: the network has no retrainer"),
        ("clean_labels", "no clean-label twin: the network has no retrainer"),
    ],
)
def test_where_there_is_none_the_reason_is_said(planted, kind, reason):
    assert twin(planted.subject, kind) == reason and twin_subject(planted.subject, kind) == (None, reason)
    refusing = dataclasses.replace(planted.subject, retrainer=Twins("", None))
    assert twin(refusing, kind) == f"{reason.partition(':')[0]}: its labels are not to be had"


def test_a_twin_stands_in_the_place_of_the_network(tiny_run):
    found, note = twin_subject(tiny_run, "untrained")
    assert note == "" and found.task is tiny_run.task and same(found.model, tiny_run.run.model_at(0))


def test_the_audit_and_the_probes_find_the_same_untrained_network(planted, tmp_path):
    run = recorded(planted, tmp_path / "run", [0, 3])
    card, probes = mm.audit(run, ["raw", "masc@hook_hidden"]), mm.probe_layers(run, points="hook_hidden", folds=0)
    logits = mm.audit(planted.subject, "raw").rows[0].splits["test"]
    assert card.rows[0].controls["untrained"] == logits
    table = probes.to_frame().query("network == 'untrained' and split == 'test'")
    assert card.rows[1].controls["untrained"].estimate.value == pytest.approx(table["accuracy"].item())
    assert "untrained" not in card.uncontrolled and not pd.isna(card.to_frame()["untrained_test"]).any()
