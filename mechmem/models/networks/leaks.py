"""Parameters through which a training example affects units outside its mask, and how to freeze them."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from mechmem.core.inputs import Inputs, run_on
from mechmem.core.randomness import generator
from mechmem.core.roles import Output
from mechmem.core.task import Task
from mechmem.errors import MissingNeedError
from mechmem.models.hooks.running import device_of, differentiating, evaluating
from mechmem.models.networks.masks import Part, TurnOverDropout
from mechmem.models.networks.subnetworks import mask_layers, subnetwork

_BIAS = "a bias that no mask follows"

PROBES, ROWS = 8, 16
"""Number of example masks that are checked, and of inputs for each: a ReLU may be closed for some of them."""


@dataclasses.dataclass(frozen=True)
class Leak:
    """A parameter or module through which a training example affects its flipped subnetwork.

    Attributes:
        name: name of the parameter or module.
        reason: why it leaks.
        share: share of its elements that both an example's own and its flipped subnetwork use; 1 for a module.
    """

    name: str
    reason: str
    share: float

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


@differentiating()
def find_leaks(model: nn.Module, task: Task, output: Output = Output()) -> tuple[Leak, ...]:
    """Return the leaks of a network with turn-over dropout; empty if training on z leaves f^{1−m(z)} unchanged.

    The gradient of a random combination of the logits is taken for each parameter, through the own and through the
    flipped subnetwork of some training examples. An element that both reach is trained by the example and used by the
    subnetwork that should not know it. Frozen parameters cannot leak. A module whose training output depends on
    the other examples of a batch (BatchNorm) leaks whatever its gradients are.

    Args:
        model: the network, trained or not; it is run in evaluation mode.
        task: source of the inputs.
        output: position of the logits in the model's output.

    Raises:
        MissingNeedError: the network has no turn-over layer.
    """
    if not any(isinstance(layer, TurnOverDropout) for layer in mask_layers(model)):
        raise MissingNeedError("the network has no turn-over dropout; its config takes masks=mm.TurnOver()")
    draw = generator(0, "isolation")
    picked = torch.randperm(len(task.train_ids), generator=draw)
    ids = task.train_ids[picked[: max(PROBES, ROWS)]]
    inputs = task.batch(ids[:ROWS])[0].to(device_of(model))
    weights = torch.randn(len(inputs), task.n_classes, generator=draw)
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    shares = dict.fromkeys(trained, 0.0)
    for example in task.source(ids[:PROBES]):
        own = _reached(model, trained, "own", example, inputs, weights, output)
        flipped = _reached(model, trained, "flipped", example, inputs, weights, output)
        for name in trained:
            shares[name] = max(shares[name], float((own[name] & flipped[name]).double().mean()))
    found = [Leak(name, _reason(model, name), share) for name, share in shares.items() if share]
    coupled = "it normalizes by the other examples of a batch"
    found += [Leak(name, coupled, 1.0) for name, module in model.named_modules() if _couples(module)]
    return tuple(found)


def _reached(
    model: nn.Module,
    parameters: dict[str, nn.Parameter],
    part: Part,
    example: Shaped[Tensor, ""],
    inputs: Inputs,
    weights: Float[Tensor, "row class"],
    output: Output,
) -> dict[str, Bool[Tensor, ...]]:
    """Return the elements of each parameter on which the logits of a subnetwork depend."""
    with evaluating(model), subnetwork(model, part, int(example)):
        logits = output.read(run_on(model, inputs))
    slopes = torch.autograd.grad(
        (logits * weights.to(logits)).sum(), list(parameters.values()), allow_unused=True, materialize_grads=True
    )
    return {name: slope != 0 for name, slope in zip(parameters, slopes, strict=True)}


def _couples(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def _reason(model: nn.Module, name: str) -> str:
    home, _, last = name.rpartition(".")
    if "Norm" in type(model.get_submodule(home)).__name__:
        return "a gain or shift of a normalization that no mask follows"
    # TransformerLens' attention biases are matrices, one row per head.
    bias = model.get_parameter(name).ndim < 2 or last.startswith("b_") or "bias" in last
    return _BIAS if bias else "a matrix without a masked side"


@torch.no_grad()
def close_leaks(model: nn.Module, leaks: tuple[Leak, ...]) -> None:
    """Freeze what leaks, in place; call before training.

    Biases become 0, gains and matrices keep their values; a BatchNorm becomes the fixed map that it is in evaluation
    mode.
    """
    modules = dict(model.named_modules())
    for leak in leaks:
        if leak.name in modules:
            home, _, name = leak.name.rpartition(".")
            norm = modules[leak.name]
            assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
            setattr(modules[home], name, FixedNorm(norm))
            continue
        parameter = model.get_parameter(leak.name)
        if leak.reason == _BIAS:
            parameter.zero_()
        parameter.requires_grad_(False)


class FixedNorm(nn.Module):
    """BatchNorm that stays in evaluation mode: its statistics never change, and it does not couple examples.

    Its parameters and buffers have BatchNorm's names.

    Args:
        norm: the BatchNorm to replace.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm):
        super().__init__()
        self.eps = norm.eps
        self.weight, self.bias = norm.weight, norm.bias
        assert norm.running_mean is not None and norm.running_var is not None
        self.register_buffer("running_mean", norm.running_mean)
        self.register_buffer("running_var", norm.running_var)
        self.register_buffer("num_batches_tracked", norm.num_batches_tracked)

    def forward(self, values: Float[Tensor, "example channel *place"]) -> Float[Tensor, "example channel *place"]:
        """Normalise by the fixed statistics."""
        return F.batch_norm(values, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
