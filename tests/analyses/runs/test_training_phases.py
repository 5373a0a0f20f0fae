import dataclasses

import pandas as pd
import pytest
import torch

import mechmem as mm
from mechmem.analyses.logits.progress_measures import ProgressMeasures
from mechmem.analyses.runs.training_phases import TrainingPhases, TrainingPhasesResult
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.math.training_phases import EXPECTED, phase_ends


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that memorizes and then finds the rule."""
    config = mm.TrainConfig(
        task=mm.ModularConfig(p=11, train_fraction=0.7),
        model=mm.MLPConfig(width=64),
        lr=0.01,
        weight_decay=1.0,
        steps=600,
        evaluations=5,
        checkpoints=8,
    )
    return mm.train(config, out=tmp_path_factory.mktemp("runs") / "run", progress=False)


@pytest.fixture(scope="module")
def result(run):
    return TrainingPhases()(run)


def test_curves_are_the_progress_measures_of_every_checkpoint(run, result):
    assert result.step.tolist() == run.run.checkpoint_steps()
    final = ProgressMeasures()(run)
    assert torch.equal(result.key, final.key) and result.key_source == final.key_source
    for place, step in enumerate(result.step.tolist()):
        found = ProgressMeasures()(run.with_model(run.run.model_at(step)))
        train, test = found.split("train"), found.split("test")
        expected = {
            "train_loss": train.loss["network"].value,
            "test_loss": test.loss["network"].value,
            "restricted_loss": test.loss["restricted"].value,
            "excluded_loss": train.loss["excluded"].value,
            "train_accuracy": train.accuracy["network"].value,
            "test_accuracy": test.accuracy["network"].value,
            **{f"gini_{name}": value for name, value in found.gini.items()},
            "squared_weights": found.squared_weights,
        }
        assert {name: float(curve[place]) for name, curve in result.curves.items()} == expected
    assert (result.table()["step"] == result.step.numpy()).all()


def test_phases_are_read_off_the_curves(result):
    curves = {name: curve.numpy() for name, curve in result.curves.items()}
    assert result.ends == phase_ends(result.step.tolist(), curves, fitted=0.1, dropped=0.5)
    before = 0
    for name, first, last in result.spans():
        assert first == before and last == result.end(name).step > first
        before = last
    frame = result.to_frame()
    assert frame["phase"].tolist() == list(EXPECTED) and (frame["ends"].isna() == (frame["reason"] != "")).all()


def made_up():
    """The result of a run that does what the paper says."""
    steps = torch.tensor([0, 10, 100, 1000])
    curves = {
        "train_loss": [4.0, 0.1, 0.01, 0.01],
        "test_loss": [4.0, 9.0, 3.0, 0.1],
        "restricted_loss": [4.0, 4.0, 1.0, 0.01],
        "excluded_loss": [4.0, 0.5, 5.0, 5.1],
        "train_accuracy": [0.0, 1.0, 1.0, 1.0],
        "test_accuracy": [0.0, 0.1, 0.5, 1.0],
        "gini_embedding": [0.1, 0.12, 0.2, 0.8],
        "squared_weights": [50.0, 90.0, 60.0, 30.0],
    }
    tensors = {name: torch.tensor(values, dtype=torch.float64) for name, values in curves.items()}
    ends = phase_ends(steps.tolist(), {k: v.numpy() for k, v in tensors.items()}, fitted=0.1, dropped=0.5)
    return TrainingPhasesResult(steps, tensors, ends, torch.tensor([3]), "given")


def test_changes_compare_each_phase_with_the_papers_picture():
    result = made_up()
    assert result.spans() == [("memorization", 0, 10), ("circuit formation", 10, 100), ("cleanup", 100, 1000)]
    changes = result.changes().set_index(["phase", "measure"])
    assert len(changes) == sum(map(len, EXPECTED.values()))
    row = changes.loc[("circuit formation", "excluded_loss")]
    assert (row["start"], row["end"], row["expected"], row["holds"]) == (0.5, 5.0, "rises", True)
    assert changes["holds"].all()


def test_the_figure_has_a_ground_for_every_phase(tmp_path):
    result = made_up()
    figure = result.plot()
    assert [note.text for note in figure.layout.annotations] == [f"<b>{name}</b>" for name in EXPECTED]
    assert len(figure.layout.shapes) == 9 and figure.layout.yaxis.type == "log"
    assert {trace.name for trace in figure.data} >= {"train", "test", "restricted, test", "excluded, train"}
    result.save(tmp_path / "r.safetensors")
    loaded = TrainingPhasesResult.load(tmp_path / "r.safetensors")
    pd.testing.assert_frame_equal(loaded.to_frame(), result.to_frame())
    pd.testing.assert_frame_equal(loaded.changes(), result.changes())


def test_without_a_key_frequency_there_is_no_memorization_to_end(tiny_run):
    result = TrainingPhases(multiple=1e9)(tiny_run)
    assert not len(result.key) and "no key frequency stands out" in result.ends[0].reason
    torch.testing.assert_close(result.curves["excluded_loss"], result.curves["train_loss"])
    assert result.plot().data and not len(result.changes())
    (note,) = (each.text.replace("<br>", " ") for each in result.plot().layout.annotations)
    assert note.startswith("memorization: no end, because no key frequency stands out") and "cleanup: " in note


def test_a_phase_without_a_length_says_so_on_the_figure():
    result = made_up()
    ends = (dataclasses.replace(result.ends[0], step=0), *result.ends[1:])
    figure = dataclasses.replace(result, ends=ends).plot()
    (note,) = figure.layout.annotations
    assert note.text.split("<br>") == [
        "memorization: it would end at step 0, not after its start",
        "circuit formation: it ends at step 100, and has no start",
        "cleanup: it ends at step 1,000, and has no start",
    ]
    assert figure.layout.margin.b > result.plot().layout.margin.b


def test_legends_stand_beside_the_panels():
    layout = made_up().plot().layout
    assert layout.legend.x > 1 and layout.legend2.x > 1 and layout.margin.r > 100
    assert layout.yaxis.type == "log"


def test_what_it_needs(run, planted):
    with pytest.raises(MissingNeedError, match="needs run"):
        TrainingPhases()(planted.subject)
    with pytest.raises(MissingNeedError, match="at least three checkpoints"):
        TrainingPhases()(dataclasses.replace(run, run=Short(run.run)))
    for settings in ({"fitted": 1.5}, {"dropped": 0}, {"relative": 2}):
        with pytest.raises(ConfigError):
            TrainingPhases(**settings)
    with pytest.raises(ConfigError, match="reads a whole run"):
        mm.over_training(run, "training_phases")


class Short:
    def __init__(self, run):
        self._run = run

    def checkpoint_steps(self):
        return self._run.checkpoint_steps()[:2]
