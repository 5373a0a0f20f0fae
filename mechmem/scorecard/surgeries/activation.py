"""Swap of the activation function."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from mechmem.core.plugins import Surgery
from mechmem.core.subject import Subject
from mechmem.errors import RoleError
from mechmem.models.networks.nonlinearities import NONLINEARITIES, nonlinearity


@dataclasses.dataclass(frozen=True)
class ActivationSwap(Surgery):
    """Replace the network's activation function, weights unchanged.

    After filtration, x² turns a neuron's two cosines into a product at one frequency, without the harmonics that ReLU
    adds; this does not hold for an unfiltered network (Liu & Lu 2026, arXiv 2605.18022).

    Attributes:
        to: name of the new activation.
    """

    name: ClassVar[str] = "activation"
    needs: ClassVar[frozenset[str]] = frozenset({"role:activation"})
    cites: ClassVar[str] = "Liu & Lu 2026, arXiv 2605.18022"
    aliases: ClassVar[Mapping[str, Mapping[str, Any]]] = {name: {"to": name} for name in NONLINEARITIES}

    to: str

    def __post_init__(self) -> None:
        nonlinearity(self.to)

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject with another activation in a copy of its model."""
        self.require(subject)
        model = subject.copy_model()
        assert subject.roles.activation is not None
        names = subject.roles.activation
        try:
            for name in (names,) if isinstance(names, str) else names:
                model.set_submodule(name, nonlinearity(self.to), strict=True)
        except AttributeError as error:
            raise RoleError(f"the role activation names no submodule: {error}") from error
        return subject.with_model(model)
