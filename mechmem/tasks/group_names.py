"""Names of finite groups: parsing, order and properties, without their elements. Imports no torch.

A name is a family and a number, or several of them joined by "x" for their direct product: "S5", "D5xZ2". Families:
S, all permutations of n symbols; A, the even ones; Z, the residues mod n under addition; D, the 2n symmetries of the
regular n-gon; Q, the generalized quaternion (dicyclic) group of n elements, n a multiple of 4.
"""

from __future__ import annotations

import math
import re

from mechmem.core.in_words import shown
from mechmem.errors import ConfigError

LEAST = {"S": 2, "A": 3, "Z": 2, "D": 3, "Q": 8}
"""The smallest number of each family."""

FAMILIES = "ZSADQ"
"""Families by letter, the simplest first."""

_NAME = re.compile(r"([SAZDQ])([1-9][0-9]{0,3})")


def factors(name: str) -> tuple[tuple[str, int], ...]:
    """Parse a group's name into families and numbers: "S3xZ4" is (("S", 3), ("Z", 4)).

    Raises:
        ConfigError: the name cannot be parsed, or a number is too small for its family.
    """
    found = []
    for part in str(name).split("x"):
        match = _NAME.fullmatch(part)
        if match is None:
            raise ConfigError(
                f"no group {shown(name)}: names are like S5, A5, Z12, D7 (14 elements), Q8, or S3xZ4 for a product"
            )
        family, number = match[1], int(match[2])
        if number < LEAST[family] or (family == "Q" and number % 4):
            allowed = f"at least {LEAST[family]}" + (" and a multiple of 4" if family == "Q" else "")
            raise ConfigError(f"no group {part}: in {family}n, n must be {allowed}")
        found.append((family, number))
    return tuple(found)


def order(name: str) -> int:
    """Return the number of elements of a group.

    Raises:
        ConfigError: there is no group of this name.
    """
    return math.prod(_order(family, number) for family, number in factors(name))


def is_abelian(name: str) -> bool:
    """Return whether a·b = b·a for all elements.

    Raises:
        ConfigError: there is no group of this name.
    """
    return all(family == "Z" or (family, number) in (("S", 2), ("A", 3)) for family, number in factors(name))


def modulus(name: str) -> int | None:
    """Return n for "Zn" itself, whose elements are residues in their usual order, and None for every other name.

    Raises:
        ConfigError: there is no group of this name.
    """
    found = factors(name)
    return found[0][1] if len(found) == 1 and found[0][0] == "Z" else None


def named_groups(n: int) -> tuple[str, ...]:
    """Return names of groups of n elements, the simplest first: few factors, then by family. Some are isomorphic."""
    found = [(len(parts), [(FAMILIES.index(family), number) for family, number in parts]) for parts in _products(n, n)]
    return tuple("x".join(f"{FAMILIES[family]}{number}" for family, number in parts) for _, parts in sorted(found))


def _products(n: int, largest: int) -> list[list[tuple[str, int]]]:
    """Return the lists of factors of n elements together, each factor of at most so many, in descending order."""
    if n == 1:
        return [[]]
    divisors = [each for each in range(2, min(n, largest) + 1) if n % each == 0]
    return [[own, *rest] for each in divisors for own in _simple(each) for rest in _products(n // each, each)]


def _simple(n: int) -> list[tuple[str, int]]:
    """Return the family and number of each group of n elements that is no product, one for each isomorphic pair."""
    found = [("Z", n)]
    found += [("S", k) for k in range(3, 8) if math.factorial(k) == n]
    found += [("A", k) for k in range(4, 8) if math.factorial(k) == 2 * n]
    found += [("D", n // 2)] if n % 2 == 0 and n > 6 else []
    return found + ([("Q", n)] if n % 4 == 0 and n >= 8 else [])


def described(name: str) -> str:
    """Return a group's name in words, e.g. "the cyclic group of order 59 (Z59)".

    Raises:
        ConfigError: there is no group of this name.
    """
    found = factors(name)
    if len(found) != 1:
        return f"the group {name} of order {order(name)}, a direct product"
    family, number = found[0]
    kind = {"Z": "cyclic", "S": "symmetric", "A": "alternating", "D": "dihedral", "Q": "generalized quaternion"}[family]
    return f"the {kind} group of order {_order(family, number)} ({name})"


def _order(family: str, number: int) -> int:
    if family in "SA":
        # Capped, because 20! exceeds any limit on orders, and the factorial of a four-digit number is huge.
        symbols = math.factorial(min(number, 20))
        return symbols if family == "S" else symbols // 2
    return 2 * number if family == "D" else number
