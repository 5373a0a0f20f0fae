"""Runs whose predictions are planted evaluation by evaluation."""

import numpy as np
import pytest
import torch
from planted_runs import planted_run
from plugin_names import example_score

import mechmem as mm
from mechmem.errors import MissingNeedError

STEPS = (0, 2, 5, 9)
RIGHT = torch.tensor([[1, 0, 0, 0, 1, 1], [1, 1, 0, 0, 0, 1], [1, 0, 1, 0, 1, 0], [1, 1, 1, 0, 1, 0]], dtype=torch.bool)


def test_the_step_from_which_on_the_given_label_is_answered():
    found = example_score("learning_speed")(planted_run(STEPS, RIGHT, test=(5,)))
    assert found.values.tolist() == [0, 9, 5, np.inf, 5] and found.ids.tolist() == [0, 1, 2, 3, 4]
    assert found.note == "at 4 evaluations; 1 never" and found.unit == "steps" and found.most(1).tolist() == [3]


def test_of_fixed_views_the_images_that_they_show_are_scored():
    task = mm.ImageConfig(train=20, test=30, augmentation=mm.Augmentation(degrees=20, views=2, labels="independent"))
    run = mm.train(
        mm.TrainConfig(task, mm.ImageMLPConfig((8,)), steps=20, evaluations=4, checkpoints=1), progress=False
    )
    found = example_score("learning_speed")(run)
    ids, steps = run.task.sources, run.run.history()["step"].tolist()
    assert torch.equal(found.ids, ids) and not torch.equal(ids, run.task.train_ids)
    right = run.run.correctness()[0][:, run.task.rows(ids).numpy()]
    wanted = [next((s for n, s in enumerate(steps) if column[n:].all()), np.inf) for column in right.T]
    assert found.values.tolist() == wanted and len(set(wanted)) > 1


def test_what_recorded_no_predictions_or_on_other_labels_is_refused(tiny_run, tiny_config):
    class Other:
        """A run that kept no predictions."""

    for name in ("learning_speed", "forgetting_events"):
        with pytest.raises(MissingNeedError, match="needs run"):
            example_score(name)(mm.Subject(tiny_run.model, tiny_run.task))
        with pytest.raises(MissingNeedError, match="recorded which predictions"):
            example_score(name)(mm.Subject(tiny_run.model, tiny_run.task, run=Other()))
        task = mm.ModularTask(mm.ModularConfig(p=5, train_fraction=0.7, noise=mm.LabelNoise(0.4)))
        with pytest.raises(MissingNeedError, match="on this task"):
            example_score(name)(mm.Subject(tiny_run.model, task, run=tiny_run.run))
