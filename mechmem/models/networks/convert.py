"""Checkpoints of older TransformerLens versions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformer_lens
from jaxtyping import Shaped
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mechmem.core.arguments import checked
from mechmem.errors import CheckpointError

_ALIKE: dict[str, Any] = {
    "clip_qkv": None,
    "num_experts": None,
    "parallel_attn_mlp": False,
    "positional_embedding_type": "standard",
    "post_embedding_ln": False,
    "scale_attn_by_inverse_layer_idx": False,
    "use_attention_sinks": False,
    "use_attn_scale": True,
    "use_local_attn": False,
    "use_logn_attn": False,
    "use_normalization_before_and_after": False,
    "use_qk_norm": False,
}
"""Settings of a `HookedTransformer` that the transformer of TransformerLens 4 ignores, mostly silently, with the value
under which the two compute the same."""


@checked
def load_tl_checkpoint(
    source: str | Path | Mapping[str, Shaped[Tensor, "*shape"]], cfg: Mapping[str, Any]
) -> nn.Module:
    """Load the parameters of a `HookedTransformer` into the installed version of TransformerLens.

    TransformerLens 4 has no `HookedTransformer`: there the result is a `TransformerBridge` (of `boot_native`) with the
    same logits and hook point names; on 3.9 it is a `HookedTransformer`. Either way no parameter may be missing or left
    over.

        config = {"n_layers": 1, "n_ctx": 3, "d_model": 128, "d_head": 32, "d_vocab": 114, "act_fn": "relu"}
        model = mm.load_tl_checkpoint("network.pth", config)

    Args:
        source: result of `HookedTransformer.state_dict()`, or a safetensors file of it. Nothing is unpickled.
        cfg: the network's config, `model.cfg.to_dict()` or the settings it was created with.

    Returns:
        the network on the CPU, in evaluation mode, in the precision of its parameters.

    Raises:
        CheckpointError: the file cannot be read; parameters are missing, left over or of other shapes; or the config
            has a setting that would be computed differently.
    """
    state = dict(source) if isinstance(source, Mapping) else _read(Path(source))
    precision = next((value.dtype for value in state.values() if value.is_floating_point()), torch.float32)
    settings = dict(cfg) | {"init_weights": False, "device": "cpu", "dtype": precision}
    layers = settings.get("n_layers")
    if isinstance(layers, int) and layers > len(state):
        raise CheckpointError(f"the checkpoint does not fit its config: n_layers={layers:,}, with {len(state)} tensors")
    try:
        # The initial parameters are drawn although they will be replaced; the caller's generator must not advance.
        with torch.random.fork_rng(devices=[]):
            return _opened(state, settings).eval()
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint does not fit its config: {error}") from error


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as a safetensors file: {error}") from error


def _opened(state: dict[str, Tensor], settings: dict[str, Any]) -> nn.Module:
    lens: Any = transformer_lens
    try:
        HookedTransformer, HookedTransformerConfig = lens.HookedTransformer, lens.HookedTransformerConfig
    except ImportError:
        return _bridge(state, settings)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="HookedTransformer is deprecated", category=DeprecationWarning)
        model = HookedTransformer(HookedTransformerConfig.from_dict(settings))
    # The checkpoint contains the buffers too, and the class's own method silently accepts missing keys.
    nn.Module.load_state_dict(model, state, strict=True)
    return model


def _bridge(state: dict[str, Tensor], settings: dict[str, Any]) -> nn.Module:
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.model_bridge.sources import native
    from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint

    for name, alike in _ALIKE.items():
        if settings.get(name, alike) != alike:
            raise CheckpointError(
                f"TransformerLens 4 does not compute {name}={settings[name]!r}, only {alike!r}. Open the checkpoint "
                "with transformer_lens 3.9"
            )
    scale = settings.get("attn_scale", -1.0)
    if scale > 0 and math.isclose(scale, math.sqrt(settings["d_head"]), rel_tol=1e-6):
        settings["attn_scale"] = -1.0
    model = native.boot(settings, dtype=settings["dtype"])
    assert isinstance(model, TransformerBridge)
    # Strict, and on the bridge: its inner model has other names for the parameters and would load none of them.
    model.load_state_dict(convert_tl_checkpoint(state, model.cfg), strict=True)
    return model
