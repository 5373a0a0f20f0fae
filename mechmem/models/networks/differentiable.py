"""Functions of tensors with gradients of their own, which take fewer passes over the values than torch's."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.models.hooks.running import products_in

FEW = 2**16
"""Elements below which a gradient written in Python takes longer than torch's own with more passes over them."""


def row_sums(table: Float[Tensor, "row column"], rows: Int[Tensor, "example k"]) -> Float[Tensor, "example column"]:
    """Return the sum of k rows of a table per example, in the precision that autocast gives to matrix products.

    It is the product of inputs that are sums of one-hot vectors with the table.

    Args:
        table: the table, such as U above V.
        rows: numbers of its rows.
    """
    table = products_in(table)
    few = len(rows) * table.shape[1] < FEW and table.dtype.itemsize > 2
    return F.embedding_bag(rows, table, mode="sum") if few else RowSums.apply(table, rows)


def square(x: Float[Tensor, ...]) -> Float[Tensor, ...]:
    """Return x²."""
    return x * x if x.numel() < FEW else Square.apply(x)


class Differentiable(torch.autograd.Function):
    """Base class of functions of tensors with a gradient of their own, which also work in torch's transforms.

    For such functions torch works out the signature of `forward` at every call, which in a small network takes longer
    than the call itself. Here it is worked out once.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Note the signature, where `inspect.signature` finds it."""
        super().__init_subclass__(**kwargs)
        cls.forward.__signature__ = inspect.signature(cls.forward)  # pyright: ignore[reportFunctionMemberAccess]


class RowSums(Differentiable):
    """Sums of rows, whose gradient is again sums of rows: for each row of the table, those of its examples.

    torch's own gradient adds one example at a time to a table, which takes several times as long, and in half precision
    rounds after each. The order of the sums is the same, that of an unstable sort, and so are the bits.
    """

    @staticmethod
    def forward(table: Tensor, rows: Tensor) -> Tensor:
        """Return the sums."""
        return F.embedding_bag(rows, table, mode="sum")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Keep the numbers of the rows; the table itself is not needed."""
        table, rows = inputs
        ctx.save_for_backward(rows)
        ctx.table_rows = len(table)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the table."""
        (rows,), (gradient,) = ctx.saved_tensors, gradients
        ordered, places = rows.flatten().sort()
        starts = torch.searchsorted(ordered, torch.arange(ctx.table_rows, device=rows.device))
        return F.embedding_bag(places // rows.shape[1], gradient, starts, mode="sum"), None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Tensor) -> tuple[Tensor, int]:
        """Return the sums of several tables, taken as one table with all their rows."""
        table, rows = (
            value.expand(info.batch_size, *value.shape) if axis is None else value.movedim(axis, 0)
            for value, axis in zip(args, in_dims, strict=True)
        )
        starts = table.shape[1] * torch.arange(len(table), device=rows.device)
        places = rearrange(
            rows + rearrange(starts, "network -> network 1 1"), "network example k -> (network example) k"
        )
        sums = RowSums.apply(rearrange(table, "network row column -> (network row) column"), places)
        return rearrange(sums, "(network example) column -> network example column", network=len(table)), 0


class Square(Differentiable):
    """x², whose gradient takes one pass over the values; that of x · x, a product of two factors, takes three."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        """Return the squares."""
        return x * x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Keep the values."""
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Return 2x times the gradient."""
        return _twice_product(*ctx.saved_tensors, *gradients)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        """Return 2x times the tangent."""
        return _twice_product(*ctx.saved_tensors, *tangents)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Tensor) -> tuple[Tensor, int]:
        """Return the squares of a batch."""
        return Square.apply(*args), in_dims[0]


def _twice_product(one: Tensor, other: Tensor) -> Tensor:
    return torch.addcmul(one.new_zeros(()), one, other, value=2)
