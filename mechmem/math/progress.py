"""Logits of cells with and without a few frequencies of the rule, as losses."""

from __future__ import annotations

import dataclasses

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.math.additive import ROWS
from mechmem.math.fourier import real_basis
from mechmem.math.grid_parts import GridParts, rule_modes

FAMILIES = ("network", "restricted", "excluded")
"""The logits as they are; the constant and the key frequencies alone; everything but the key frequencies."""


def strong_frequencies(energy: Float[Tensor, "n half"], sign: int, relative: float) -> Int[Tensor, " key"]:
    """Return the rule's frequencies, numbered from 1, whose norm is at least `relative` times the strongest's.

    Args:
        energy: energies of all modes, as `fourier.mode_energy` lists them.
        sign: 1 for addition, −1 for subtraction.
        relative: a share of the strongest frequency's norm.
    """
    rule = rule_modes(len(energy), sign)
    found = energy[rule[:, 0], rule[:, 1]]
    return rule[(found > 0) & (found >= relative**2 * found.amax()), 1]


def part_at(rule: Float[Tensor, "n class"], freq: Int[Tensor, " key"]) -> Float[Tensor, "n class"]:
    """Return the part of a function of the answer at these frequencies, numbered from 1."""
    waves = real_basis(len(rule), rule)[torch.cat([2 * freq - 1, 2 * freq])]
    return waves.T @ (waves @ rule)


@dataclasses.dataclass(frozen=True, eq=False)
class CellScores:
    """Three sets of logits, scored cell by cell, in the order of `FAMILIES`.

    Attributes:
        hit: whether the highest logit is the label's. Shape (family, cell).
        loss: cross-entropy in nats. Shape (family, cell).
    """

    hit: Bool[Tensor, "family cell"]
    loss: Float[Tensor, "family cell"]


def progress_scores(
    values: Float[Tensor, "example class"],
    rows: Int[Tensor, " cell"],
    answer: Int[Tensor, " cell"],
    labels: Int[Tensor, " cell"],
    parts: GridParts,
    key: Int[Tensor, " key"],
) -> CellScores:
    """Score the network's logits, the restricted and the excluded ones, in float64.

    Args:
        values: logits of all examples.
        rows: the row of `values` of each cell.
        answer: each cell's answer, as a position in the group.
        labels: a class per cell.
        parts: parts of the logits on the grid.
        key: the key frequencies, numbered from 1.
    """
    part = part_at(parts.rule, key)
    restricted = parts.row.mean(0) + part
    hit, loss = [], []
    for row, at, label in zip(rows.split(ROWS), answer.split(ROWS), labels.split(ROWS), strict=True):
        logits = values[row].double()
        scores = torch.stack([logits, restricted[at], logits - part[at]])
        own = scores.gather(2, rearrange(label, "cell -> 1 cell 1").expand(len(FAMILIES), -1, 1))[..., 0]
        hit.append(scores.argmax(2) == label)
        loss.append(scores.logsumexp(2) - own)
    return CellScores(torch.cat(hit, 1), torch.cat(loss, 1))
