"""Networks whose neurons are drawn from few subspaces, each neuron's vectors u, v and w from those of its cluster."""

import dataclasses

import torch

import mechmem as mm
from mechmem.errors import MissingNeedError
from mechmem.models.networks.mlp import HookedMLP

P = 17


class Twins:
    """A retrainer that has some twins, and counts how often it is asked for one."""

    def __init__(self, **models):
        self.models, self.asked = models, 0

    def twin(self, kind, *, progress=False):
        self.asked += 1
        if kind not in self.models:
            raise MissingNeedError("it was never trained")
        return self.models[kind]


def planted_subspaces(clusters=4, each=20, dimension=2, rest=0, dead=0, seed=0):
    """Return a subject, and each neuron's cluster: −1 for the rest, of random vectors, and −2 for dead neurons."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(clusters).repeat_interleave(each), torch.full((rest,), -1)])
    vectors = torch.randn(3, P, len(labels), generator=draw, dtype=torch.float64)
    for role, cluster in torch.cartesian_prod(torch.arange(3), torch.arange(clusters)).tolist():
        axes = torch.randn(P, dimension, generator=draw, dtype=torch.float64)
        axes = torch.linalg.qr(axes - axes.mean(0)).Q
        vectors[role][:, labels == cluster] = axes @ torch.randn(dimension, each, generator=draw, dtype=torch.float64)
    # A dead neuron has one constant vector, whatever the others are.
    last = torch.randn(3, P, dead, generator=draw, dtype=torch.float64)
    last[2] = 0.5
    order = torch.randperm(len(labels) + dead, generator=draw)
    vectors, labels = torch.cat([vectors, last], 2)[..., order], torch.cat([labels, torch.full((dead,), -2)])[order]
    task = mm.ModularTask(mm.ModularConfig(p=P, train_fraction=0.5))
    model = HookedMLP(mm.MLPConfig(width=len(labels)), P).double()
    return of_vectors(mm.Subject(model, task, model.roles), vectors), labels


def of_vectors(subject, vectors):
    """The subject with these vectors u, v and w, of any lengths and means. Shape (3, entry, neuron)."""
    model = subject.copy_model()
    with torch.no_grad():
        model.W_in.copy_(torch.stack([3 * vectors[0] + 1, vectors[1]]).reshape(model.W_in.shape))
        model.W_out.copy_(0.5 * vectors[2].T - 2)
    return subject.with_model(model)


def with_twins(subject, **models):
    """The subject with a retrainer that has these twins alone."""
    return dataclasses.replace(subject, retrainer=Twins(**models))
