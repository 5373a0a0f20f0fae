"""Contributions against the network's own last steps, run on one component's writing alone."""

import dataclasses

import numpy as np
import pytest
import torch
from hooked_models import ANSWER, lens_subject
from small_transformer import small_transformer
from torch import nn

from mechmem.analyses.logits.component_attribution import QUANTITIES, ComponentAttribution, ComponentAttributionResult
from mechmem.core.roles import Role
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError, NotLinearError
from mechmem.models.reading.residual import residual_writers

SETTINGS = [
    {},
    {"layer_norm": True},
    {"layers": 2, "layer_norm": True, "tokens": 2, "heads": 3},
    {"biases": "none", "d_mlp": 0},
    {"biases": "mlp", "attention": "bidirectional", "activation": "quadratic"},
]


def alone(subject, ids):
    """Logits of each component by itself: everything else that stands in the stream is taken out of it.

    The last residual value is replaced by what one hook point held, and the norm's scale by its own value on the whole
    stream; the network then reads its logits by itself. What an empty stream gives is the readout's bias.
    """
    model, blocks = subject.model, range(subject.model.config.layers)
    with torch.no_grad():
        inputs = subject.task.batch(ids)[0]
        _, cache = model.run_with_cache(inputs)
        written = {"embedding": cache["hook_embed"], "position": cache["hook_pos_embed"]}
        for number in blocks:
            attention, mlp = model.blocks[number].attn, model.blocks[number].mlp
            for head in range(attention.W_O.shape[0]):
                z = cache[f"blocks.{number}.attn.hook_z"][:, :, head]
                written[f"head {number}.{head}"] = z @ attention.W_O[head]
            if attention.b_O is not None:
                written[f"attention bias {number}"] = attention.b_O.expand_as(cache["hook_embed"])
            if mlp is not None:
                bias = 0 if mlp.b_out is None else mlp.b_out
                written[f"MLP {number}"] = cache[f"blocks.{number}.hook_mlp_out"] - bias
                if mlp.b_out is not None:
                    written[f"MLP bias {number}"] = mlp.b_out.expand_as(cache["hook_embed"])
        last = f"blocks.{blocks[-1]}.hook_resid_post"

        def logits(stream):
            hooks = [(last, lambda value, hook: stream[:, -1:].expand_as(value))]
            if "ln_final.hook_scale" in cache:
                hooks.append(("ln_final.hook_scale", lambda value, hook: cache["ln_final.hook_scale"]))
            return model.run_with_hooks(inputs, fwd_hooks=hooks)

        empty = logits(torch.zeros_like(cache["hook_embed"]))
        found = {name: logits(value) - empty for name, value in written.items()}
        if subject.roles.bias is not None or "ln_final.hook_scale" in cache:
            found["readout bias"] = empty
        return found | {"total": model(inputs)}


@pytest.mark.parametrize("settings", SETTINGS)
def test_contributions_are_what_is_left_when_all_else_is_taken_out(settings):
    subject = small_transformer(**settings)
    result = ComponentAttribution()(subject)
    assert result.splits == ("train_clean", "train_noisy", "train_noisy_true", "test")
    assert result.normalization == ("LayerNorm" if settings.get("layer_norm") else "none") and result.gap < 1e-10
    frame = result.to_frame().set_index(["quantity", "split", "component"])["value"]
    task = subject.task
    for split in result.splits:
        ids = task.splits[split.removesuffix("_true")]
        label = (task.given if split == "train_noisy" else task.true)(ids)[:, None]
        parts = alone(subject, ids)
        assert list(parts) == list(result.components)
        rival = parts["total"].scatter(1, label, -torch.inf).argmax(1, keepdim=True)
        for name, logits in parts.items():
            own = logits.gather(1, label)
            logit, margin = own - logits.mean(1, keepdim=True), own - logits.gather(1, rival)
            assert frame["logit", split, name] == pytest.approx(float(logit.mean()), abs=1e-10), (name, split)
            assert frame["margin", split, name] == pytest.approx(float(margin.mean()), abs=1e-10), (name, split)
    # Everything but the total sums to it.
    sums = result.to_frame().assign(total=lambda rows: rows["component"] == "total")
    sums = sums.groupby(["quantity", "split", "total"])["value"].sum().unstack()
    np.testing.assert_allclose(sums[True], sums[False], atol=1e-10)


def test_neurons_sum_to_their_mlp_and_each_is_its_own_ablation():
    subject = small_transformer(layer_norm=True, layers=2)
    result = ComponentAttribution()(subject)
    frame = result.to_frame().set_index(["quantity", "split", "component"])["value"]
    assert set(result.neurons) == {"MLP 0", "MLP 1"}
    for name, values in result.neurons.items():
        for q, quantity in enumerate(QUANTITIES):
            for s, split in enumerate(result.splits):
                assert float(values[q, s].sum()) == pytest.approx(frame[quantity, split, name])
    # Without neuron 4 of the last MLP, at the scale it had with it.
    task, model, ids = subject.task, subject.model, subject.task.test_ids
    with torch.no_grad():
        inputs, label = task.batch(ids)[0], task.true(ids)[:, None]
        logits, cache = model.run_with_cache(inputs)

        def silence(value, hook):
            value = value.clone()
            value[..., 4] = 0
            return value

        scale = ("ln_final.hook_scale", lambda value, hook: cache["ln_final.hook_scale"])
        change = logits - model.run_with_hooks(inputs, fwd_hooks=[("blocks.1.mlp.hook_post", silence), scale])
    expected = float((change.gather(1, label)[:, 0] - change.mean(1)).mean())
    assert float(result.neurons["MLP 1"][0, result.splits.index("test"), 4]) == pytest.approx(expected)
    table = result.by_neuron()
    assert len(table) == 2 * 4 * 2 * 20 and set(table["mlp"]) == {"MLP 0", "MLP 1"}


@pytest.mark.parametrize(("norm", "said"), [("LN", "LayerNorm"), (None, "none"), ("RMS", "RMSNorm")])
def test_a_transformer_of_transformer_lens_is_read_by_its_names(norm, said):
    subject = lens_subject(normalization_type=norm)
    names = [name for name, _ in subject.model.named_parameters()]
    stored = next(name for name in names if name.endswith(("unembed.W_U", "head._original_component.weight")))
    pattern = "neuron classes -> neuron classes" if stored.endswith("W_U") else "classes neuron -> neuron classes"
    bias = {"bias": Role("unembed.b_U", "classes -> classes")} if "unembed.b_U" in names else {}
    roles = dataclasses.replace(ANSWER, residual=("blocks.0.hook_resid_post",), readout=Role(stored, pattern), **bias)
    result = ComponentAttribution()(Subject(subject.model, subject.task, roles))
    # Their RMSNorm works in single precision.
    assert result.normalization == said and result.gap < (1e-5 if norm == "RMS" else 1e-10)
    assert {"embedding", "position", "head 0.0", "head 0.1", "MLP 0", "total"} <= set(result.components)


def test_writers_that_do_not_sum_to_the_logits_are_refused():
    subject = small_transformer()
    model = subject.copy_model()
    model.ln_final = nn.Tanh()
    with pytest.raises(NotLinearError, match="do not sum to the logits: they differ by up to .*head 0.1"):
        ComponentAttribution()(subject.with_model(model))


def test_a_network_without_a_stream_is_refused(planted):
    with pytest.raises(MissingNeedError, match="role:residual"):
        ComponentAttribution()(planted.subject)
    pretends = dataclasses.replace(planted.subject.roles, residual=("hook_hidden",))
    with pytest.raises(MissingNeedError, match="no point 'hook_embed'"):
        ComponentAttribution()(Subject(planted.subject.model, planted.subject.task, pretends))


def test_a_block_whose_weights_have_other_names_is_taken_as_a_whole():
    subject = small_transformer(biases="mlp")
    model = subject.copy_model()
    block = model.blocks[0]
    names = [writer.names for writer in residual_writers(subject.with_model(model))]
    assert ("head 0.0", "head 0.1") in names and ("MLP bias 0",) in names
    block.mlp.W_renamed = block.mlp.W_out
    del block.mlp.W_out
    writers = residual_writers(subject.with_model(model))
    assert [writer.kind for writer in writers] == ["embedding", "position", "heads", "mlp"]


def test_the_figure_says_what_was_done_with_the_norm(tmp_path):
    result = ComponentAttribution()(small_transformer(layer_norm=True))
    figure = result.plot()
    assert any("LayerNorm folded" in note.text for note in figure.layout.annotations)
    assert figure.layout.xaxis2.ticktext[-1] == "total" and "mean class" in figure.layout.yaxis.title.text
    assert {trace.name for trace in figure.data} >= {"test", "train, clean"}
    result.save(tmp_path / "r.safetensors")
    assert ComponentAttributionResult.load(tmp_path / "r.safetensors").to_frame().equals(result.to_frame())
