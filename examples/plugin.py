"""
How is a method of your own added?
==================================

A plugin is one frozen dataclass. In a file of its own, in the folder of its kind or named by an entry point, it is
found by name everywhere; here it is written down and called.
"""

import dataclasses
from typing import ClassVar

import mechmem as mm
from mechmem.core.config import check_fraction
from mechmem.core.plugins import Surgery


@dataclasses.dataclass(frozen=True)
class DropLongest(Surgery):
    """Zero the output weights of the neurons whose output vectors are longest.

    Attributes:
        fraction: share of the neurons that is dropped.
    """

    name: ClassVar[str] = "drop_longest"
    needs: ClassVar[frozenset[str]] = frozenset({"role:readout"})
    cites: ClassVar[str] = "the gallery"

    fraction: float = 0.5

    def __post_init__(self):
        check_fraction("fraction of neurons", self.fraction)

    def __call__(self, subject):
        """Return the subject with a pruned copy of its model."""
        self.require(subject)
        model = subject.copy_model()
        readout = subject.roles.readout.read(model)
        norms = readout.norm(dim=1, keepdim=True)
        subject.roles.readout.write(model, readout.where(norms < norms.quantile(1 - self.fraction), 0.0))
        return subject.with_model(model)


# %%
# A planted network has its answer built in: it adds mod 59 with neurons that are known, and has a fifth of its
# training labels wrong, with two neurons for each.
planted = mm.planted_network(59, memorized_fraction=0.2)
pruned = DropLongest(0.5)(planted.subject)

# %%
# What the network answers before …
before = mm.analyse(planted.subject, "cell_outcomes")
before

# %%
# … and after.
after = mm.analyse(pruned, "cell_outcomes")
after

# %%
# So fifteen lines make a method: here the longest output vectors belong to the neurons that memorize, and without
# them the network is right everywhere. In ``mechmem/scorecard/surgeries/`` the same file is an extractor of every
# audit.
