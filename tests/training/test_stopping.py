import dataclasses

import pytest
import torch

import mechmem as mm
from mechmem.tasks.config import SPLITS
from mechmem.training.config import log_schedule
from mechmem.training.optimizers import Optimizers
from mechmem.training.stopping import FEWEST_STILL, STILL, stop_condition

STEPS = 1000
SETTLED = stop_condition("settled")


def history(at, **curves):
    """Rows at these steps: a curve per split, of the step; splits without one are unknown."""
    return [{"step": step, **dict.fromkeys(SPLITS), **{s: f(step) for s, f in curves.items()}} for step in at]


def stopped_at(rows, steps=STEPS):
    """The first evaluation after which training would end."""
    return next((row["step"] for n, row in enumerate(rows, 1) if SETTLED.holds(rows[:n], steps)), None)


def rises(*steps):
    """An accuracy that goes up by the same amount at each of these steps."""
    return lambda step: sum(step >= each for each in steps) / max(len(steps), 1)


EVENLY = range(0, STEPS + 1, 10)


def test_accuracies_that_stand_still_end_training_in_the_second_half():
    rows = history(EVENLY, train_clean=rises(30), train_noisy=rises(60), test=lambda _step: 0.1)
    assert stopped_at(rows) == 500


@pytest.mark.parametrize("split", SPLITS)
def test_a_late_rise_in_any_split_is_waited_for_and_must_lie_a_third_back(split):
    curves = dict.fromkeys(SPLITS, rises(30)) | {split: rises(450)}
    at = stopped_at(history(EVENLY, **curves))
    assert at == 670, "two thirds of which lie behind the last evaluation before the rise"
    curves[split] = rises(450, 600, 800)
    assert stopped_at(history(EVENLY, **curves)) is None


def test_slow_growth_and_a_rise_after_a_shorter_plateau_go_on():
    assert stopped_at(history(EVENLY, train_clean=rises(20), test=lambda step: step / STEPS)) is None
    groks = history(EVENLY, train_clean=rises(100, 400), test=rises(560))
    assert stopped_at(groks) == 830


def test_a_plateau_longer_than_a_third_is_taken_for_the_end():
    rows = history(EVENLY, train_clean=rises(100), test=rises(900))
    assert stopped_at(rows) == 500, "the risk that the config's docstring names"


@pytest.mark.parametrize("change, settles", [(0.99 * STILL, True), (1.01 * STILL, False)])
def test_how_much_an_accuracy_may_move(change, settles):
    rows = history(EVENLY, test=lambda step: 0.5 + change * (step % 20 == 0))
    assert (stopped_at(rows) == 500) == settles


def test_with_few_evaluations_the_last_five_count():
    at = log_schedule(STEPS, 12)
    assert stopped_at(history(at, test=rises(10))) == next(s for s in at if s >= STEPS / 2)
    assert stopped_at(history(at, test=rises(200))) is None
    few = log_schedule(STEPS, FEWEST_STILL - 2)
    assert len(few) < FEWEST_STILL and stopped_at(history(few, test=lambda _step: 1.0)) is None


CONFIG = mm.TrainConfig(
    task=mm.ModularConfig(p=5, noise=mm.LabelNoise(0.3)),
    model=mm.MLPConfig(width=64),
    steps=300,
    lr=0.01,
    evaluations=80,
    checkpoints=3,
    stop_when="settled",
)


def test_a_settled_run_is_the_beginning_of_one_that_takes_all_steps(tmp_path):
    found = mm.train(CONFIG, out=tmp_path / "run", progress=False)
    end = found.run.finished()
    assert end["reason"] == "settled" and 150 <= end["step"] < 300
    whole = mm.train(dataclasses.replace(CONFIG, stop_when=""), progress=False)
    rows = whole.run.rows()
    assert found.run.rows() == [row for row in rows if row["step"] <= end["step"]]
    assert stopped_at(rows, 300) == end["step"]
    assert found.retrainer.steps == end["step"]


@pytest.mark.parametrize("updates", [40, 149, 170])
def test_an_interrupted_run_settles_at_the_same_step(updates, tmp_path, monkeypatch):
    whole = mm.train(CONFIG, progress=False)
    taken = Optimizers.step

    def interrupted(self):
        if self.updates == updates:
            raise KeyboardInterrupt
        taken(self)

    with monkeypatch.context() as patch:
        patch.setattr(Optimizers, "step", interrupted)
        if updates < whole.run.finished()["step"]:
            with pytest.raises(KeyboardInterrupt):
                mm.train(CONFIG, out=tmp_path / "run", progress=False)
    again = mm.train(CONFIG, out=tmp_path / "run", progress=False)
    assert again.run.finished() == whole.run.finished() and again.run.rows() == whole.run.rows()
    assert torch.equal(again.model.W_in, whole.model.W_in)
