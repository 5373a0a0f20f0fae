"""Arrays as short text for a page: base64 of the smallest integers that hold them.

A page for p = 59 holds over a million numbers. As decimal text each takes about ten bytes, packed one to three. Numbers
with a fraction become 16-bit integers with one scale per array, and not half-precision floats: their error, 1.5e-5 of
the largest value, is the same everywhere, so that parts still add up to their sum, and every browser reads them.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

WHOLE = ("uint8", "uint16", "int16", "int32")
"""Types of whole numbers, in the order in which they are tried."""
LARGEST, MISSING = 2**15 - 1, -(2**15)
"""The integer of the largest absolute value of an array with fractions, and the one of a value that is not a number."""


def packed(values: Shaped[Tensor, ...] | Shaped[np.ndarray, ...]) -> dict[str, Any]:
    """Return an array as plain values for JSON: type, shape, data in base64, and for fractions their scale.

    Args:
        values: whole numbers below 2³¹, truth values, or numbers of which none is infinite.
    """
    array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    about: dict[str, Any] = {"shape": list(array.shape)}
    if array.dtype.kind == "f":
        largest = float(np.nanmax(np.abs(array))) if np.isfinite(array).any() else 0.0
        about["scale"] = largest / LARGEST if largest else 1.0
        whole = np.where(np.isnan(array), MISSING, np.rint(np.nan_to_num(array) / about["scale"]))
        kind = "int16"
    else:
        whole = array
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        kind = next(name for name in WHOLE if np.iinfo(name).min <= low and high <= np.iinfo(name).max)
    # Little-endian, as in every browser's typed arrays.
    data = whole.astype(np.dtype(kind).newbyteorder("<")).tobytes()
    return about | {"type": kind, "data": base64.b64encode(data).decode("ascii")}


def unpacked(about: dict[str, Any]) -> Tensor:
    """Return the array of `packed`: whole numbers exactly, in int64; fractions to half of a scale, in float64."""
    held = np.frombuffer(base64.b64decode(about["data"]), np.dtype(about["type"]).newbyteorder("<"))
    whole = torch.from_numpy(held.reshape(about["shape"]).astype(np.int64))
    if "scale" not in about:
        return whole
    return torch.where(whole == MISSING, torch.nan, whole.double() * about["scale"])
