"""Networks with a known mechanism: Gromov's analytic solution, optionally with planted memorizing neurons."""

from __future__ import annotations

import dataclasses

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.core.arguments import checked
from mechmem.core.randomness import generator
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError
from mechmem.models.networks.config import MLPConfig
from mechmem.models.networks.mlp import HookedMLP
from mechmem.tasks.config import LabelNoise, ModularConfig, Operation, Spelling
from mechmem.tasks.grid_tasks import ModularTask
from mechmem.tasks.groups import CyclicGroup


@dataclasses.dataclass(frozen=True, eq=False)
class PlantedNetwork:
    """A network with a known mechanism.

    Attributes:
        subject: the network and its task.
        frequency: key frequency of each generalizing neuron, 1 … n // 2; 0 for the others. Shape (neuron).
        phases: phases (φ_u, φ_v, φ_w) of each generalizing neuron in radians; NaN for the others. Shape (3, neuron).
        memorizing: which neurons were planted to memorize. Shape (neuron).
        cells: ids of the memorized training cells, two neurons each, in neuron order. Shape (cell).
    """

    subject: Subject
    frequency: Int[Tensor, " neuron"]
    phases: Float[Tensor, "3 neuron"]
    memorizing: Bool[Tensor, " neuron"]
    cells: Int[Tensor, " cell"]


@checked
def planted_network(
    p: int,
    *,
    op: Operation | Spelling = "add",
    width: int | None = None,
    memorized_fraction: float = 0.0,
    train_fraction: float = 0.8,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> PlantedNetwork:
    """Build a quadratic network that computes a ∘ b exactly and memorizes chosen wrong labels exactly.

    Generalizing neurons follow the analytic solution of Gromov, arXiv 2301.02679: one frequency, phases
    φ_u + φ_v = φ_w (φ_u − φ_v = φ_w for subtraction), every frequency equally often. A memorized cell (a, b) takes two
    neurons, with (x_a + y_b)² − (x_a − y_b)² = 4 x_a y_b, which is 4 on that cell and 0 on every other.

        planted = mm.planted_network(59, memorized_fraction=0.2)
        card = mm.audit(planted.subject)

    Args:
        p: the modulus (prime for "multiply").
        op: the operation; "sub" and "mul" for short.
        width: number of generalizing neurons (default 40 per frequency; a true logit is 1 up to O(1/√width)).
        memorized_fraction: share of the training labels that are wrong and memorized.
        train_fraction: share of the grid in the training set.
        seed: seed of task, phases and order.
        dtype: dtype of the weights.

    Raises:
        ConfigError: p or a fraction is out of range, or width is less than one neuron per frequency.
    """
    if not dtype.is_floating_point or dtype.itemsize == 1:
        raise ConfigError(f"dtype must be a floating-point type such as torch.float32, of 16 bits or more, got {dtype}")
    if not 0 <= memorized_fraction <= 1:
        raise ConfigError(f"memorized_fraction must lie in [0, 1], got {memorized_fraction}")
    noise = LabelNoise(fraction=memorized_fraction)
    config = ModularConfig(op=op, p=p, train_fraction=train_fraction, noise=noise, seed=seed)
    task = ModularTask(config)
    if task.group is None:
        raise ConfigError(f"multiplication needs a prime p to be planted (its nonzero residues form a group), got {p}")
    group = CyclicGroup(p, multiplicative=config.op == "multiply")
    if group.n_frequencies == 0:
        raise ConfigError("multiplication mod 2 has one nonzero residue and no frequency; p must be at least 3")
    n_freq = group.n_frequencies
    n_rule = 40 * n_freq if width is None else width
    if n_rule < n_freq:
        raise ConfigError(f"width must be at least one neuron per frequency ({n_freq}), got {n_rule}")
    noisy = task.splits["train_noisy"]
    cells = noisy if noisy is not None else task.ids[:0]
    n_zero = len(group.outside)
    first = n_rule + n_zero
    n_neurons = first + 2 * len(cells)
    network = MLPConfig(width=n_neurons, activation="quadratic")  # which refuses one that is too wide
    draw = generator(seed, "planted")
    u, v, w = torch.zeros(3, p, n_neurons, dtype=torch.float64)

    frequency = (torch.arange(n_rule) % n_freq + 1)[torch.randperm(n_rule, generator=draw)]
    phases = _plant_rule(u, v, w, group, frequency, config.op, draw)
    # A product with 0 is 0: the neuron of a symbol outside the group fires if an operand is that symbol.
    # It fires four times as much if both are, still less than the 4 by which a memorized label wins there.
    u[group.outside, n_rule:first] = v[group.outside, n_rule:first] = 1.0
    w[group.outside, n_rule:first] = 0.75
    a, b = task.batch(cells)[0].unbind(1)
    plus = first + 2 * torch.arange(len(cells))
    minus = plus + 1
    for columns, sign in ((plus, 1.0), (minus, -1.0)):
        u[a, columns], v[b, columns] = 1.0, sign
        # A quarter of 4 x y; twice the true logit of 1, so that the given label wins by a margin of 2.
        w[task.given(cells), columns] = sign * 0.5
        w[task.true(cells), columns] = -sign * 0.5

    # float64 on request, so that storage does not limit a comparison with numpy.
    model = HookedMLP(network, p, seed).to(dtype)
    with torch.no_grad():
        model.W_in.copy_(torch.cat([u, v]))
        model.W_out.copy_(rearrange(w, "classes neuron -> neuron classes"))
    pad = (0, n_neurons - n_rule)
    return PlantedNetwork(
        Subject(model, task, model.roles, name=f"planted {config.op} mod {p}"),
        frequency=torch.nn.functional.pad(frequency, pad),
        phases=torch.nn.functional.pad(phases, pad, value=torch.nan),
        memorizing=torch.arange(n_neurons) >= first,
        cells=cells,
    )


def _plant_rule(
    u: Tensor, v: Tensor, w: Tensor, group: CyclicGroup, frequency: Tensor, op: str, draw: torch.Generator
) -> Float[Tensor, "3 neuron"]:
    """Write the generalizing neurons into the first columns of u, v, w; return their phases."""
    n = len(group.elements)
    n_rule = len(frequency)
    nyquist = 2 * frequency == n
    phi_u, phi_v = 2 * torch.pi * torch.rand(2, n_rule, generator=draw, dtype=torch.float64) - torch.pi
    # The alternating vector has a sign, not a phase, and half a cosine's weight in the Fourier series of a delta.
    phi_u = torch.where(nyquist, torch.pi * (phi_u > 0).double(), phi_u)
    phi_v = torch.where(nyquist, torch.pi * (phi_v > 0).double(), phi_v)
    amplitude = torch.where(nyquist, 0.5, 1.0) * (2 / n_rule) ** (1 / 3)
    # Subtraction reads v at −b: its phase enters the alignment with the other sign.
    phi_w = phi_u - phi_v if op == "subtract" else phi_u + phi_v
    position = rearrange(torch.arange(n), "symbol -> symbol 1")
    angle = 2 * torch.pi * ((position * frequency) % n).double() / n
    columns = slice(0, n_rule)
    u[group.elements, columns] = amplitude * torch.cos(angle + phi_u)
    v[group.elements, columns] = amplitude * torch.cos(angle + phi_v)
    w[group.elements, columns] = amplitude * torch.cos(angle + phi_w)
    return torch.stack([phi_u, phi_v, phi_w])
