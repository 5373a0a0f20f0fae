"""Write tests/models/networks/data: run with transformer_lens 3.9.0, in the environment of `make test-tl39`."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformer_lens import HookedTransformer, HookedTransformerConfig

DATA = Path(__file__).with_name("data")
SHAPE = {"d_model": 8, "n_layers": 2, "n_heads": 2, "d_head": 4, "n_ctx": 3, "d_vocab": 6, "d_mlp": 16}
KEPT = (
    "hook_embed",
    "blocks.0.attn.hook_q",
    "blocks.1.attn.hook_pattern",
    "blocks.1.attn.hook_z",
    "blocks.0.mlp.hook_pre",
    "blocks.1.mlp.hook_post",
    "blocks.0.hook_resid_mid",
    "blocks.1.hook_resid_post",
    "ln_final.hook_normalized",
)


def plain(value):
    if isinstance(value, float):  # a numpy scalar is one too
        return float(value)
    return value if value is None or isinstance(value, bool | int | str | list) else str(value)


def transformer(dtype):
    settings = {"act_fn": "gelu", "normalization_type": "LN", "seed": 0, "device": "cpu", "dtype": dtype}
    return HookedTransformer(HookedTransformerConfig(**SHAPE, **settings))


def main():
    model = transformer(torch.float32)
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) / 2)
    parameters = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(parameters, DATA / "hooked_transformer_3_9.safetensors")
    settings = {name: plain(value) for name, value in model.cfg.to_dict().items()}
    (DATA / "hooked_transformer_3_9.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    tokens = torch.cartesian_prod(*[torch.arange(6)] * 3)[::5].contiguous()
    # Its norms round to the precision of the config, whatever the parameters have: `model.double()` would not do.
    exact = transformer(torch.float64)
    exact.load_state_dict(model.state_dict())
    with torch.no_grad():
        logits, held = exact.run_with_cache(tokens, names_filter=list(KEPT))
    outputs = {"tokens": tokens, "logits": logits, **{name: held[name] for name in KEPT}}
    outputs = {name: value.contiguous() for name, value in outputs.items()}
    save_file(outputs, DATA / "hooked_transformer_3_9_outputs.safetensors")


if __name__ == "__main__":
    main()
