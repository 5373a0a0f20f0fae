"""The same calls on the transformer of every TransformerLens: `HookedTransformer` of 3.9, `TransformerBridge` of 4."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from hooked_models import P, lens_subject, lens_transformer

import mechmem as mm
from mechmem.errors import ActivationError, DiscardedEditError, LeftoverHooksWarning, UnknownNameError
from mechmem.interventions.reach import check_edit
from mechmem.models.hooks.hooking import hooked
from mechmem.models.hooks.points import hook_points
from mechmem.scorecard.pruned import pruned

OLD_NAMES = (
    "hook_embed hook_pos_embed blocks.0.ln1.hook_scale blocks.0.ln1.hook_normalized blocks.0.ln2.hook_scale "
    "blocks.0.ln2.hook_normalized blocks.0.attn.hook_q blocks.0.attn.hook_k blocks.0.attn.hook_v blocks.0.attn.hook_z "
    "blocks.0.attn.hook_pattern blocks.0.attn.hook_result blocks.0.mlp.hook_pre blocks.0.mlp.hook_post "
    "blocks.0.hook_attn_in blocks.0.hook_q_input blocks.0.hook_k_input blocks.0.hook_v_input blocks.0.hook_mlp_in "
    "blocks.0.hook_attn_out blocks.0.hook_mlp_out blocks.0.hook_resid_pre blocks.0.hook_resid_mid "
    "blocks.0.hook_resid_post ln_final.hook_scale ln_final.hook_normalized unembed.hook_in unembed.hook_out"
).split()
GATED = ("hook_result", "hook_attn_in", "hook_q_input", "hook_k_input", "hook_v_input", "hook_mlp_in")
SHAPES = {
    "hook_embed": (3, 8),
    "blocks.0.attn.hook_q": (3, 2, 4),
    "blocks.0.attn.hook_z": (3, 2, 4),
    "blocks.0.attn.hook_pattern": (2, 3, 3),
    "blocks.0.mlp.hook_post": (3, 16),
    "blocks.0.hook_resid_post": (3, 8),
    "unembed.hook_out": (3, P + 1),
}


@pytest.fixture(scope="module")
def subject():
    return lens_subject()


is_bridge = hasattr(lens_transformer(), "original_model")
bridge_only = pytest.mark.skipif(not is_bridge, reason="this TransformerLens has HookedTransformer")


def test_one_vocabulary(subject):
    found = hook_points(subject.model)
    assert set(OLD_NAMES) <= set(found)
    assert len({id(point) for point in found.values()}) == len(found)
    assert all(name in found for name in OLD_NAMES)


def test_the_same_names_hold_the_same_things(subject):
    found = mm.activations(subject, list(SHAPES))
    n = len(subject.task.train_ids)
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        name: (n, *shape) for name, shape in SHAPES.items()
    }
    assert list(found) != [] and set(found) == set(SHAPES)
    q, k, v = (mm.activations(subject, f"blocks.0.attn.hook_{part}")[f"blocks.0.attn.hook_{part}"] for part in "qkv")
    scores = torch.einsum("eqhd,ekhd->ehqk", q, k) / 2
    pattern = scores.masked_fill(torch.ones(3, 3).triu(1).bool(), -torch.inf).softmax(-1)
    np.testing.assert_allclose(found["blocks.0.attn.hook_pattern"], pattern, atol=1e-12)
    z = torch.einsum("ehqk,ekhd->eqhd", pattern, v)
    np.testing.assert_allclose(found["blocks.0.attn.hook_z"], z, atol=1e-12)


@pytest.mark.parametrize("points", ["*", ["blocks.*", "*"]])
def test_all_points_at_once(subject, points):
    found = mm.activations(subject, points)
    # ln1 stands before q, k and v, and is computed for each of them.
    fired = {name.partition("#")[0] for name in found}
    assert {name for name in OLD_NAMES if not name.endswith(GATED)} <= fired
    with pytest.raises(ActivationError, match="'blocks.0.attn.hook_result' did not fire"):
        found["blocks.0.attn.hook_result"]
    with pytest.raises(ActivationError, match="'blocks.0.hook_q_input' did not fire"):
        mm.activations(subject, "blocks.0.hook_q_input")
    assert n_hooks_of_ours(subject.model) == 0


def n_hooks_of_ours(model):
    return sum(len(point.fwd_hooks) + len(point._forward_hooks) for point in hook_points(model).values())


def test_gradients_at_every_point(subject):
    found = mm.activations(subject, "*", gradients=lambda logits, given: logits.square().sum(1), chunk=5)
    whole = mm.activations(subject, "*", gradients=lambda logits, given: logits.square().sum(1))
    assert set(found.gradients) >= {"hook_embed", "blocks.0.attn.hook_q", "blocks.0.hook_resid_post"}
    for name in found.gradients:
        torch.testing.assert_close(found.gradients[name], whole.gradients[name], atol=1e-12, rtol=1e-9)
    logits = found["unembed.hook_out"][:, -1, :P]
    slope = torch.zeros_like(found["unembed.hook_out"])
    slope[:, -1, :P] = 2 * logits
    torch.testing.assert_close(found.gradients["unembed.hook_out"], slope)


def test_every_listed_point_that_fires_can_be_edited(subject):
    found = mm.activations(subject, "*")
    for name in found:
        check_edit(subject, name)


def test_an_edit_in_the_layout_that_the_name_promises(subject):
    inputs = subject.task.inputs[:4]
    for name, shape in SHAPES.items():
        seen = []
        with (
            torch.no_grad(),
            hooked(subject.model, name, lambda value, seen=seen: seen.append(value.shape) or value * 0),
        ):
            logits = subject.model(inputs)
        assert seen == [(4, *shape)]
        assert not torch.allclose(logits, subject.model(inputs)) and n_hooks_of_ours(subject.model) == 0


def test_hooks_left_on_the_model_are_reported(subject):
    model = lens_transformer()
    other = subject.with_model(model)
    mm.activations(other, "hook_embed")
    with model.hooks(fwd_hooks=[("blocks.0.mlp.hook_post", lambda value, hook: value * 0)]):
        assert mm.activations(other, "blocks.0.mlp.hook_post")["blocks.0.mlp.hook_post"].abs().sum() == 0
    model.add_perma_hook("hook_embed", lambda value, hook: value)
    mm.activations(other, "hook_embed")
    model.add_hook("blocks.0.mlp.hook_post", lambda value, hook: value)
    with pytest.warns(LeftoverHooksWarning, match=r"every forward pass: blocks\.0\.mlp\.hook_post \(.*lambda"):
        mm.activations(other, "hook_embed")


def test_an_audit_reads_the_answer(subject):
    card = mm.audit(subject)
    logits = subject.model(subject.task.inputs)[:, -1, :P]
    test = subject.task.test_ids
    expected = (logits[test].argmax(1) == subject.task.true(test)).double().mean()
    row = card.to_frame().query("extractor == 'raw'")
    np.testing.assert_allclose(row["test"].iloc[0], expected)


def test_neurons_are_ablated_at_every_position(subject):
    point = "blocks.0.mlp.hook_post"
    curves = mm.ablate(subject, at=point, order="random", draws=1, points=3)
    with hooked(subject.model, point, torch.zeros_like):
        logits = subject.model(subject.task.inputs)[:, -1, :P]
    test = subject.task.test_ids
    loss = torch.nn.functional.cross_entropy(logits[test], subject.task.true(test))
    end = curves.to_frame().query("split == 'test'").iloc[-1]
    assert end["removed"] == 16
    np.testing.assert_allclose(end["loss"], loss.detach())


def test_pruned_neurons_are_those_silenced_at_their_point(subject):
    point = "blocks.0.mlp.hook_post"
    roles = dataclasses.replace(subject.roles, residual=("blocks.0.hook_resid_pre",), hidden=(point,))
    kept = mm.NeuronSet.of([0, 3, 4], 16, point)
    before = subject.model(subject.task.inputs).detach()
    found = pruned(dataclasses.replace(subject, roles=roles), kept).model(subject.task.inputs).detach()
    with hooked(subject.model, point, lambda value: value * kept.mask):
        expected = subject.model(subject.task.inputs).detach()
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert not np.allclose(found, before)
    np.testing.assert_array_equal(subject.model(subject.task.inputs).detach(), before)


def test_an_unknown_name_names_the_nearest(subject):
    with pytest.raises(UnknownNameError, match=r"Did you mean 'blocks\.0\.hook_resid_post'"):
        mm.activations(subject, "blocks.0.resid_post")


@bridge_only
class TestBridge:
    """What only a bridge has: names of its own, points that show what they do not say."""

    def test_its_own_names_are_accepted(self, subject):
        both = {"blocks.0.mlp.out.hook_in": "blocks.0.mlp.hook_post", "blocks.0.hook_out": "blocks.0.hook_resid_post"}
        found = mm.activations(subject, list(both))
        assert set(found) == set(both)
        for own, old in both.items():
            assert found[own] is found[old] and old in found
        assert hook_points(subject.model)["embed.hook_out"] is hook_points(subject.model)["hook_embed"]
        twice = mm.activations(subject, ["blocks.0.mlp.hook_post", "blocks.0.mlp.out.hook_in"])
        assert list(twice) == ["blocks.0.mlp.hook_post"] and "blocks.0.mlp.out.hook_in" in twice
        assert set(mm.activations(subject, "blocks.0.mlp.out.*")) == {
            "blocks.0.mlp.out.hook_in",
            "blocks.0.mlp.out.hook_out",
        }

    def test_scores_are_not_what_they_say(self, subject):
        name = "blocks.0.attn.hook_attn_scores"
        held = {}
        with subject.model.hooks(fwd_hooks=[(name, lambda value, hook: held.update({name: value.clone()}))]):
            subject.model(subject.task.inputs[subject.task.train_ids])
        pattern = mm.activations(subject, "blocks.0.attn.hook_pattern")["blocks.0.attn.hook_pattern"]
        torch.testing.assert_close(held[name], pattern)
        message = f"'{name}' holds the attention pattern a second time"
        for call in (
            lambda: mm.activations(subject, name),
            lambda: mm.activations(subject, "*")[name],
            lambda: check_edit(subject, name),
            lambda: hook_points(subject.model)[name],
        ):
            with pytest.raises(ActivationError, match=message):
                call()

    def test_an_edit_that_the_bridge_throws_away_is_an_error(self, subject, monkeypatch):
        monkeypatch.setattr("mechmem.models.hooks.points._withheld", lambda model: {})
        with warnings.catch_warnings(), pytest.raises(DiscardedEditError, match="hook_attn_scores' has no effect"):
            warnings.simplefilter("error")
            check_edit(subject, "blocks.0.attn.hook_attn_scores")

    def test_a_flag_lets_a_point_fire(self):
        subject = lens_subject()
        subject.model.set_use_hook_mlp_in(True)
        found = mm.activations(subject, ["blocks.0.hook_mlp_in", "blocks.0.hook_resid_mid"])
        assert torch.equal(found["blocks.0.hook_mlp_in"], found["blocks.0.hook_resid_mid"])
        check_edit(subject, "blocks.0.hook_mlp_in")

    def test_compatibility_mode_changes_no_name(self, subject):
        other = lens_subject()
        other.model.enable_compatibility_mode()
        assert set(hook_points(other.model)) == set(hook_points(subject.model))
        found = mm.activations(other, "*")
        assert {name for name in OLD_NAMES if not name.endswith(GATED)} <= set(found)
