"""The neurons of several networks in one."""

import dataclasses

import pytest
import torch

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError

CONFIG = mm.TrainConfig(
    mm.ModularConfig(p=5, noise=mm.LabelNoise(0.3)), mm.MLPConfig(12, bias=True), steps=20, lr=0.01, checkpoints=1
)


def trained(**changed):
    return mm.train(dataclasses.replace(CONFIG, **changed), progress=False)


@pytest.mark.parametrize("tied", [False, True])
def test_the_logits_are_the_mean_of_all(tied):
    runs = [trained(seed=seed, model=dataclasses.replace(CONFIG.model, tied=tied)) for seed in range(3)]
    pooled = mm.pool_neurons(runs)
    inputs = pooled.task.batch(pooled.task.ids)[0]
    wanted = torch.stack([run.model(inputs) for run in runs]).mean(0)
    torch.testing.assert_close(pooled.model(inputs), wanted)
    assert pooled.model.config.width == 36 and not pooled.model.training
    assert mm.audit(pooled, ["raw"]).rows[0].splits["test"].estimate is not None


def test_networks_that_cannot_be_pooled_are_refused():
    one, other = trained(), trained(seed=1)
    with pytest.raises(ConfigError, match="at least two networks, got 1"):
        mm.pool_neurons([one])
    with pytest.raises(ConfigError, match="given twice"):
        mm.pool_neurons([one, one])
    with pytest.raises(ConfigError, match="same labels"):
        mm.pool_neurons([one, trained(seed=1, task=dataclasses.replace(CONFIG.task, seed=1))])
    with pytest.raises(ConfigError, match="differ in lr"):
        mm.pool_neurons([one, trained(seed=1, lr=0.02)])
    deeper = [trained(seed=seed, model=mm.MLPConfig(12, layers=2)) for seed in (0, 1)]
    with pytest.raises(MissingNeedError, match="one layer"):
        mm.pool_neurons(deeper)
    with pytest.raises(ConfigError, match="one architecture"):
        mm.pool_neurons([other, *deeper])


@pytest.mark.slow
def test_what_several_networks_share_is_the_rule():
    """More of it is read from the neurons of several networks than from the best of them."""
    task = mm.ModularConfig(p=23, noise=mm.LabelNoise(0.3))
    config = mm.TrainConfig(task, mm.MLPConfig(64), steps=1500, weight_decay=1.0, checkpoints=1)
    runs = [mm.train(dataclasses.replace(config, seed=seed), progress=False) for seed in range(8)]
    test = runs[0].task.test_ids

    def accuracy(subject):
        read = mm.extractor("shared_subspaces+additive_free")(subject)(test).argmax(1)
        return float((read == subject.task.true(test)).double().mean())

    alone, together = max(map(accuracy, runs)), accuracy(mm.pool_neurons(runs))
    assert together > alone
