"""Reconstruction of logits from few modes of the grid: restricted, excluded, and with increasingly many modes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.math.additive import ROWS
from mechmem.math.fourier import real_basis
from mechmem.math.grid_parts import GridParts, free_modes, mode_coefficients, mode_waves, rule_modes

FAMILIES = ("network", "restricted", "excluded")
"""The network's logits; only the constant and the key frequencies; everything but the key frequencies."""


@dataclasses.dataclass(frozen=True, eq=False)
class KeyFrequencies:
    """The frequencies of the rule that stand out.

    Attributes:
        energy: energy on the rule's diagonal. Shape (freq).
        background: median energy of the modes that are neither additive nor on the diagonal.
        threshold: energy above which a frequency stands out (half of it at Nyquist).
        key: the key frequencies, numbered from 1. Shape (key).
    """

    energy: Float[Tensor, " freq"]
    background: float
    threshold: float
    key: Int[Tensor, " key"]


def key_frequencies(
    energy: Float[Tensor, "n half"], sign: int, multiple: float, relative: float = 0.0
) -> KeyFrequencies:
    """Find the frequencies whose mode (sign·k, k) stands out from the modes off the diagonal and is not too weak.

    Args:
        energy: energies of all modes, in the layout of `fourier.mode_energy`.
        sign: 1 for addition, −1 for subtraction.
        multiple: a key frequency has more than this many times the median energy off the diagonal.
        relative: its norm is at least this share of the strongest frequency's.
    """
    n = len(energy)
    modes, every = free_modes(energy)
    on_rule = (modes[:, 0] - sign * modes[:, 1]) % n == 0
    rule = rule_modes(n, sign)
    found = energy[rule[:, 0], rule[:, 1]]
    rest = every[~on_rule]
    background = float(rest.median()) if len(rest) else 0.0
    # Rounding leaves energy in every mode; below this share a mode is only rounding.
    threshold = max(multiple * background, 1e-20 * float(energy.sum()))
    directions = torch.where(2 * rule[:, 1] == n, 1, 2)
    clear = (found > threshold * directions / 2) & (found >= relative**2 * found.amax())
    return KeyFrequencies(found, background, threshold, rule[clear, 1])


def part_at(rule: Float[Tensor, "n class"], freq: Int[Tensor, " key"]) -> Float[Tensor, "n class"]:
    """Return the part of a function of the answer at these frequencies, numbered from 1."""
    waves = real_basis(len(rule), rule)[torch.cat([2 * freq - 1, 2 * freq])]
    return waves.T @ (waves @ rule)


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledCells:
    """Cells of the grid, each with a label.

    Attributes:
        rows: the row of each cell in a table of all examples. Shape (cell).
        operands: positions (a, b) in the group. Shape (cell, 2).
        answer: position of the answer in the group. Shape (cell).
        labels: a class per cell. Shape (cell).
    """

    rows: Int[Tensor, " cell"]
    operands: Int[Tensor, "cell 2"]
    answer: Int[Tensor, " cell"]
    labels: Int[Tensor, " cell"]

    def blocks(self) -> Iterator[LabelledCells]:
        """Yield the cells in blocks of `ROWS`."""
        parts = (part.split(ROWS) for part in (self.rows, self.operands, self.answer, self.labels))
        return map(LabelledCells, *parts)


@dataclasses.dataclass(frozen=True, eq=False)
class Scored:
    """Outcome of one reconstruction on chosen cells.

    Attributes:
        family: one of `FAMILIES`, "diagonal" or "energy_ranked".
        modes: number of modes kept; removed ones for "excluded".
        hit: whether the prediction is the label. Shape (cell).
        loss: cross-entropy in nats. Shape (cell).
    """

    family: str
    modes: int
    hit: Bool[Tensor, " cell"]
    loss: Float[Tensor, " cell"]


def score_families(
    values: Float[Tensor, "example class"], cells: LabelledCells, parts: GridParts, key: Int[Tensor, " key"]
) -> list[Scored]:
    """Score the network's logits, the restricted and the excluded ones, in the order of `FAMILIES`, in float64.

    Args:
        values: logits of all examples.
        cells: the cells and their labels.
        parts: parts of the logits on the grid.
        key: the key frequencies, numbered from 1.
    """
    part = part_at(parts.rule, key)
    pieces = []
    for block in cells.blocks():
        logits = values[block.rows].double()
        pieces.append([_scored(each, block.labels) for each in (logits, logits - part[block.answer])])
    network, excluded = _joined(pieces)
    restricted = _by_answer(parts.row.mean(0) + part, cells)
    n = len(parts.rule)
    n_modes = len(free_modes(torch.zeros(n, n // 2 + 1))[0])
    return [
        Scored("network", n_modes, *network),
        Scored("restricted", len(key), *restricted),
        Scored("excluded", len(key), *excluded),
    ]


def mode_counts(n_modes: int) -> list[int]:
    """Return the numbers of modes to keep: 0, 1, 2, 3, 4, then about a quarter more each time, to all of them."""
    counts = [0]
    while counts[-1] < n_modes:
        counts.append(min(n_modes, max(counts[-1] + 1, round(1.25 * counts[-1]))))
    return counts


@dataclasses.dataclass(frozen=True, eq=False)
class ModeRanking:
    """Modes of two families, in descending order of energy.

    Attributes:
        parts: parts of the table on the grid.
        order: the frequencies minus one, by their energy on the diagonal. Shape (freq).
        modes: the strongest modes that are not additive. Shape (mode, 2).
        coefficients: coefficients of their waves. Shape (wave, class).
    """

    parts: GridParts
    order: Int[Tensor, " freq"]
    modes: Int[Tensor, "mode 2"]
    coefficients: Float[Tensor, "wave class"]

    @classmethod
    def of(
        cls,
        values: Float[Tensor, "example class"],
        rows: Int[Tensor, "n n"],
        parts: GridParts,
        energy: Float[Tensor, "n half"],
        sign: int,
    ) -> ModeRanking:
        """Rank the modes of a table by their energy, keeping as many of the non-additive ones as the diagonal has.

        Args:
            values: a table whose rows include the grid's cells.
            rows: the row of `values` for each cell.
            parts: its parts.
            energy: energies of all modes, in the layout of `fourier.mode_energy`.
            sign: 1 for addition, −1 for subtraction.
        """
        n = len(rows)
        modes, every = free_modes(energy)
        rule = rule_modes(n, sign)
        kept = modes[every.argsort(descending=True, stable=True)[: n // 2]]
        order = energy[rule[:, 0], rule[:, 1]].argsort(descending=True, stable=True)
        return cls(parts, order, kept, mode_coefficients(values, rows, kept))


def score_modes(ranking: ModeRanking, cells: LabelledCells) -> list[Scored]:
    """Score the constant plus increasingly many modes of each family, in float64.

    Args:
        ranking: the modes.
        cells: the cells and their labels.
    """
    parts, found = ranking.parts, []
    constant = parts.row.mean(0)
    for count in mode_counts(len(ranking.order)):
        table = constant + part_at(parts.rule, ranking.order[:count] + 1)
        found.append(Scored("diagonal", count, *_by_answer(table, cells)))
    counts = mode_counts(len(ranking.modes))
    pieces = [
        [_scored(rebuilt, block.labels) for rebuilt in _growing(ranking, constant, block.operands, counts)]
        for block in cells.blocks()
    ]
    found += [Scored("energy_ranked", count, *each) for count, each in zip(counts, _joined(pieces), strict=True)]
    return found


def _growing(
    ranking: ModeRanking, constant: Float[Tensor, " class"], cells: Int[Tensor, "cell 2"], counts: Sequence[int]
) -> Iterator[Float[Tensor, "cell class"]]:
    """Yield the energy-ranked reconstruction at these cells for each count, in one tensor that is updated in place."""
    scores = constant.expand(len(cells), -1).clone()
    before = 0
    for count in counts:
        if count > before:
            waves = mode_waves(cells, ranking.modes[before:count], len(ranking.parts.rule))
            scores.addmm_(waves, ranking.coefficients[2 * before : 2 * count])
        before = count
        yield scores


def _scored(logits: Float[Tensor, "cell class"], labels: Int[Tensor, " cell"]) -> tuple[Tensor, Tensor]:
    """Return hits and losses."""
    own = logits.gather(1, rearrange(labels, "cell -> cell 1"))[:, 0]
    return logits.argmax(1) == labels, logits.logsumexp(1) - own


def _by_answer(table: Float[Tensor, "n class"], cells: LabelledCells) -> tuple[Tensor, Tensor]:
    """Return hits and losses of logits that depend on the answer alone."""
    loss = table.logsumexp(1)[cells.answer] - table[cells.answer, cells.labels]
    return table.argmax(1)[cells.answer] == cells.labels, loss


def _joined(blocks: Iterable[Sequence[tuple[Tensor, Tensor]]]) -> list[tuple[Tensor, Tensor]]:
    """Return the hits and losses of each reconstruction, which come block by block."""
    return [
        (torch.cat([hit for hit, _ in each]), torch.cat([loss for _, loss in each]))
        for each in zip(*blocks, strict=True)
    ]
