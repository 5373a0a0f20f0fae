"""Extractors: zero or more surgeries, then one readout, named by the chain.

raw                          the network's own logits
frequency+quadratic          filter, swap the activation, read the logits
frequency(part=R)            settings in parentheses, by name or in order
additive_free                only a readout
frequency+additive_free      a surgery, then a readout
"""

from __future__ import annotations

import dataclasses

from mechmem.core.arguments import checked
from mechmem.core.names import build, check_name, split_outside
from mechmem.core.plugins import Plugin, Readout, Surgery, plugins
from mechmem.core.subject import Subject
from mechmem.core.task import Predictor, whole_ids
from mechmem.errors import ConfigError
from mechmem.scorecard.readouts.logits import Logits

RAW = "raw"


@dataclasses.dataclass(frozen=True)
class Extractor:
    """A way to read generalization out of a network.

    Attributes:
        surgeries: the surgeries in order, each applied to a copy.
        readout: the readout of the resulting network.
    """

    surgeries: tuple[Surgery, ...]
    readout: Readout

    @property
    def parts(self) -> tuple[Plugin, ...]:
        """Surgeries and readout."""
        return (*self.surgeries, self.readout)

    @property
    def name(self) -> str:
        """The chain's name; the readout is left out if it is the logits."""
        labels = [part.label() for part in self.surgeries]
        if self.readout.name != "logits":
            labels.append(self.readout.label())
        return "+".join(labels) or RAW

    @property
    def knows(self) -> frozenset[str]:
        """Prior knowledge of all parts together."""
        return frozenset().union(*(part.told() for part in self.parts))

    @property
    def cites(self) -> str:
        """Sources of the parts."""
        return "; ".join(dict.fromkeys(part.cites for part in self.parts))

    def missing(self, subject: Subject) -> list[str]:
        """Return the needs of the parts that the subject does not have."""
        return sorted({need for part in self.parts for need in part.missing(subject)})

    def control(self) -> Extractor | None:
        """Return the same chain with each part replaced by its control, or None if no part has one."""
        found = [part.stand_in() for part in self.parts]
        if not any(found):
            return None
        return extractor("+".join((own or part).label() for own, part in zip(found, self.parts, strict=True)))

    def __call__(self, subject: Subject) -> Predictor:
        """Return the predictor, which takes ids in any form.

        Raises:
            MissingNeedError: the subject lacks something that a part needs.
            ConfigError: it is no subject.
        """
        for surgery in self.surgeries:
            subject = surgery(subject)
        predict = self.readout(subject)
        return lambda ids: predict(whole_ids(ids))


@checked
def extractor(name: str) -> Extractor:
    """Parse an extractor's name.

        predict = mm.extractor("frequency+quadratic")(network)
        logits = predict(network.task.test_ids)

    Raises:
        UnknownNameError: a part or one of its settings does not exist; the message suggests the nearest.
        ConfigError: the name cannot be read, a setting is not allowed, or a readout is not the last part.
    """
    check_name(name, "extractor")
    surgeries, readouts = plugins("surgeries"), plugins("readouts")
    classes = {RAW: Logits, **surgeries, **readouts}
    chain: list[Surgery] = []
    readout: Readout | None = None
    for term in split_outside(name, "+"):
        if readout is not None:
            raise ConfigError(f"extractor {name!r}: {readout.label()!r} is a readout and must come last")
        part = build(classes, term, name, "extractor")
        if isinstance(part, Readout):
            readout = part
        elif isinstance(part, Surgery):
            chain.append(part)
    return Extractor(tuple(chain), readout or Logits())
