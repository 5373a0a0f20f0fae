"""Groups by their product alone: from a Latin square to the group behind it, its elements' orders, and isomorphisms."""

from __future__ import annotations

import dataclasses

import torch
from einops import rearrange
from jaxtyping import Int
from torch import Tensor

from mechmem.math.cayley_tables import latin_shares

MOST_TRIED = 5000
"""Choices of images after which two groups are taken for different ones."""


def loop_product(square: Int[Tensor, "n n"]) -> Int[Tensor, "n n"] | None:
    """Return the product of the principal isotope whose identity is the class in the first cell; None if not Latin.

    The element of a row is its class in the first column, that of a column its class in the first row. If the square is
    a group's under other names, this is the group itself (Albert 1943).
    """
    if latin_shares(square) != (1.0, 1.0):
        return None
    return square[square[:, 0].argsort()][:, square[0].argsort()]


def identity_of(product: Int[Tensor, "n n"]) -> int:
    """Return the identity of a loop; −1 if there is none."""
    elements = torch.arange(len(product))
    left, right = (product == elements).all(1), (product.T == elements).all(1)
    return int((left & right).int().argmax()) if bool((left & right).any()) else -1


def generators(product: Int[Tensor, "n n"], identity: int, first: Int[Tensor, " n"]) -> list[int]:
    """Return elements whose products are all elements, each the first of a ranking that is not a product yet."""
    reached = torch.zeros(len(product), dtype=torch.bool)
    reached[identity] = True
    found: list[int] = []
    while not reached.all():
        found.append(int(first[~reached[first]][0]))
        reached[found[-1]] = True
        while True:
            members = reached.nonzero()[:, 0]
            new = reached.clone()
            new[product[members][:, found].flatten()] = True
            if torch.equal(new, reached):
                break
            reached = new
    return found


def is_group(product: Int[Tensor, "n n"], identity: int) -> bool:
    """Return whether a loop is associative: (x y) g = x (y g) for all x, y and generators g (Light's test)."""
    return all(
        torch.equal(product[product, g], product[:, product[:, g]])
        for g in generators(product, identity, torch.arange(len(product)))
    )


@dataclasses.dataclass(frozen=True, eq=False)
class GroupFacts:
    """What a group's product says about the group.

    Attributes:
        product: the product. Shape (element, element).
        identity: the identity.
        orders: order of every element.
        commuting: share of ordered pairs with x y = y x.
        centre: number of elements that commute with all.
    """

    product: Int[Tensor, "n n"]
    identity: int
    orders: Int[Tensor, " n"]
    commuting: float
    centre: int

    @property
    def order_counts(self) -> dict[int, int]:
        """Number of elements of each order."""
        counts = torch.bincount(self.orders)
        return {int(order): int(counts[order]) for order in counts.nonzero()[:, 0]}


def group_facts(product: Int[Tensor, "n n"], identity: int) -> GroupFacts:
    """Return the facts of a group."""
    n = len(product)
    elements = torch.arange(n)
    orders, power = torch.zeros(n, dtype=torch.long), elements.clone()
    for order in range(1, n + 1):
        orders[(power == identity) & (orders == 0)] = order
        if (orders > 0).all():
            break
        power = product[power, elements]
    commutes = product == product.T
    return GroupFacts(product, identity, orders, float(commutes.double().mean()), int(commutes.all(1).sum()))


def isomorphism(group: GroupFacts, other: GroupFacts) -> Int[Tensor, " element"] | None:
    """Return the element of the other group for each element of a group, such that products agree; None if none exists.

    Images of a few generators are searched among elements of the same order with as many roots and commuting elements,
    and each choice is followed through the products. After `MOST_TRIED` choices, which no group of an order below 60
    needs, the search is given up.
    """
    if group.order_counts != other.order_counts or group.centre != other.centre:
        return None
    kinds, others = _kinds(group, other)
    if not torch.equal(kinds.bincount(), others.bincount()):
        return None
    ranking = group.orders.argsort(descending=True, stable=True)
    base = generators(group.product, group.identity, ranking)
    candidates = [(others == kinds[element]).nonzero()[:, 0].tolist() for element in base]
    return _extended(group, other, base, [], candidates, [MOST_TRIED])


def _kinds(group: GroupFacts, other: GroupFacts) -> tuple[Int[Tensor, " element"], Int[Tensor, " element"]]:
    """Number the elements of two groups by what every isomorphism preserves."""
    said = []
    for each in (group, other):
        elements = torch.arange(len(each.product))
        squares = each.product[elements, elements]
        centraliser = (each.product == each.product.T).sum(1)
        roots = squares.bincount(minlength=len(squares))
        own = torch.stack([each.orders, centraliser, roots], 1)
        said.append(torch.cat([own, own[squares]], 1))
    numbers = torch.cat(said).unique(dim=0, return_inverse=True)[1]
    return numbers[: len(said[0])], numbers[len(said[0]) :]


def _extended(
    group: GroupFacts,
    other: GroupFacts,
    base: list[int],
    images: list[int],
    candidates: list[list[int]],
    left: list[int],
) -> Tensor | None:
    if not left[0]:
        return None
    left[0] -= 1
    mapped = _followed(group, other, base[: len(images)], images)
    if mapped is None:
        return None
    if len(images) == len(base):
        whole = bool((mapped >= 0).all()) and torch.equal(
            mapped[group.product], other.product[rearrange(mapped, "x -> x 1"), mapped]
        )
        return mapped if whole else None
    for image in candidates[len(images)]:
        found = _extended(group, other, base, [*images, image], candidates, left)
        if found is not None:
            return found
    return None


def _followed(group: GroupFacts, other: GroupFacts, base: list[int], images: list[int]) -> Tensor | None:
    """Return the map of all products of some generators, −1 elsewhere; None if two products disagree."""
    mapped = torch.full((len(group.product),), -1)
    mapped[group.identity] = other.identity
    edge = torch.tensor([group.identity])
    while len(edge):
        reached = []
        for element, image in zip(base, images, strict=True):
            new, wanted = group.product[edge, element], other.product[mapped[edge], image]
            known = mapped[new] >= 0
            if (mapped[new][known] != wanted[known]).any():
                return None
            mapped[new] = wanted
            reached.append(new[~known])
        edge = torch.cat(reached).unique() if reached else edge[:0]
    taken = mapped[mapped >= 0]
    return mapped if len(taken.unique()) == len(taken) else None
