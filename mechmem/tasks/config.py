"""Configs of tasks and of label noise. Imports no torch."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, Self, get_args

from mechmem.core.config import Config, check_choice, check_fraction, check_kind, check_whole
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.tasks import group_names

Operation = Literal["add", "subtract", "multiply"]
Composition = Literal["compose", "divide"]
Spelling = Literal["sub", "mul"]
NoiseKind = Literal["wrong", "any", "symmetric", "symmetric_any", "bijective"]
SplitKind = Literal["random", "stratified", "answers"]

SPELLED: dict[str, Operation] = {"sub": "subtract", "mul": "multiply"}
"""Operations by their short names, which are accepted but never stored."""

COMPOSITIONS: dict[str, Composition] = {"add": "compose", "subtract": "divide"}
"""Names of operations in groups other than residues under addition."""

SPLITS = ("train_clean", "train_noisy", "train_noisy_true", "test")
"""Splits of the four accuracies in every report."""

MAX_P = 1024


@dataclasses.dataclass(frozen=True)
class LabelNoise(Config):
    """Random replacement of training labels.

    Attributes:
        fraction: fraction ξ of the training labels to replace.
        distribution: "wrong", uniform over the incorrect classes (Liu & Lu 2026); "any", uniform over all classes,
            so a replaced label may equal the truth (Doshi et al. 2024); "symmetric", uniform over the incorrect classes
            with one label for (a, b) and (b, a); "symmetric_any", the same over all classes; "bijective", the label of
            a Latin square, equal to the truth in about one cell of p (arXiv 2610.11833).
    """

    kind: ClassVar[str] = "label_noise"
    option_names = {"fraction": "label_noise", "distribution": "noise_kind"}
    fraction: float = 0.0
    distribution: NoiseKind = "wrong"

    def __post_init__(self) -> None:
        check_fraction("label noise", self.fraction)
        check_choice("noise kind", self.distribution, get_args(NoiseKind))


@dataclasses.dataclass(frozen=True)
class TaskConfig(Config):
    """Base class of configs of tasks."""

    def noise_only(self) -> Self:
        """Return this task with every training label uniform over all classes, for a noise-only twin.

        Over all classes, because labels that are always wrong carry information about the true one, so they are not a
        valid null.

        Raises:
            MissingNeedError: the task has no label noise to replace.
        """
        raise MissingNeedError(f"a {type(self).__name__} has no label noise to replace")

    def clean_labels(self) -> Self:
        """Return this task with every training label true, for a clean-label twin.

        Raises:
            MissingNeedError: the task has no label noise to remove.
        """
        noise = getattr(self, "noise", None)
        if not isinstance(noise, LabelNoise):
            raise MissingNeedError(f"a {type(self).__name__} has no label noise to remove")
        return dataclasses.replace(self, noise=LabelNoise())  # pyright: ignore[reportCallIssue]


@dataclasses.dataclass(frozen=True)
class ModularConfig(TaskConfig):
    """Modular arithmetic c = a ∘ b (mod p), with some training labels wrong.

    Attributes:
        op: the operation, c = a + b, a − b or a · b; "sub" and "mul" for short.
        p: the modulus, 2 … 1024; bijective noise needs an odd prime. Multiplication takes any p, but its nonzero
            residues form a group only if p is prime; otherwise the task has no group, and what needs one raises an
            error.
        train_fraction: fraction α of the p² cells (for "answers": of the p answers) in the training set.
        split: "random" cells; "stratified", the same fraction of every answer; "answers", whole answers held out.
        noise: the label noise.
        seed: seed of the split and of the noise.
    """

    kind: ClassVar[str] = "modular"
    op: Operation | Spelling = "add"
    p: int = 59
    train_fraction: float = 0.8
    split: SplitKind = "random"
    noise: LabelNoise = dataclasses.field(default_factory=LabelNoise)
    seed: int = 0

    def __post_init__(self) -> None:
        """Validate without building anything."""
        object.__setattr__(self, "op", SPELLED.get(self.op, self.op))
        check_choice("operation", self.op, get_args(Operation))
        check_whole("p", self.p, 2)
        if self.p > MAX_P:
            raise ConfigError(f"p must be at most {MAX_P} (the grid has p² inputs of p classes), got {self.p}")
        _check_cells(self, self.p, f"p={self.p}")
        if self.noise.distribution.startswith("symmetric") and self.op == "subtract" and self.p > 2:
            kind = self.noise.distribution
            raise ConfigError(f"{kind} noise gives (a, b) and (b, a) one label, and subtraction does not")
        if self.noise.distribution == "bijective" and (self.p == 2 or not is_prime(self.p)):
            raise ConfigError(f"bijective noise needs an odd prime p (it uses quadratic residues), got {self.p}")

    def noise_only(self) -> Self:
        """Return this task with every training label uniform over all classes; symmetric where its noise is."""
        return dataclasses.replace(self, noise=_null_of(self.noise))


@dataclasses.dataclass(frozen=True)
class GroupConfig(TaskConfig):
    """Composition of the elements of a finite group, c = a·b, with some training labels wrong.

    Attributes:
        group: a name such as "S5", "A5", "Z12", "D7" (14 elements), "Q8" or "S3xZ4"; at most 1024 elements. See
            `mechmem.tasks.group_names`.
        op: "compose" or "add", c = a·b; "divide", "subtract" or "sub", c = a·b⁻¹.
        train_fraction: fraction α of the pairs (for "answers": of the elements as answers) in the training set.
        split: "random" pairs; "stratified", the same fraction of every answer; "answers", whole answers held out.
        noise: the label noise. Symmetric noise, which gives (a, b) and (b, a) one label, needs a rule that does so too:
            composition in a group with a·b = b·a. Bijective noise needs "Zn" with n an odd prime, because its Latin
            square is built from quadratic residues.
        seed: seed of the split and of the noise.
    """

    kind: ClassVar[str] = "group"
    group: str = "S5"
    op: Composition | Literal["add", "subtract", "sub"] = "compose"
    train_fraction: float = 0.8
    split: SplitKind = "random"
    noise: LabelNoise = dataclasses.field(default_factory=LabelNoise)
    seed: int = 0

    def __post_init__(self) -> None:
        """Validate without building anything."""
        n = group_names.order(self.group)
        if n > MAX_P:
            raise ConfigError(f"a group must have at most {MAX_P} elements (n² pairs of n classes), got {self.group}")
        operation = SPELLED.get(self.op, self.op)
        object.__setattr__(self, "op", COMPOSITIONS.get(operation, operation))
        check_choice("operation", self.op, get_args(Composition))
        _check_cells(self, n, self.group)
        kind, modulus = self.noise.distribution, group_names.modulus(self.group)
        if kind.startswith("symmetric") and (self.op == "divide" or not group_names.is_abelian(self.group)):
            raise ConfigError(f"{kind} noise gives (a, b) and (b, a) one label, and {self.op} in {self.group} does not")
        if kind == "bijective" and (modulus is None or modulus == 2 or not is_prime(modulus)):
            raise ConfigError(f"bijective noise needs a group Zn with n an odd prime, got {self.group}")

    def noise_only(self) -> Self:
        """Return this task with every training label uniform over all classes; symmetric where its noise is."""
        return dataclasses.replace(self, noise=_null_of(self.noise))


def _check_cells(config: ModularConfig | GroupConfig, n: int, where: str) -> None:
    """Check that the grid of n² cells has training and test cells."""
    check_kind("noise", config.noise, LabelNoise)
    check_fraction("train fraction", config.train_fraction)
    check_choice("split", config.split, get_args(SplitKind))
    check_whole("seed", config.seed, 0)
    units = n if config.split == "answers" else n**2
    kept = round(config.train_fraction * units)
    if kept in (0, units):
        empty = "test" if kept else "training"
        raise ConfigError(f"train fraction {config.train_fraction} leaves an empty {empty} set at {where}")


def _null_of(noise: LabelNoise) -> LabelNoise:
    # A network with tied inputs can fit only symmetric noise, so its null must be symmetric too.
    return LabelNoise(1.0, "symmetric_any" if noise.distribution.startswith("symmetric") else "any")


def is_prime(p: int) -> bool:
    """Return whether p is prime; for numbers this small sympy need not be loaded."""
    return p >= 2 and all(p % d for d in range(2, int(p**0.5) + 1))
