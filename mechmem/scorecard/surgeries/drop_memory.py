"""Removal of the memory units of example-tied dropout."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from mechmem.core.plugins import Surgery
from mechmem.core.subject import Subject
from mechmem.models.networks.subnetworks import as_subnetwork


@dataclasses.dataclass(frozen=True)
class DropMemory(Surgery):
    """Keep the units that all examples share, and drop those that few examples train.

    In every layer of example-tied dropout the memory units become 0, and the shared ones are multiplied by
    (shared + memory) / shared.
    """

    name: ClassVar[str] = "drop_memory"
    needs: ClassVar[frozenset[str]] = frozenset({"example_tied"})
    cites: ClassVar[str] = "Maini et al. 2023, arXiv 2307.09542"

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject with a copy of its model that runs without memory units.

        Raises:
            MissingNeedError: the network has no example-tied dropout.
        """
        self.require(subject)
        return as_subnetwork(subject, "shared")
