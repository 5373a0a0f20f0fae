"""Ablation effects against zeroing one neuron after another, by algebra and by hooks."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

import mechmem as mm
from mechmem.caching import hook_points
from mechmem.errors import MissingNeedError, UnknownNameError
from mechmem.models.mlp import HookedMLP
from mechmem.scoring import score


class Curved(HookedMLP):
    """A network whose logits are not linear in its neurons."""

    def forward(self, pairs):
        return super().forward(pairs).tanh()


def subject_of(cls=HookedMLP, fraction=0.3):
    task = mm.ModularTask(mm.ModularConfig(p=7, train_fraction=0.6, noise=mm.LabelNoise(fraction)))
    model = cls(mm.MLPConfig(width=13, activation="quadratic", init="doshi_2024"), 7).double()
    return mm.Subject(model, task, model.roles)


def through_hooks(subject, split, value, measure):
    """The reference: one forward pass per neuron, a hook that sets its activation."""
    task, model = subject.task, subject.model
    ids = task.train_ids if split == "train" else task.splits[split.removesuffix("_true")]
    labels = task.true(ids) if split in ("train_noisy_true", "test") else task.given(ids)

    def quality():
        logits = model(task.batch(ids)[0])
        return -F.cross_entropy(logits, labels) if measure == "loss" else (logits.argmax(1) == labels).double().mean()

    found = []
    with torch.no_grad():
        mean = mm.activations(subject, "hook_hidden")["hook_hidden"].mean(0)
        for m in range(13):
            new = float(mean[m]) if value == "mean" else 0.0
            column = torch.tensor([m])
            handle = model.hook_hidden.register_forward_hook(
                lambda _m, _i, out, c=column, n=new: out.index_fill(1, c, n)
            )
            without = quality()
            handle.remove()
            found.append(quality() - without)
    return torch.stack(found)


@pytest.mark.parametrize("cls", [HookedMLP, Curved])
@pytest.mark.parametrize("measure", ["accuracy", "loss"])
@pytest.mark.parametrize("value", ["zero", "mean"])
@pytest.mark.parametrize("split", ["train_clean", "train_noisy", "train_noisy_true", "train", "test"])
def test_equals_one_pass_per_neuron(cls, split, value, measure):
    subject = subject_of(cls)
    found = score(f"ablation_effect({split},{value},{measure})")(subject)
    assert torch.allclose(found.values, through_hooks(subject, split, value, measure), rtol=1e-8, atol=1e-10)
    assert found.values.abs().max() > 0
    assert ("not linear" in found.note) == (cls is Curved)
    assert all(not hook._forward_hooks for hook in hook_points(subject.model).values())


def test_hooks_take_neurons_and_examples_in_blocks(monkeypatch):
    subject = subject_of(Curved)
    whole = score("ablation_effect(train,measure=loss)")(subject).values
    monkeypatch.setattr("mechmem.scorers.ablation_effect.block_rows", lambda _: 10)
    assert torch.allclose(score("ablation_effect(train,measure=loss)")(subject).values, whole)


def test_memorized_cells_need_the_neurons_planted_for_them(planted):
    """Of a planted pair one neuron fires on its cell: those, and no others, hold memorized labels."""
    noisy = score("ablation_effect(train_noisy)")(planted.subject).values
    firing = planted.memorizing.nonzero().flatten()[::2]
    others = torch.ones(len(noisy), dtype=torch.bool)
    others[firing] = False
    assert float(noisy[firing].min()) > float(noisy[others].max()) == 0
    assert torch.allclose(noisy[firing], torch.tensor(1 / len(planted.cells), dtype=noisy.dtype))
    # Without its wrong label the cell is answered rightly.
    true = score("ablation_effect(train_noisy_true)")(planted.subject).values
    assert torch.equal(true, -noisy)


def test_ipr_parts_all_memorizing_neurons_from_the_rule(planted):
    ipr = score("ipr")(planted.subject).values
    assert float(ipr[planted.memorizing].max()) < float(ipr[~planted.memorizing].min())


def test_what_it_is_told_depends_on_the_split():
    assert score("ablation_effect").told() == {"given_labels", "noise_mask"}
    assert score("ablation_effect(train)").told() == {"given_labels"}
    assert score("ablation_effect(train_noisy_true)").told() == {"true_train_labels", "noise_mask"}
    assert "test_labels" in score("ablation_effect(test)").told()
    told = {name: "test_labels" in score(name).told() for name in ("ablation_effect", "ablation_effect(train_noisy)")}
    assert not any(told.values())


def test_a_change_of_the_weights_is_seen():
    subject = subject_of()
    before = score("ablation_effect(train)")(subject).values
    with torch.no_grad():
        subject.model.W_out[:6] = 0
    after = score("ablation_effect(train)")(subject).values
    assert not torch.equal(before, after) and torch.equal(after[:6], torch.zeros(6).double())


def test_splits_that_are_empty_or_unknown_are_refused():
    with pytest.raises(MissingNeedError, match="train_noisy needs at least one example"):
        score("ablation_effect(train_noisy)")(subject_of(fraction=0.0))
    subject = subject_of()
    task = subject.task
    train = torch.isin(task.ids, task.train_ids)
    unknown = torch.where(train, -1, task.true(task.ids))
    arrays = mm.ArrayTask(task.operands, task.given(task.ids), unknown, train, operands=task.operands, n_classes=7)
    blind = dataclasses.replace(subject, task=arrays)
    with pytest.raises(MissingNeedError, match="use split=train"):
        score("ablation_effect")(blind)
    known = score("ablation_effect(train,measure=loss)")(subject).values
    assert torch.allclose(score("ablation_effect(train,measure=loss)")(blind).values, known)
    with pytest.raises(UnknownNameError, match="train_noisy"):
        score("ablation_effect(train_nois)")
