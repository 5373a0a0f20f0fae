"""Logits of chosen cells, rebuilt from few modes of the grid, and scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.math.additive import ROWS
from mechmem.math.fourier import real_basis
from mechmem.math.grid_parts import GridParts, free_modes, mode_coefficients, mode_waves, rule_modes


@dataclasses.dataclass(frozen=True, eq=False)
class KeyFrequencies:
    """Which frequencies of the rule stand out.

    Attributes:
        energy: energy on the rule's diagonal. Shape (freq).
        background: median energy of the modes that are neither additive nor on the diagonal.
        threshold: what the energy of a key frequency exceeds (half of it at Nyquist).
        key: the key frequencies, numbered from 1. Shape (key).
    """

    energy: Float[Tensor, " freq"]
    background: float
    threshold: float
    key: Int[Tensor, " key"]


def key_frequencies(energy: Float[Tensor, "n half"], sign: int, multiple: float) -> KeyFrequencies:
    """Choose the frequencies whose mode (sign·k, k) has more than `multiple` times the median energy off the diagonal.

    Args:
        energy: energies of all modes, as `fourier.mode_energy` lists them.
        sign: 1 for addition, −1 for subtraction.
        multiple: how many times the median.
    """
    n = len(energy)
    modes, every = free_modes(energy)
    on_rule = (modes[:, 0] - sign * modes[:, 1]) % n == 0
    rule = rule_modes(n, sign)
    found = energy[rule[:, 0], rule[:, 1]]
    rest = every[~on_rule]
    background = float(rest.median()) if len(rest) else 0.0
    # Rounding leaves energy in every mode; below this share a mode is nothing else.
    threshold = max(multiple * background, 1e-20 * float(energy.sum()))
    directions = torch.where(2 * rule[:, 1] == n, 1, 2)
    return KeyFrequencies(found, background, threshold, rule[found > threshold * directions / 2, 1])


def mode_counts(n_modes: int) -> list[int]:
    """Return how many modes are tried: 0, 1, 2, 3, 4, then about a quarter more each time, to all of them."""
    counts = [0]
    while counts[-1] < n_modes:
        counts.append(min(n_modes, max(counts[-1] + 1, round(1.25 * counts[-1]))))
    return counts


@dataclasses.dataclass(frozen=True, eq=False)
class ModeRanking:
    """The constant and the modes of two families, the strongest first.

    Attributes:
        n: order of the group.
        sign: the answer of (a, b) is a + sign·b.
        constant: mean over the grid. Shape (class).
        rule: the rule's part at each answer. Shape (n, class).
        order: the frequencies by their energy on the diagonal, less one. Shape (freq).
        modes: the strongest modes that are not additive. Shape (mode, 2).
        coefficients: what multiplies their waves. Shape (wave, class).
    """

    n: int
    sign: int
    constant: Float[Tensor, " class"]
    rule: Float[Tensor, "n class"]
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
        """Rank the modes of a table by their energy; of those off the diagonal as many are kept as lie on it.

        Args:
            values: a table that holds the grid's cells among its rows.
            rows: the row of `values` of each cell.
            parts: its parts.
            energy: energies of all modes, as `fourier.mode_energy` lists them.
            sign: 1 for addition, −1 for subtraction.
        """
        n = len(rows)
        modes, every = free_modes(energy)
        rule = rule_modes(n, sign)
        kept = modes[every.argsort(descending=True, stable=True)[: n // 2]]
        order = energy[rule[:, 0], rule[:, 1]].argsort(descending=True, stable=True)
        return cls(n, sign, parts.row.mean(0), parts.rule, order, kept, mode_coefficients(values, rows, kept))

    def at_answers(self, freq: Int[Tensor, " key"]) -> Float[Tensor, "n class"]:
        """Return the rule's part at these frequencies (numbered from 1), for each answer."""
        basis = real_basis(self.n)
        waves = basis[torch.cat([2 * freq - 1, 2 * freq])]
        return waves.T @ (waves @ self.rule)


@dataclasses.dataclass(frozen=True, eq=False)
class Scored:
    """One reconstruction on chosen cells.

    Attributes:
        family: which reconstruction.
        modes: number of modes.
        hit: whether the highest logit is the label's. Shape (cell).
        loss: cross-entropy in nats. Shape (cell).
    """

    family: str
    modes: int
    hit: Bool[Tensor, " cell"]
    loss: Float[Tensor, " cell"]


def score_cells(
    ranking: ModeRanking,
    key: Int[Tensor, " key"],
    values: Float[Tensor, "example class"],
    rows: Int[Tensor, " cell"],
    cells: Int[Tensor, "cell 2"],
    labels: Int[Tensor, " cell"],
) -> list[Scored]:
    """Score every reconstruction on these cells against these labels.

    Args:
        ranking: the modes.
        key: the key frequencies.
        values: the table itself.
        rows: the row of `values` of each cell.
        cells: each cell's positions (a, b) in the group.
        labels: a class per cell.
    """
    answer = (cells[:, 0] + ranking.sign * cells[:, 1]) % ranking.n
    found = []
    for count in mode_counts(len(ranking.order)):
        table = ranking.constant + ranking.at_answers(ranking.order[:count] + 1)
        found.append(Scored("diagonal", count, *_by_answer(table, answer, labels)))
    part = ranking.at_answers(key)
    found.append(Scored("restricted", len(key), *_by_answer(ranking.constant + part, answer, labels)))
    counts = mode_counts(len(ranking.modes))
    pieces: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(2 + len(counts))]
    blocks = (each.split(ROWS) for each in (rows, cells, answer, labels))
    for row, place, at, label in zip(*blocks, strict=True):
        logits = values[row].double()
        pieces[0].append(_scored(logits, label))
        pieces[1].append(_scored(logits - part[at], label))
        for piece, rebuilt in zip(pieces[2:], _growing(ranking, place, counts), strict=True):
            piece.append(_scored(rebuilt, label))
    every = len(free_modes(torch.zeros(ranking.n, ranking.n // 2 + 1))[0])
    names = [("network", every), ("excluded", len(key)), *(("energy_ranked", count) for count in counts)]
    for (family, count), piece in zip(names, pieces, strict=True):
        found.append(Scored(family, count, *(torch.cat(each) for each in zip(*piece, strict=True))))
    return found


def _growing(ranking: ModeRanking, cells: Int[Tensor, "cell 2"], counts: Sequence[int]):
    """Yield the energy-ranked reconstruction at these cells for each count; the same tensor, added to in between."""
    scores = ranking.constant.expand(len(cells), -1).clone()
    before = 0
    for count in counts:
        if count > before:
            waves = mode_waves(cells, ranking.modes[before:count], ranking.n)
            scores.addmm_(waves, ranking.coefficients[2 * before : 2 * count])
        before = count
        yield scores


def _scored(logits: Float[Tensor, "cell class"], labels: Int[Tensor, " cell"]) -> tuple[Tensor, Tensor]:
    own = logits.gather(1, rearrange(labels, "cell -> cell 1"))[:, 0]
    return logits.argmax(1) == labels, logits.logsumexp(1) - own


def _by_answer(
    table: Float[Tensor, "n class"], answer: Int[Tensor, " cell"], labels: Int[Tensor, " cell"]
) -> tuple[Tensor, Tensor]:
    return table.argmax(1)[answer] == labels, table.logsumexp(1)[answer] - table[answer, labels]


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
