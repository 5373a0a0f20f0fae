"""Label noise: the given labels of a training set, from its true labels."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechmem.core.randomness import generator
from mechmem.errors import ConfigError
from mechmem.tasks.config import LabelNoise


def apply_noise(
    noise: LabelNoise,
    true: Int[Tensor, " example"],
    n_classes: int,
    seed: int,
    operands: Int[Tensor, "example 2"] | None = None,
) -> Int[Tensor, " example"]:
    """Return the given labels of a training set.

    Exactly round(ξ·n) labels are replaced (for symmetric noise: the fewest whole pairs that reach that number).

    Args:
        noise: the label noise.
        true: true labels of the training examples.
        n_classes: number of classes.
        seed: seed of the task; the choice of examples and the new labels are separate streams.
        operands: the input pairs, needed for symmetric and bijective noise.

    Raises:
        ConfigError: the noise needs pairs, but the task has none; or it makes labels wrong, and there is one class.
    """
    if noise.distribution in ("symmetric", "symmetric_any", "bijective") and operands is None:
        raise ConfigError(f"{noise.distribution} label noise needs inputs that are pairs")
    if noise.distribution.startswith("symmetric") and operands is not None:
        unordered = operands.min(1).values * n_classes + operands.max(1).values
        _, unit = torch.unique(unordered, return_inverse=True)
    else:
        unit = torch.arange(len(true))
    replaced = _choose(unit, noise.fraction, seed)
    if not replaced.any():
        return true.clone()
    if n_classes < 2 and not noise.distribution.endswith("any"):
        raise ConfigError(f"label noise {noise.distribution!r} needs at least two classes, and there is {n_classes}")
    shift = _per_unit(unit, n_classes, seed, wrong_only=not noise.distribution.endswith("any"))
    if noise.distribution == "bijective" and operands is not None:
        new = latin_square(operands, n_classes)
    elif noise.distribution.endswith("any"):
        new = shift
    else:
        new = (true + shift) % n_classes
    return torch.where(replaced, new, true)


def _choose(unit: Int[Tensor, " example"], fraction: float, seed: int) -> Bool[Tensor, " example"]:
    """Choose whole units at random until `fraction` of the examples is chosen."""
    n_units = int(unit.max()) + 1
    rank = torch.randperm(n_units, generator=generator(seed, "noise_examples"))[unit]
    wanted = round(fraction * len(unit))
    if wanted == 0:
        return torch.zeros(len(unit), dtype=torch.bool)
    last = torch.sort(rank).values[wanted - 1]
    return rank <= last


def _per_unit(unit: Int[Tensor, " example"], n_classes: int, seed: int, *, wrong_only: bool) -> Int[Tensor, " example"]:
    """One random class (or nonzero shift) per unit."""
    low = 1 if wrong_only else 0
    drawn = torch.randint(low, n_classes, (int(unit.max()) + 1,), generator=generator(seed, "noise_labels"))
    return drawn[unit]


def latin_square(operands: Int[Tensor, "example 2"], p: int) -> Int[Tensor, " example"]:
    """Return x + s(y − x)·(y − x) mod p, with different constants s on quadratic residues and on other elements.

    The constants (5, 3) are those of arXiv 2610.11833 (its 4 + χ, meant for p = 113); they give a Latin square only if
    χ(5) = χ(3) and χ(4) = χ(2). Otherwise the first pair that gives one is used.

    Raises:
        ConfigError: no pair of constants gives a Latin square at this p.
    """
    chi = torch.full((p,), -1)
    chi[torch.arange(p) ** 2 % p] = 1
    chi[0] = 0
    # Along a row y ↦ x + s·d is a bijection if both constants have the same character; along a column, if both − 1 do.
    candidates = [(5, 3), *((r, s) for r in range(2, p) for s in range(2, p) if r != s)]
    for residue, other in candidates:
        row, column = chi[residue % p] * chi[other % p], chi[(residue - 1) % p] * chi[(other - 1) % p]
        if row == 1 and column == 1 and residue % p != other % p:
            difference = (operands[:, 1] - operands[:, 0]) % p
            factor = torch.where(chi[difference] == 1, residue, other)
            return (operands[:, 0] + factor * difference) % p
    raise ConfigError(f"no Latin square of the bijective noise's form exists at p={p}")
