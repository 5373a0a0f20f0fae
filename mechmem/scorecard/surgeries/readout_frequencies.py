"""Strongest frequencies of the readout (in a transformer, of the unembedding), with the others removed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from einops import rearrange

from mechmem.core.roles import read_role
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.scorecard.strongest_frequencies import CountedFrequencies


@dataclasses.dataclass(frozen=True)
class ReadoutFrequencies(CountedFrequencies):
    """Remove all but the strongest frequencies from the readout's vectors over the classes.

    Frequencies are ranked by their energy per coefficient, over the rows of the readout, which are neurons or
    dimensions of the residual stream; all rows keep the same frequencies. Liu & Lu filter a transformer in this way,
    keeping the top 20 of 56 frequencies of its unembedding. The only prior knowledge is the order of the classes in the
    group.

    The constant of each row stays. It adds the same to every class in the group, so no choice among these depends on
    it; if a class is outside the group (0 under multiplication), it decides between that class and the others. Classes
    outside the group keep their raw weights, and the bias stays.

    Attributes:
        count: number of frequencies to keep, fewer than the group has; by default 20 of 56, as in the paper (at least
            one).
        by: "energy" for those with the most energy, or "random", which is the control.
        seed: seed of the random choice.
    """

    name: ClassVar[str] = "readout_frequencies"
    needs: ClassVar[frozenset[str]] = frozenset({"group", "role:readout"})
    knows: ClassVar[frozenset[str]] = frozenset({"output_group"})
    cites: ClassVar[str] = "Liu & Lu 2026, arXiv 2605.18022; Nanda et al. 2023, arXiv 2301.05217"
    aliases: ClassVar[Mapping[str, Mapping[str, Any]]] = {"unembedding_frequencies": {}}

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject with a changed copy of its model.

        Raises:
            MissingNeedError: a need is missing, no frequency would be removed, or the classes are not the symbols of
                the group.
            RoleError: the readout does not read as (neurons, classes).
        """
        self.require(subject)
        task, role = subject.task, subject.roles.readout
        assert task.group is not None and role is not None
        model = subject.copy_model()
        readout = read_role(subject.roles, "readout", model, "neurons", task.n_classes)
        if task.operands is not None and task.symbols != task.n_classes:
            raise MissingNeedError(f"the classes ({task.n_classes}) are not the symbols ({task.symbols}) of the group")
        vectors = rearrange(readout, "neuron classes -> classes neuron")
        kept = self.kept_part(task.group, vectors, self.name)
        role.write(model, rearrange(kept, "classes neuron -> neuron classes"))
        return subject.with_model(model)
