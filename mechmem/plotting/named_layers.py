"""Names of layers along an axis: long ones, and many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_LEVEL = 88
"""Characters of names that stand beside each other at 700 pixels; more are turned, or plotly would leave some out."""


def short(layers: Sequence[str]) -> list[str]:
    """Return layers' names without the last part of a hook point's name, "layers.0" for "layers.0.hook_hidden"."""
    cut = [name.rpartition(".")[0] if ".hook_" in name else name for name in layers]
    return cut if len(set(cut)) == len(cut) else list(layers)


def name_ticks(names: Sequence[str], first: int = 0) -> dict[str, Any]:
    """Return the settings of an axis on which layers stand by name, at whole numbers from `first` on."""
    longest = max(map(len, names))
    turned = {"tickangle": -45} if (longest + 2) * len(names) > _LEVEL else {}
    return {"tickvals": list(range(first, first + len(names))), "ticktext": list(names), **turned}
