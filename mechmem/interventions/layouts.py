"""Layout of a hook point: its axes of positions, heads, channels and neurons."""

from __future__ import annotations

import dataclasses

from torch import nn

from mechmem.core.subject import Subject
from mechmem.errors import ConfigError
from mechmem.models.hooks.hooking import firing

_BY_HEAD = ("hook_q", "hook_k", "hook_v", "hook_z", "hook_result", "hook_rot_q", "hook_rot_k")
_BY_HEAD += ("hook_q_input", "hook_k_input", "hook_v_input")
_PATTERNS = ("hook_pattern", "hook_attn_scores")
"""TransformerLens's names of points (example, position, head, dimension) and (example, head, query, key)."""

_PICTURES = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)
_PICTURES += (nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd)
_PICTURES += (nn.modules.pooling._AdaptiveMaxPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd)
_ROWS = (nn.Linear, nn.LayerNorm)

_WHERE = {
    "neuron": "neurons are on the last axis of (example, neuron), (example, position, neuron) and points with heads",
    "channel": "channels are on the second axis, (example, channel, …)",
    "head": "heads are on the third of four axes, (example, position, head, dimension), of points of the role heads "
    "and of those named hook_z, hook_q, … by TransformerLens",
    "position": "positions are on the second of three axes, (example, position, neuron), and of points with heads",
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """Shape and axes of one example's value at a hook point.

    Attributes:
        point: the hook point.
        shape: shape of one example's value.
        axes: kind of each axis: "position", "head", "channel", "neuron", another word for an axis of no unit, or "" if
            unknown.
    """

    point: str
    shape: tuple[int, ...]
    axes: tuple[str, ...]

    def axis(self, unit: str) -> int:
        """Return the axis of one example's value that holds the units.

        Raises:
            ConfigError: the point has no such axis, or it is not known which one it is.
        """
        if unit in self.axes:
            return self.axes.index(unit)
        # If asked for channels, the second axis is taken for theirs unless it is known to be another.
        if unit == "channel" and (self.axes[:1] == ("",) or self.axes in (("neuron",), ("position", "neuron"))):
            return 0
        shown = f"({', '.join(map(str, ('example', *self.shape)))})"
        ask = '; here ask for channels: units="channel", or channels= of an edit'
        channels = ask if len(self.shape) > 1 and self.axes[0] in ("", "channel") else ""
        raise ConfigError(f"{self.point!r} has shape {shown} and no {unit}s: {_WHERE[unit]}{channels}")

    def count(self, unit: str) -> int:
        """Return the number of units of a kind.

        Raises:
            ConfigError: the point has no such axis.
        """
        return self.shape[self.axis(unit)]


def layout_of(subject: Subject, point: str, shape: tuple[int, ...]) -> Layout:
    """Return the layout of a point.

    Two axes are (example, neuron), three are (example, position, neuron), unless the point is at a convolution, a batch
    or group norm or a pooling: then (example, channel, …). With more axes the shape is not enough: points of the role
    `heads` and those with TransformerLens's names for attention are (example, position, head, dimension) or (example,
    head, query, key); at an `nn.Linear` or `nn.LayerNorm` neurons are the last axis; everywhere else the axes are
    unknown.

    Args:
        subject: the network and its roles.
        point: the hook point.
        shape: shape of one example's value there.
    """
    base, n = firing(point)[0], len(shape)
    module, name = _owner(subject.model, base), base.rpartition(".")[2]
    axes = ("",) * n
    if n < 2:
        axes = ("neuron",)[:n]
    elif isinstance(module, _PICTURES):
        axes = ("channel", *("place",) * (n - 1))
    elif n == 2:
        axes = ("position", "neuron")
    elif n == 3 and (base in subject.roles.heads or name in _BY_HEAD):
        axes = ("position", "head", "neuron")
    elif n == 3 and name in _PATTERNS:
        axes = ("head", "query", "key")
    elif isinstance(module, _ROWS):
        axes = (*("place",) * (n - 1), "neuron")
    return Layout(point, shape, axes)


def _owner(model: nn.Module, point: str) -> nn.Module | None:
    """Return the module whose input or output a point holds, if its name tells."""
    owner, named, _ = f".{point}".rpartition(".hook_")
    try:
        return model.get_submodule(owner[1:]) if named else None
    except AttributeError:
        return None
