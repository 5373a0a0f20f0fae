"""Causal networks on prefixes: the next token after each, with one run for all prefixes of a sequence."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.arguments import checked_but
from mechmem.core.in_words import reason
from mechmem.errors import ConfigError, MechmemError
from mechmem.math.logits import refuse_probabilities
from mechmem.models.hooks.insertion import Insertion
from mechmem.models.hooks.running import device_of, evaluating
from mechmem.models.networks.attention import is_hooked
from mechmem.models.networks.config import CausalTransformerConfig
from mechmem.models.networks.subnetworks import mask_layers, of_examples
from mechmem.models.networks.transformer import HookedTransformer
from mechmem.tasks.sequences import SequenceTask

Prefixes = Int[Tensor, "example position"]
"""Rows of tokens, with −1 after the end of each."""

SAME = 1e-4
"""Largest difference, as a share of the largest logit, between passes that a causal network cannot tell apart."""


class HookedCausalTransformer(HookedTransformer):
    """A causal transformer that reads a prefix and returns the logits of the next token.

    Parameters and points are those of `HookedTransformer`. Prefixes that follow each other in a batch and continue each
    other go through the network as one, since no position sees what is after it; not while a point is hooked, so that
    points then hold one row per example. Behind a prefix, points hold what the network makes of token 0.

    Args:
        config: shape, initialisation and regularization.
        vocabulary: number of tokens.
        positions: tokens of the longest prefix.
        seed: seed of initialisation and dropout.

    Raises:
        ConfigError: the config has fewer positions.
    """

    operands = 1

    def __init__(self, config: CausalTransformerConfig, vocabulary: int, positions: int, seed: int = 0):
        if config.tokens and config.tokens < positions:
            raise ConfigError(f"prefixes have up to {positions} tokens, and the network's tokens are {config.tokens}")
        whole = dataclasses.replace(config, tokens=config.tokens or positions)
        super().__init__(whole, vocabulary, vocabulary, vocabulary, seed, masked_alike=positions)
        self.setup()

    def forward(self, prefixes: Prefixes) -> Float[Tensor, "example class"]:
        """Return logits of the token after each prefix."""
        return self.unembedded(_after_prefixes(self, self._stream, prefixes))

    def _stream(self, tokens: Int[Tensor, "row position"]) -> Float[Tensor, "row position d_model"]:
        stream = self.embedded(tokens)
        for block in self.blocks:
            stream = block(stream, stream.shape[1])
        return self.ln_final(stream)


class NextToken(nn.Module):
    """A causal language model as the network of a sequence task: from prefixes to the logits of the next token.

        network = mm.NextToken(GPT2LMHeadModel(GPT2Config(...)), task)
        subject = mm.Subject(mm.attach(network, "model.transformer.h.*.mlp"), task)

    Prefixes that follow each other in a batch and continue each other go through the model as one, since no position
    sees what is after it. That this is so is tried here on some of the task's sequences. Put `mm.attach` around this,
    not inside: while a point has a hook, each prefix then goes through the model by itself.

    The model's logits may have further columns, of tokens that the task does not have. This network leaves them out, so
    that probabilities and losses of recorders, audits and scores are among the task's tokens, and smaller than the
    model's own losses. `mm.memorized_sequences`, `mm.continuations` and `mm.sequence_edits` take all columns, as the
    model does. With `mm.SequenceTask(tokens, vocabulary=model.config.vocab_size)` there are no further columns.

    Args:
        model: returns logits (row, position, token), or an object with `logits` of this shape, for rows of tokens.
        task: the task; its tokens are the model's.

    Raises:
        ConfigError: the model does not run on the task's tokens, returns something else, or its logits depend on later
            tokens.
    """

    whole: bool = False

    @checked_but("model")
    def __init__(self, model: nn.Module, task: SequenceTask):
        super().__init__()
        if not isinstance(model, nn.Module):
            raise ConfigError(f"model must be a network, got a {type(model).__name__}")
        self.model, self.classes = model, task.n_classes
        check_causal(self, task)

    def forward(self, prefixes: Prefixes) -> Float[Tensor, "example class"]:
        """Return logits of the token after each prefix."""
        logits = _after_prefixes(self, self.every_position, prefixes)
        return logits if self.whole else logits[:, : self.classes]

    def every_position(self, tokens: Int[Tensor, "row position"]) -> Float[Tensor, "row position column"]:
        """Return the model's logits after every token, in all of its columns.

        Raises:
            ConfigError: they have another shape.
        """
        returned: Any = self.model(tokens)
        logits = getattr(returned, "logits", returned)
        seen = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if not isinstance(logits, Tensor) or logits.ndim != 3 or logits.shape[:2] != tokens.shape:
            wanted = (*tokens.shape, self.classes)
            raise ConfigError(f"the model must return logits (row, position, token), {wanted}, and returned {seen}")
        if logits.shape[2] < self.classes:
            raise ConfigError(f"the task has {self.classes} tokens, and the model only {logits.shape[2]} logits")
        return logits


@contextlib.contextmanager
def all_columns(model: nn.Module) -> Iterator[None]:
    """Have every `NextToken` in a network return all columns of its model, also of tokens that are not the task's."""
    before = {module: module.whole for module in model.modules() if isinstance(module, NextToken)}
    try:
        for module in before:
            module.whole = True
        yield
    finally:
        for module, whole in before.items():
            module.whole = whole


def check_causal(network: NextToken, task: SequenceTask) -> int:
    """Refuse a model whose logits at a position depend on the tokens after it; return the number of its columns.

    Raises:
        ConfigError: they do, or the model does not run on the task's tokens.
    """
    tokens = task.tokens[:4, : task.positions].to(device_of(network))
    try:
        with torch.no_grad(), evaluating(network):
            before = network.every_position(tokens).float()
            refuse_probabilities(rearrange(before, "sequence position token -> (sequence position) token"))
            for place in {0, task.positions // 2}:
                changed = tokens.clone()
                changed[:, place + 1 :] = (changed[:, place + 1 :] + 1) % task.n_classes
                seen = network.every_position(changed).float()[:, : place + 1]
                gap = float((seen - before[:, : place + 1]).abs().max())
                if gap > SAME * max(1.0, float(before.abs().max())):
                    raise ConfigError(
                        f"the model is not causal: its logits at position {place} change by up to {gap:.2g} when only "
                        "the tokens after it change, so it would see what it is to predict"
                    )
    except MechmemError:
        raise
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise ConfigError(f"the model must run on rows of tokens, and does not: {reason(error)}") from error
    return before.shape[2]


def _after_prefixes(
    network: nn.Module, run: Callable[[Tensor], Tensor], prefixes: Prefixes
) -> Float[Tensor, "example value"]:
    """Return a causal model's values at the last token of each prefix.

    Args:
        network: what may be hooked, and whose example masks act.
        run: the model, on rows of tokens; returns (row, position, value).
        prefixes: rows of tokens, with −1 after their ends.
    """
    positions = (prefixes >= 0).sum(1) - 1
    # A single prefix, as in gradients per example, has nothing to be run with.
    if len(prefixes) < 2 or _watched(network):
        return _at(run(prefixes.clamp(min=0)), positions)
    masks = [(mask, mask.ids) for mask in mask_layers(network) if mask.ids is not None and mask.ids.ndim]
    continued = ((prefixes[:-1] == prefixes[1:]) | (prefixes[:-1] < 0)).all(1)
    for mask, own in masks:
        alike = own // mask.alike
        continued &= (alike[:-1] == alike[1:]).to(continued.device)
    last = torch.cat([~continued, continued.new_ones(1)]).nonzero()[:, 0]
    row = torch.cat([continued.new_zeros(1), ~continued]).cumsum(0)
    with contextlib.ExitStack() as held:
        for mask, own in masks:
            held.enter_context(of_examples([mask], own[last.to(own.device)]))
        values = run(prefixes[last, : int(positions.max()) + 1].clamp(min=0))
    return values[row, positions]


def _at(values: Float[Tensor, "row position value"], positions: Int[Tensor, " row"]) -> Float[Tensor, "row value"]:
    places = rearrange(positions, "row -> row 1 1").expand(-1, 1, values.shape[2])
    return values.gather(1, places)[:, 0]


def _watched(network: nn.Module) -> bool:
    """Return whether anything looks at, or changes, what is inside a network."""
    return any(_looked_at(module) for name, module in network.named_modules() if name not in ("", "hook_logits"))


def _looked_at(module: nn.Module) -> bool:
    if not is_hooked(module):
        return False
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    backward = module._backward_hooks or module._backward_pre_hooks
    return bool(backward) or not all(isinstance(hook, Insertion) and hook.idle for hook in hooks)
