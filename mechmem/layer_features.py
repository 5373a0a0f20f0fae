"""What a layer holds, one row of numbers per example: what probes are fitted to."""

from __future__ import annotations

import re
from typing import Literal

import torch
from einops import rearrange, reduce
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from mechmem.caching import activations
from mechmem.contracts import Subject
from mechmem.errors import ActivationError, MissingNeedError, UnknownNameError
from mechmem.models.forward import full_precision
from mechmem.models.vocabulary import hook_points

INPUTS = "inputs"
"""The name of no hook point, but of the inputs themselves: what a probe needs no network for."""

Pool = Literal["none", "mean"]

_HIDDEN = re.compile(r"hidden\.(\d+)")


def layer_point(subject: Subject, point: str = "") -> str:
    """Return the hook point that a layer's name means.

    Args:
        subject: the network and its roles.
        point: a hook point; "hidden.2" for the third of the role `hidden`; "" for the last of them; "inputs" for the
            inputs themselves.

    Raises:
        MissingNeedError: a layer of the role `hidden` is asked for, which names none.
        UnknownNameError: there are not so many.
    """
    hidden, number = subject.roles.hidden, _HIDDEN.fullmatch(point)
    if point and (number is None or point in hook_points(subject.model)):
        return point
    if not hidden:
        raise MissingNeedError("this needs the role 'hidden', or the name of a hook point")
    if number is None:
        return hidden[-1]
    if int(number[1]) >= len(hidden):
        raise UnknownNameError(f"no layer {point!r}: the role hidden names {len(hidden)}, from hidden.0 on")
    return hidden[int(number[1])]


def named_layers(subject: Subject, points: str = "", pool: Pool = "none") -> dict[str, Pool]:
    """Return layers in the order in which they fire, inputs first, each with how it is averaged.

    Args:
        subject: the network and its roles.
        points: the layers: hook points, patterns, "hidden.2", "inputs", with spaces between them; "" for the role
            `hidden`.
        pool: how layers that hold (example, channel, …) are averaged; one of a single number per neuron is left as it
            is.

    Raises:
        MissingNeedError: a layer of the role `hidden` is asked for, which names none.
        UnknownNameError: a name or pattern matches no point.
        ActivationError: a point does not fire, or fires several times.
    """
    asked = points.split() or list(subject.roles.hidden)
    found: dict[str, Pool] = {INPUTS: "none"} if INPUTS in asked else {}
    names = [layer_point(subject, name) for name in asked if name != INPUTS]
    if not names:
        return found
    held = activations(subject, names, ids=subject.task.train_ids[:1].repeat(2))
    repeated = next((name for name in held if "#" in name), None)
    if repeated is not None:
        raise ActivationError(f"{repeated.rpartition('#')[0]!r} fires several times: a layer is what fires once")
    for name, value in held.items():
        found[name] = pool if value.ndim > 2 else "none"
    return found


def held_by(subject: Subject, layer: str, pool: Pool, ids: Int[Tensor, " example"]) -> Float[Tensor, "example feature"]:
    """Return what a layer holds, flattened, on the CPU (see `layer_features`).

    Raises:
        ActivationError: it holds numbers that are not finite.
    """
    held = layer_features(subject, layer, ids, pool)
    if not held.isfinite().all():
        raise ActivationError(f"{layer!r} holds numbers that are not finite")
    return held


def layer_features(
    subject: Subject, point: str, ids: Int[Tensor, " example"], pool: Pool = "none"
) -> Float[Tensor, "example feature"]:
    """Return what a layer holds on each example, flattened, on the CPU.

    Args:
        subject: the network and its task; no augmentation is applied.
        point: as in `layer_point`.
        ids: the examples.
        pool: "mean" averages a point (example, channel, …) over all axes behind the channels first.

    Raises:
        MissingNeedError: a layer of the role `hidden` is asked for, which names none.
        UnknownNameError: there is no such point.
        ActivationError: the point does not fire, or holds one number per example where channels are to be averaged.
    """
    name = layer_point(subject, point)
    held = subject.task.batch(ids)[0].cpu() if name == INPUTS else activations(subject, name, ids=ids)[name]
    return flat_features(held, name, pool)


def flat_features(
    held: Shaped[Tensor, "example ..."], name: str, pool: Pool = "none"
) -> Float[Tensor, "example feature"]:
    """Return what a point holds as one row of floating-point numbers per example.

    Args:
        held: what it holds; whole numbers (the symbols of a task) count as they are.
        name: what the point is called.
        pool: as in `layer_features`.

    Raises:
        ActivationError: channels are to be averaged, and there is nothing behind them.
    """
    held = full_precision(held if held.is_floating_point() else held.to(torch.get_default_dtype()))
    if held.ndim == 1:
        return rearrange(held, "example -> example 1")
    if pool == "none":
        return rearrange(held, "example ... -> example (...)")
    if held.ndim == 2:
        raise ActivationError(
            f"{name!r} has shape {tuple(held.shape)}: there is nothing behind its channels to average"
        )
    return reduce(held, "example channel ... -> example channel", "mean")
