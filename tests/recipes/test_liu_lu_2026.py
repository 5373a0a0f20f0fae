"""The first epoch on images, on networks that are trained on a few of them."""

import dataclasses
import math

import pytest

import mechmem as mm
from mechmem.recipes.papers.liu_lu_2026 import measured, runs


@pytest.mark.parametrize(("arm", "steps"), [(runs.FULL, 1), (runs.MINI, 4)])
def test_the_first_epoch_is_a_step_of_the_full_batch_or_all_of_its_minibatches(arm, steps, tmp_path):
    (trial,) = runs.images(arm)("smoke")
    batch_size = 32 if trial.config.batch_size else 0
    config = dataclasses.replace(trial.config, batch_size=batch_size, steps=6, evaluations=60)
    subject = mm.train(config, out=tmp_path / "run", progress=False)
    history = subject.run.history().set_index("step")
    found = {quantity: value for quantity, x, value in measured.first_epoch(subject) if math.isnan(x)}
    assert found == {
        f"{name} after one epoch": history.loc[steps, split]
        for name, split in (
            ("train clean", "train_clean"),
            ("train noisy", "train_noisy"),
            ("noisy (true)", "train_noisy_true"),
            ("test", "test"),
        )
    }


@pytest.mark.parametrize("scale", ["smoke", "small", "paper"])
def test_minibatches_end_with_the_first_epoch(scale):
    for trial in runs.images(runs.MINI)(scale):
        config = trial.config
        assert config.steps * config.batch_size >= config.task.train > (config.steps - 1) * config.batch_size
    assert all(trial.config.batch_size == 0 for trial in runs.images(runs.FULL)(scale))
