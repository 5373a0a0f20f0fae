"""Neurons rebuilt as ideal cosines from their key frequency and phases."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_choice
from mechmem.core.plugins import Surgery
from mechmem.core.roles import read_role
from mechmem.core.subject import Subject
from mechmem.math.filtration import frequency_power, key_frequency
from mechmem.math.fourier import amplitude_at, cosines
from mechmem.models.hooks.running import full_precision
from mechmem.models.reading.weights import neuron_weights
from mechmem.tasks.grid import answer_sign, cyclic_group


@dataclasses.dataclass(frozen=True)
class CosineIdeal(Surgery):
    """Replace each neuron's u, v and w by cosines at its key frequency, with measured phases and equal amplitudes.

    The frequency is the one that frequency filtration keeps, shared by the three vectors. With measured phases and
    measured amplitudes the network is that of `frequency`; with equal amplitudes (the default) neurons differ only in
    their frequency and three phases, and neurons of little power count as much as any. Aligned phases set
    φ_w = φ_u + φ_v (φ_u − φ_v for subtraction), which is the solution itself: the operation is then built in, and only
    the choice of frequencies, φ_u and φ_v remain of the network.

    Equal amplitudes are the root mean square of the measured ones, one for u and v together and one for w. If the
    activation is homogeneous (ReLU, x²) and no symbol is outside the group, unit amplitudes would give the same
    predictions; otherwise the network's own scale matters. A neuron with a vector of zeros has no phase and stays 0.
    The constants and the readout bias are dropped; symbols outside the group keep their raw weights and their bias
    (Swaroop, arXiv 2603.23784). The control keeps measured phases and amplitudes at random frequencies.

    Attributes:
        phases: "measured", or "aligned" to the operation.
        amplitude: "equal", or "measured".
    """

    name: ClassVar[str] = "cosine_ideal"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group", "role:input_embedding", "role:readout"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "input_group", "output_group", "slopes"})
    cites: ClassVar[str] = "Swaroop, arXiv 2603.23784"
    aliases: ClassVar[Mapping[str, Mapping[str, Any]]] = {"cosine_aligned": {"phases": "aligned"}}
    control: ClassVar[str] = "random_frequency"

    phases: Literal["measured", "aligned"] = "measured"
    amplitude: Literal["measured", "equal"] = "equal"

    def __post_init__(self) -> None:
        check_choice("phases of a rebuilt network", self.phases, ("measured", "aligned"))
        check_choice("amplitude of a rebuilt network", self.amplitude, ("measured", "equal"))

    def wants(self) -> frozenset[str]:
        """Add the operation if the phases are aligned to it."""
        return self.needs | ({"operation"} if self.phases == "aligned" else frozenset())

    def told(self) -> frozenset[str]:
        """Add the operation if the phases are aligned to it."""
        return self.knows | ({"operation"} if self.phases == "aligned" else frozenset())

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject with a rebuilt copy of its model.

        Raises:
            MissingNeedError: a need is missing, or the group is not cyclic.
        """
        self.require(subject)
        group = cyclic_group(subject.task)
        _, embedding, readout = neuron_weights(subject)
        freq = key_frequency(group, frequency_power(group, embedding, readout))
        raw = torch.stack([*embedding, rearrange(readout, "neuron classes -> classes neuron")])
        vectors = full_precision(raw)[:, group.elements.to(raw.device)]
        phase = torch.stack([group.phase(each, freq) for each in full_precision(raw)])
        if self.phases == "aligned":
            phase[2] = phase[0] + answer_sign(subject.task) * phase[1]
        amplitude = self._amplitude(vectors, freq)
        rebuilt = raw.clone()
        for each, size, angle in zip(rebuilt, amplitude, phase, strict=True):
            each[group.elements.to(raw.device)] = cosines(len(group.elements), freq, size, angle).to(raw)
        return _written(subject, rebuilt, group.outside)

    def _amplitude(
        self, vectors: Float[Tensor, "vector element neuron"], freq: Int[Tensor, " neuron"]
    ) -> Float[Tensor, "vector neuron"]:
        measured = torch.stack([amplitude_at(each, freq) for each in vectors])
        alive = (measured > torch.finfo(vectors.dtype).eps * vectors.abs().amax(1)).all(0)
        if self.amplitude == "measured" or not alive.any():
            return measured
        size = torch.stack([measured[:2, alive].square().mean()] * 2 + [measured[2, alive].square().mean()]).sqrt()
        return rearrange(size, "vector -> vector 1") * alive


def _written(
    subject: Subject, vectors: Float[Tensor, "vector symbol neuron"], outside: Int[Tensor, " outside"]
) -> Subject:
    """Return the subject with a copy of its model with these u, v and w, and no bias inside the group."""
    roles, model = subject.roles, subject.copy_model()
    assert roles.input_embedding is not None and roles.readout is not None
    roles.input_embedding.write(model, vectors[:2])
    roles.readout.write(model, rearrange(vectors[2], "classes neuron -> neuron classes"))
    if roles.bias is not None:
        bias = read_role(roles, "bias", model, subject.task.n_classes)
        only_outside = torch.zeros_like(bias)
        only_outside[outside] = bias[outside]
        roles.bias.write(model, only_outside)
    return subject.with_model(model)
