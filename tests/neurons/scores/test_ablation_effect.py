"""Ablation effects against zeroing one neuron after another, by algebra and by hooks."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from hooked_networks import CHANNELS, HEADS, NEURONS, Awkward, Convolutional, Transformer
from hooked_networks import subject_of as hooked_subject
from plugin_names import score

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError
from mechmem.models.hooks.points import hook_points
from mechmem.models.networks.mlp import HookedMLP


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
    monkeypatch.setattr("mechmem.interventions.runs.block_rows", lambda _: 10)
    monkeypatch.setattr("mechmem.interventions.batched.CPU_MB", 0.02)
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
    with pytest.raises(MissingNeedError, match="train_noisy is empty"):
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


EVERY = slice(None)


@pytest.mark.parametrize("value", ["zero", "mean"])
@pytest.mark.parametrize(
    ("kind", "point", "settings", "width", "where"),
    [
        (Transformer, "blocks.0.hook_post", "", NEURONS, lambda m: (EVERY, m)),
        (Transformer, "blocks.1.hook_post", ",position=-1", NEURONS, lambda m: (2, m)),
        (Transformer, "blocks.0.attn.hook_z", ",units=head", HEADS, lambda m: (EVERY, m)),
        (Convolutional, "hook_first", ",units=channel", CHANNELS, lambda m: (m,)),
    ],
)
def test_units_of_points_with_more_axes_equal_one_pass_per_unit(kind, point, settings, width, where, value):
    subject = hooked_subject(kind, dtype=torch.float64)
    found = score(f"ablation_effect(train,{value},loss,point={point}{settings})")(subject)
    task, model = subject.task, subject.model.eval()
    inputs, given = task.batch(task.train_ids)
    mean = mm.activations(subject, point)[point].mean(0)

    def loss(unit):
        def replace(_module, _inputs, out):
            out = out.clone()
            if unit is not None:
                out[(EVERY, *where(unit))] = mean[where(unit)] if value == "mean" else 0
            return out

        handle = hook_points(model)[point].register_forward_hook(replace)
        with torch.no_grad():
            logits = subject.roles.output.read(model(inputs))
        handle.remove()
        return F.cross_entropy(logits, given).double()

    wanted = torch.stack([loss(unit) - loss(None) for unit in range(width)])
    torch.testing.assert_close(found.values, wanted)
    assert found.point == point and found.values.abs().max() > 1e-4


def test_heads_and_positions_that_are_not_there():
    subject = hooked_subject(Transformer)
    assert score("ablation_effect(train,units=head)")(subject).point == "blocks.1.attn.hook_z"
    with pytest.raises(MissingNeedError, match="role:heads"):
        score("ablation_effect(units=head)")(subject_of())
    with pytest.raises(ConfigError, match="no heads"):
        score("ablation_effect(units=head,point=blocks.0.hook_post)")(subject)
    with pytest.raises(UnknownNameError, match="Did you mean 'blocks.0.attn.hook_z'"):
        score("ablation_effect(units=head,point=blocks.0.attn.hook_zz)")(subject)
    with pytest.raises(ConfigError, match="one layer is ablated at a time"):
        score("ablation_effect(train,point=blocks.*.hook_post)")(subject)
    assert score("ablation_effect(train,point=blocks.0.hook_po*)")(subject).point == "blocks.0.hook_post"
    with pytest.raises(ConfigError, match="no positions"):
        score("ablation_effect(position=0)")(subject_of())
    with pytest.raises(ConfigError, match="position must be a whole number or None, got 'last'"):
        score("ablation_effect(position=last)")
    with pytest.raises(UnknownNameError, match="Did you mean 'head'"):
        score("ablation_effect(units=heads)")


def test_a_network_that_cannot_be_batched_says_so():
    found = score("ablation_effect(train)")(hooked_subject(Awkward, "decides"))
    assert "edits were run one by one" in found.note and "not linear" in found.note
