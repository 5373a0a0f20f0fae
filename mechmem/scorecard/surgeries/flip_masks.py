"""Flipped subnetworks of turn-over dropout: the units that an example has not trained."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from mechmem.core.plugins import Surgery
from mechmem.core.subject import Subject
from mechmem.models.networks.subnetworks import as_subnetwork


@dataclasses.dataclass(frozen=True)
class FlipMasks(Surgery):
    """Run every example through its flipped subnetwork, which has not been trained on it.

    A test example has no mask of its own: it gets the mask of its id, which no training example has, and so a
    subnetwork of the same size as those of training examples. Any readout can follow. (The readout `flipped` averages
    over several.)

    Leaks between subnetworks (see `mechmem.models.networks.leaks`) remain.
    """

    name: ClassVar[str] = "flip_masks"
    needs: ClassVar[frozenset[str]] = frozenset({"turn_over"})
    cites: ClassVar[str] = "Kobayashi et al. 2020, arXiv 2012.04207"

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject with a copy of its model that runs flipped.

        Raises:
            MissingNeedError: the network has no turn-over dropout.
        """
        self.require(subject)
        return as_subnetwork(subject, "flipped")
