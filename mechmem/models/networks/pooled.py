"""Several networks as one: the neurons of all, with the mean of their logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from mechmem.core.alike import check_alike
from mechmem.core.arguments import checked
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.models.networks.mlp import HookedMLP


@checked
def pool_neurons(subjects: Sequence[Subject]) -> Subject:
    """Put the neurons of several networks into one network, whose logits are the mean of theirs.

    Networks that differ in their seeds share the rule, and each has memories of its own. So what neurons share with
    those of *other* networks is the rule: at noise at which `shared_subspaces` reads next to nothing from one network,
    it reads the whole rule from sixteen (measured once, see the guide on discovery).

        runs = [mm.train(dataclasses.replace(config, seed=seed)) for seed in range(16)]
        mm.discover_rule(mm.pool_neurons(runs))

    Args:
        subjects: at least two networks of mechmem's with one layer of neurons, trained alike on the same labels.

    Raises:
        ConfigError: there are fewer than two, two are one network, or they differ in more than their seeds.
        MissingNeedError: they have several layers, BatchNorm or example masks.
    """
    if len(subjects) < 2:
        raise ConfigError(f"subjects must be at least two networks, got {len(subjects)}")
    check_alike(subjects, "subjects")
    first, models = subjects[0], [subject.model for subject in subjects]
    one = models[0]
    if not isinstance(one, HookedMLP) or one.config.layers > 1 or one.config.batch_norm or one.config.masks is not None:
        raise MissingNeedError("neurons are pooled of networks with one layer, without BatchNorm and example masks")
    other = next((subject for subject in subjects if subject.task.digest != first.task.digest), None)
    if other is not None:
        raise ConfigError(f"subjects must have the same labels, but those of {other.name!r} are not {first.name!r}'s")
    found = {name: [model.get_parameter(name).detach() for model in models] for name, _ in one.named_parameters()}
    pooled = HookedMLP(dataclasses.replace(one.config, width=one.config.width * len(models)), one.p)
    pooled = pooled.to(device=one.W_in.device, dtype=one.W_in.dtype).eval()
    with torch.no_grad():
        pooled.W_in.copy_(torch.cat(found["W_in"], dim=1))
        pooled.W_out.copy_(torch.cat(found["W_out"]) / len(models))
        if pooled.b_out is not None:
            pooled.b_out.copy_(torch.stack(found["b_out"]).mean(0))
    name = f"{first.name} and {len(models) - 1} more"
    return Subject(pooled, first.task, pooled.roles, name=name)
