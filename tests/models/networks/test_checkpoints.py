"""What TransformerLens 3.9 saved opens on the version that is installed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import mechmem as mm
from mechmem.errors import CheckpointError
from mechmem.models.networks.convert import load_tl_checkpoint

DATA = Path(__file__).with_name("data")
PARAMETERS = DATA / "hooked_transformer_3_9.safetensors"
CONFIG = json.loads((DATA / "hooked_transformer_3_9.json").read_text(encoding="utf-8"))
OUTPUTS = load_file(DATA / "hooked_transformer_3_9_outputs.safetensors")
SETTINGS = ("d_model", "n_layers", "n_heads", "d_head", "n_ctx", "d_vocab", "d_mlp", "act_fn", "normalization_type")

bridge_only = pytest.mark.skipif("not hasattr(load_tl_checkpoint(PARAMETERS, CONFIG), 'original_model')")


def doubled(source):
    state = load_file(source) if isinstance(source, str) else source
    return {name: value.double() for name, value in state.items()}


def subject_of_tokens(model):
    tokens = OUTPUTS["tokens"]
    labels = torch.zeros(len(tokens), dtype=torch.long)
    return mm.Subject(model, mm.ArrayTask(tokens, labels, labels, torch.arange(len(tokens)) > 0, n_classes=6))


@pytest.mark.parametrize("cfg", [CONFIG, {name: CONFIG[name] for name in SETTINGS}], ids=["whole", "settings"])
@pytest.mark.parametrize("source", [str(PARAMETERS), load_file(PARAMETERS)], ids=["file", "state"])
def test_logits_are_those_of_the_version_that_saved_it(source, cfg):
    state = torch.random.get_rng_state()
    model = load_tl_checkpoint(source, cfg)
    assert torch.equal(torch.random.get_rng_state(), state) and not model.training
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    torch.testing.assert_close(model(OUTPUTS["tokens"]), OUTPUTS["logits"].float(), rtol=0, atol=1e-5)
    exact = load_tl_checkpoint(doubled(source), cfg)
    np.testing.assert_allclose(exact(OUTPUTS["tokens"]).detach(), OUTPUTS["logits"], atol=1e-12)


def test_points_hold_what_they_held_under_the_same_names():
    subject = subject_of_tokens(load_tl_checkpoint(doubled(str(PARAMETERS)), CONFIG))
    names = [name for name in OUTPUTS if name not in ("tokens", "logits")]
    found = mm.activations(subject, names, subject.task.ids)
    assert len(names) == 9
    for name in names:
        np.testing.assert_allclose(found[name], OUTPUTS[name], atol=1e-12)


def test_every_parameter_is_accounted_for():
    state = load_file(PARAMETERS)
    without = {name: value for name, value in state.items() if name != "unembed.W_U"}
    with pytest.raises(CheckpointError, match=r"Missing key\(s\)"):
        load_tl_checkpoint(without, CONFIG)
    with pytest.raises(CheckpointError, match=r"blocks\.7|Unexpected key"):
        load_tl_checkpoint(state | {"blocks.7.ln1.w": torch.ones(8)}, CONFIG)
    with pytest.raises(CheckpointError, match=r"attn\.W_\w"):
        load_tl_checkpoint(state, CONFIG | {"n_heads": 4, "d_head": 2})
    with pytest.raises(CheckpointError, match="does not fit"):
        load_tl_checkpoint(state | {"blocks.0.novelty": torch.ones(1)}, CONFIG)


@bridge_only
@pytest.mark.parametrize("change", [{"parallel_attn_mlp": True}, {"use_attn_scale": False}])
def test_what_would_be_computed_differently_is_refused(change):
    with pytest.raises(CheckpointError, match=f"TransformerLens 4 does not compute {next(iter(change))}="):
        load_tl_checkpoint(PARAMETERS, CONFIG | change)


@bridge_only
@pytest.mark.parametrize("scale", [2.0, 3.0])
def test_the_scale_of_the_scores_is_kept(scale):
    subject = subject_of_tokens(load_tl_checkpoint(doubled(str(PARAMETERS)), CONFIG | {"attn_scale": scale}))
    found = mm.activations(subject, "blocks.0.attn.hook_*")
    q, k = found["blocks.0.attn.hook_q"], found["blocks.0.attn.hook_k"]
    scores = torch.einsum("eqhd,ekhd->ehqk", q, k) / scale
    scores = scores.masked_fill(torch.ones(3, 3).triu(1).bool(), -torch.inf)
    np.testing.assert_allclose(found["blocks.0.attn.hook_pattern"], scores.softmax(-1), atol=1e-12)


def test_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    for name in ("broken.safetensors", "absent.safetensors"):
        with pytest.raises(CheckpointError, match="cannot be read as a safetensors file"):
            load_tl_checkpoint(tmp_path / name, CONFIG)


def test_the_data_is_small():
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 200_000
