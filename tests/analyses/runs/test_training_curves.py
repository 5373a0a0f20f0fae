import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

import mechmem as mm
from mechmem.analyses.runs.training_curves import TrainingCurves, TrainingHistory
from mechmem.errors import MissingNeedError
from mechmem.tasks.config import SPLITS
from mechmem.training.evaluate import evaluate


@pytest.fixture(scope="module")
def result(tiny_run) -> TrainingHistory:
    return TrainingCurves()(tiny_run)


def test_every_checkpoint_has_the_accuracy_that_the_network_had(tiny_run, result):
    frame = result.to_frame().set_index(["split", "step"])
    steps = set(tiny_run.run.checkpoint_steps()) & set(result.step.tolist())
    assert {0, 30} <= steps
    for step in steps:
        row = evaluate(tiny_run.run.model_at(step), tiny_run.task).row
        for split in SPLITS:
            assert frame.loc[(split, step), "accuracy"] == pytest.approx(row[split], abs=1e-12)
            assert frame.loc[(split, step), "loss"] == pytest.approx(row[f"{split}_loss"], abs=1e-9)
    assert result.chance == 1 / 5


def test_an_empty_split_reads_nan_and_is_not_drawn(tiny_config, tmp_path):
    task = dataclasses.replace(tiny_config.task, noise=mm.LabelNoise(0.0))
    config = dataclasses.replace(tiny_config, task=task, steps=2)
    result = TrainingCurves()(mm.train(config, out=tmp_path / "clean", progress=False))
    known = dict(zip(SPLITS, torch.isfinite(result.accuracy).all(1).tolist(), strict=True))
    assert known == {"train_clean": True, "train_noisy": False, "train_noisy_true": False, "test": True}
    drawn = {trace.name for trace in result.plot().data}
    assert drawn == {"train, clean", "test", "chance (20.0%)"}


def test_curves_are_drawn_over_the_steps_of_the_run(tiny_run, result):
    steps = tiny_run.run.history()["step"].to_numpy()
    for trace in result.plot().data[:-1]:
        np.testing.assert_array_equal(trace.x[1:], steps[1:])
        assert 0 < trace.x[0] < 1


def test_a_network_without_a_run_is_refused(planted):
    with pytest.raises(MissingNeedError, match="'training_curves' needs run"):
        TrainingCurves()(planted.subject)


def test_saved_and_loaded_it_is_the_same(result, tmp_path):
    result.save(tmp_path / "r.safetensors")
    pd.testing.assert_frame_equal(TrainingHistory.load(tmp_path / "r.safetensors").to_frame(), result.to_frame())
