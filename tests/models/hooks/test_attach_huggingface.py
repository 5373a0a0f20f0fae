"""HuggingFace networks, built from a config with random weights: tuples, dataclasses, keywords, generation."""

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    ResNetConfig,
    ResNetForImageClassification,
)

import mechmem as mm
from mechmem.core.roles import Output

IDS = torch.randint(1, 30, (12, 6), generator=torch.Generator().manual_seed(0))


def resnet18(classes=3, width=8):
    config = ResNetConfig(
        num_channels=3,
        embedding_size=width,
        hidden_sizes=[width * 2**stage for stage in range(4)],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        num_labels=classes,
    )
    return ResNetForImageClassification(config).eval()


def bert():
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    return BertForSequenceClassification(BertConfig(vocab_size=30, num_labels=3, **sizes)).eval()


def gpt2():
    config = GPT2Config(vocab_size=30, n_embd=16, n_layer=2, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config).eval()


def zero(value, hook):
    return torch.zeros_like(value)


def test_a_resnet18_has_points_at_every_module():
    torch.manual_seed(0)
    model, x = resnet18(), torch.randn(4, 3, 32, 32)
    expected = model(x, output_hidden_states=True)
    attached = mm.attach(model, "*", "resnet:last_hidden_state", "resnet:pooler_output")
    with torch.no_grad():
        out, cache = attached.run_with_cache(x)
    assert torch.equal(out.logits, expected.logits) and torch.equal(cache["hook_out"], expected.logits)
    for stage in range(4):
        torch.testing.assert_close(cache[f"resnet.encoder.stages.{stage}.hook_out"], expected.hidden_states[stage + 1])
    assert len([name for name in cache if "convolution.hook_out" in name]) == 20
    last = cache["resnet.hook_out.last_hidden_state"]
    torch.testing.assert_close(last.mean((2, 3)), cache["classifier.0.hook_out"])


def test_bert_s_elements_are_edited_in_place_of_the_originals():
    torch.manual_seed(0)
    attached = mm.attach(bert(), "bert:last_hidden_state", "bert.encoder.layer.*", "bert:pooler_output", ":logits")
    plain = attached(input_ids=IDS)
    out = attached.run_with_hooks(input_ids=IDS, fwd_hooks=[("bert.hook_out.pooler_output", zero)])
    assert type(out) is type(plain)
    torch.testing.assert_close(out.logits, attached.classifier.bias.expand(12, 3))
    out = attached.run_with_hooks(IDS, fwd_hooks=[("hook_out.logits", zero)])
    assert not out.logits.any() and not out["logits"].any() and not out[0].any()
    first = attached.run_with_hooks(IDS, fwd_hooks=[("bert.encoder.layer.0.hook_out", zero)]).logits
    assert torch.equal(first[0], first[1]) and not torch.equal(plain.logits[0], plain.logits[1])


def test_gpt2_generates_through_hooks_and_says_what_it_is():
    torch.manual_seed(0)
    attached = mm.attach(gpt2(), "transformer.h.*.attn:0", "transformer.h.*", "lm_head")
    assert attached.config.n_layer == 2 and attached.device.type == "cpu"
    assert attached.lm_head.weight is attached.transformer.wte.weight
    settings = {"max_new_tokens": 3, "do_sample": False, "attention_mask": torch.ones_like(IDS[:2]), "pad_token_id": 0}
    plain = attached.generate(IDS[:2], **settings)
    token = torch.tensor(11)
    with attached.hooks([("lm_head.hook_out", lambda value, hook: value.index_fill(-1, token, 1e4))]):
        forced = attached.generate(IDS[:2], **settings)
    assert (forced[:, 6:] == 11).all() and not (plain[:, 6:] == 11).all()
    _, cache = attached.run_with_cache(IDS)
    assert cache["transformer.h.1.attn.hook_out.0"].shape == (12, 6, 16)


@pytest.mark.parametrize("make", [bert, gpt2])
def test_sequence_models_are_measured_ablated_and_patched(make):
    torch.manual_seed(0)
    model = make()
    layer, output = {
        bert: ("bert.encoder.layer.0", Output(element="logits")),
        gpt2: ("transformer.h.0", Output(element="logits", position=-1)),
    }[make]
    attached = mm.attach(model, f"{layer}*", ":logits")
    labels = output.read(model(IDS)).argmax(1)
    labels[0] = (labels[0] + 1) % 3
    task = mm.ArrayTask(IDS, labels, labels, torch.arange(12) < 10, n_classes=30 if make is gpt2 else 3)
    subject = mm.Subject(attached, task, mm.Roles(output=output))
    held = mm.activations(subject, f"{layer}.hook_out")[f"{layer}.hook_out"]
    assert held.shape == (10, 6, 16)
    curves = mm.ablate(subject, order="random", at=f"{layer}.hook_out", points=2, draws=1, losses=False)
    assert curves.width == 16 and curves.accuracy[0, 0, 0] == 0.9
    effects = mm.patch(subject, ids=torch.tensor([0]), donor_ids=torch.tensor([1]), at=f"{layer}.hook_out")
    torch.testing.assert_close(effects.sides[0].patched.mean(), torch.tensor(effects.sides[0].donor.value).double())
