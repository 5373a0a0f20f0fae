"""Which cells of a table share an answer, from the cells' scores alone."""

from __future__ import annotations

import dataclasses

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

NEGLIGIBLE = 1e-4
"""A singular value below this share of the largest, or of a cell's likeness to itself, is taken for zero."""
DENSE = 20
"""Most symbols at which the rearranged matrix is made and decomposed as it is, in float64."""
BLOCK = 4
"""Number of directions by which the search for the leading ones grows at a time."""
GROWTH = 1e-3
"""The search ends when one more round adds less than this share of what the leading directions hold."""
ROUNDS = 30
"""Most rounds of the search; two or three are usual, and more where many singular values are exactly equal."""


def standardised(values: Float[Tensor, "cell class"], smallest: float) -> Float[Tensor, "cell class"]:
    """Return z-scores over classes, in float64; 0 in a cell whose largest deviation is at most `smallest`."""
    values = values.double()
    values = values - values.mean(1, keepdim=True)
    largest = values.abs().amax(1, keepdim=True)
    # Divided by the largest first, because squares of very large or small scores leave the range of floats.
    values = torch.where(largest > smallest, values / largest, 0)
    deviation = values.square().mean(1, keepdim=True).sqrt()
    return torch.where(deviation > 0, values / deviation, 0)


def same_answer_scores(table: Float[Tensor, "left right class"], rank: int) -> Float[Tensor, "left right class"]:
    """Return for every cell the sum of the other cells' scores, weighted by how likely they share its answer.

    With one row of X per cell, K = X Xᵀ / C with zero diagonal says how alike two cells' scores are. Where a ∘ b is the
    operation of a group of n answers, up to a renaming of the left operands, the right ones and the answers, a ∘ b =
    a′ ∘ b′ holds if and only if (a, a′) and (b, b′) are in the same one of n classes. So the rearranged matrix
    D[(a, a′), (b, b′)] = K[(a, b), (a′, b′)] has n equal singular values, and what is memorized is spread over all n²
    of them. D with its leading singular values set to 1 and all others to 0, rearranged back and with zero diagonal, is
    K̂, and the scores are K̂ X. (Where different answers have similar scores, D's singular values differ; made equal,
    they leave K̂ large only where the answers are the same. But those that are weaker than the noise are replaced by
    it, and with few strong ones left the scores themselves can be the better reading.) The n directions stand out of
    the noise if the correlation κ between a cell's scores and its true answer is greater than n^(−1/4).

    D has n⁴ entries and is not made for more than `DENSE` symbols: D V = Σ_c X_c V X_cᵀ / C, minus the diagonal of K.
    The search for its directions begins from the same numbers whatever the symbols are called.

    Args:
        table: scores of each cell, standardised over classes; 0 in cells that are not known.
        rank: number of singular vectors to keep; n for the operation of a group.

    Returns:
        the scores, in float64.
    """
    n, n_classes = table.shape[0], table.shape[2]
    table = table.double()
    pair = _Rearranged.of(table)
    kept = _leading(pair, min(rank, n * n)) if n <= DENSE else _searched(pair, min(rank, n * n))
    classes_inside = rearrange(table, "left right classes -> left classes right")
    scores = torch.zeros_like(classes_inside)
    rights = rearrange(kept.double(), "(right other) vector -> vector right other", right=n)
    lefts = [pair.times(right) for right in rights]
    norms = [float(left.norm()) for left in lefts]
    smallest = NEGLIGIBLE * max(*norms, float(pair.own.max()))
    for left, right, norm in zip(lefts, rights, norms, strict=True):
        if norm <= smallest:
            continue
        left = left / norm
        moved = rearrange(classes_inside @ right.T, "other classes right -> other (classes right)")
        scores += rearrange(left @ moved, "left (classes right) -> left classes right", classes=n_classes)
        own = torch.outer(left.diagonal(), right.diagonal())
        scores -= rearrange(own, "left right -> left 1 right") * classes_inside
    return rearrange(scores, "left classes right -> left right classes")


@dataclasses.dataclass(frozen=True, eq=False)
class _Rearranged:
    """The matrix D of a table, as a map between matrices over right and over left symbols.

    Attributes:
        rows: scores over the square root of the number of classes. Shape (left, class, right).
        columns: the same. Shape (right, class, left).
        own: the diagonal of K, which D lacks. Shape (left, right).
    """

    rows: Float[Tensor, "left class right"]
    columns: Float[Tensor, "right class left"]
    own: Float[Tensor, "left right"]

    @classmethod
    def of(cls, table: Float[Tensor, "left right class"]) -> _Rearranged:
        """Return D of a table."""
        scaled = table / table.shape[2] ** 0.5
        rows = rearrange(scaled, "left right classes -> left classes right").contiguous()
        columns = rearrange(scaled, "left right classes -> right classes left").contiguous()
        return cls(rows, columns, scaled.square().sum(2))

    def to(self, dtype: torch.dtype) -> _Rearranged:
        """Return the same in another precision."""
        return _Rearranged(self.rows.to(dtype), self.columns.to(dtype), self.own.to(dtype))

    def times(self, values: Float[Tensor, "right right"]) -> Float[Tensor, "left left"]:
        """Return D V."""
        return _times(self.rows, self.own, values)

    def squared(self, vectors: Float[Tensor, "pair vector"]) -> Float[Tensor, "pair vector"]:
        """Return Dᵀ D times each vector."""
        n = len(self.columns)
        found = torch.empty_like(vectors)
        for place, vector in zip(found.unbind(1), vectors.unbind(1), strict=True):
            place.copy_(_times(self.columns, self.own.T, self.times(vector.reshape(n, n))).flatten())
        return found

    def dense(self) -> Float[Tensor, "leftpair rightpair"]:
        """Return D itself."""
        alike = torch.einsum("acb,dce->adbe", self.rows, self.rows)
        alike.diagonal(dim1=0, dim2=1).diagonal(dim1=0, dim2=1).sub_(self.own.T)
        return rearrange(alike, "left other right another -> (left other) (right another)")


def _times(
    table: Float[Tensor, "row class column"], own: Float[Tensor, "row column"], values: Float[Tensor, "column column"]
) -> Float[Tensor, "row row"]:
    """Return Σ_c X_c V X_cᵀ without the diagonal of K, as two products."""
    classes = table.shape[1]
    half = rearrange(table, "row classes column -> (row classes) column") @ values
    half = rearrange(half, "(row classes) column -> row (classes column)", classes=classes)
    found = half @ rearrange(table, "row classes column -> (classes column) row")
    found.diagonal().sub_(own @ values.diagonal())
    return found


def _leading(pair: _Rearranged, count: int) -> Float[Tensor, "pair vector"]:
    """Return the leading right singular vectors of D, from the matrix itself."""
    return torch.linalg.svd(pair.dense())[2][:count].T


def _searched(pair: _Rearranged, count: int) -> Float[Tensor, "pair vector"]:
    """Return an orthonormal basis of the leading right singular vectors of D, in float32.

    Block Lanczos on Dᵀ D with all directions kept orthogonal, restarted with the best ones. Residuals do not tell that
    a copy of a repeated singular value is missing, so the search ends when a round finds nothing to add instead.
    """
    n, pair = len(pair.own), pair.to(torch.float32)
    draw, size = torch.Generator().manual_seed(0), n * n
    # Fourth moments are not changed by renaming anything, so a symbol has the same rank under any name.
    order = pair.columns.double().pow(4).sum((1, 2)).argsort().argsort()
    start = torch.randn(n, n, BLOCK, generator=draw)[order][:, order]
    block = torch.linalg.qr(rearrange(start, "right other vector -> (right other) vector"))[0]
    basis, image, held = block[:, :0], block[:, :0], 0.0
    for _ in range(ROUNDS):
        while basis.shape[1] < min(2 * count + BLOCK, size):
            block = block[:, : size - basis.shape[1]]
            new = pair.squared(block)
            basis, image = torch.cat([basis, block], 1), torch.cat([image, new], 1)
            scale = float(image.norm(dim=0).max()) or 1.0
            # Where nothing is left, directions at random: far below what is found, but never lost in rounding.
            block = new + 1e-6 * scale / n * torch.randn(size, block.shape[1], generator=draw)
            for _ in range(2):
                block = torch.linalg.qr(block - basis @ (basis.T @ block))[0]
        product = basis.T @ image
        values, mix = torch.linalg.eigh((product + product.T) / 2)
        whole, mix = basis.shape[1] == size, mix[:, -count - BLOCK :]
        basis, image = basis @ mix, image @ mix
        energy = float(values[-count:].clamp_min(0).sum())
        if whole or energy - held <= GROWTH * energy:
            break
        held = energy
    return basis[:, -count:]
