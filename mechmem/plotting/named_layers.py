"""Names of layers along an axis: long ones, and many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_LEVEL = 88
"""Characters of names that stand beside each other at 700 pixels; more are turned, or plotly would leave some out."""


def name_ticks(names: Sequence[str]) -> dict[str, Any]:
    """Return the settings of an axis on which layer number i stands at i, by name."""
    longest = max(map(len, names))
    turned = {"tickangle": -45} if (longest + 2) * len(names) > _LEVEL else {}
    return {"tickvals": list(range(len(names))), "ticktext": list(names), **turned}
