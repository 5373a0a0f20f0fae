"""Memorization score: how much likelier an example's given label is predicted by networks trained on it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mechmem.core.config import check_number, check_whole
from mechmem.core.plugins import ExampleScore
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError
from mechmem.examples.subset_networks import networks_on_subsets


@dataclasses.dataclass(frozen=True)
class FeldmanZhang(ExampleScore):
    """Score examples by their memorization in networks trained on random subsets with and without the example.

    mem_i = P[the given label is predicted | i in S] − P[… | i not in S], over networks with the run's config and number
    of steps, each trained on a random subset S. Cheap scores estimate this quantity; it costs one training per network.
    The networks are kept in the run's directory.

    Attributes:
        networks: number of networks to train, at least 2.
        fraction: share of the training examples in each subset.
        seed: seed of the subsets and of the networks.
    """

    name: ClassVar[str] = "feldman_zhang"
    needs: ClassVar[frozenset[str]] = frozenset({"retrainer", "run"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels"})
    cites: ClassVar[str] = "Feldman & Zhang 2020, arXiv 2008.03703, section 2"
    higher: ClassVar[str] = "the given label is predicted only by networks trained on it"
    unit: ClassVar[str] = "difference of shares of networks"
    networks: int = 32
    fraction: float = 0.7
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("networks", self.networks, 2)
        check_whole("seed", self.seed, 0)
        check_number("fraction of the training examples", self.fraction, above=0)
        if self.fraction >= 1:
            raise ConfigError(f"fraction of the training examples must be below 1, got {self.fraction}")

    def measure(self, subject: Subject) -> tuple[Float[Tensor, " example"], str]:
        """Return the memorization of each example.

        Raises:
            MissingNeedError: the network was not trained from a config, or its task is not the subject's.
        """
        found = networks_on_subsets(subject, self.name, networks=self.networks, fraction=self.fraction, seed=self.seed)
        estimate = found.memorization()
        known = torch.isfinite(estimate.errors)
        mean = f"mean standard error {float(estimate.errors[known].mean()):.3f}" if known.any() else "none of it known"
        unknown = int((~known).sum())
        without = f"; {unknown} examples in every or no subset are set to 0" if unknown else ""
        return estimate.values, f"{self.networks} networks, {mean}{without}"
