"""Every figure over training is the figure that the checkpoint alone gives."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

import mechmem as mm
from mechmem.analyses.neuron_spectrum import NeuronSpectrum
from mechmem.auditing.assemble import split_accuracies
from mechmem.auditing.structure import held_out_structure
from mechmem.dynamics import OverTraining, over_training
from mechmem.errors import ConfigError, MissingNeedError, RunDirectoryError, UnknownNameError
from mechmem.extractors import extractor
from mechmem.plotting.over_training import drawn
from mechmem.plugins import plugins
from mechmem.scoring import score
from mechmem.training.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with enough held-out cells for the structure."""
    config = mm.TrainConfig(
        task=mm.ModularConfig(p=11, train_fraction=0.5, noise=mm.LabelNoise(0.2)),
        model=mm.MLPConfig(width=16),
        steps=30,
        lr=0.01,
        evaluations=5,
        checkpoints=3,
    )
    return mm.train(config, out=tmp_path_factory.mktemp("runs") / "eleven", progress=False)


WHAT = ["raw", "frequency+quadratic", "ipr", "structure", "neuron_spectrum"]


@pytest.fixture(scope="module")
def curves(run) -> OverTraining:
    return over_training(run, WHAT)


def test_each_step_holds_what_its_checkpoint_gives(run, curves):
    assert curves.step.tolist() == run.run.checkpoint_steps() and len(curves.step) > 2
    for position, step in enumerate(curves.step.tolist()):
        then = mm.load(run.run.path, step=step)
        for name in ("raw", "frequency+quadratic"):
            found = curves.frame(name).query("step == @step").set_index("split")
            for split, cell in split_accuracies(extractor(name)(then), then.task).items():
                assert tuple(found.loc[split, ["value", "low", "high", "n"]]) == dataclasses.astuple(cell.estimate)
        values = score("ipr")(then).values.double()
        assert torch.equal(curves.values("ipr")[position], values)
        row = curves.frame("ipr").query("step == @step").iloc[0]
        assert row["mean"] == pytest.approx(float(values.mean())) and row["n"] == 16
        assert row["q05"] == pytest.approx(np.quantile(values, 0.05)) and row["q50"] == np.median(values)
        structure = held_out_structure(then)
        found = curves.frame("structure").query("step == @step").set_index("quantity")
        assert found.loc["S", "value"] == structure.S.value and found.loc["kappa", "high"] == structure.kappa.high
        assert found.loc["Z", "value"] == structure.Z and set(found["verdict"]) == {structure.verdict}
        own = curves.frame("neuron_spectrum").query("step == @step").drop(columns="step").reset_index(drop=True)
        pd.testing.assert_frame_equal(own, NeuronSpectrum()(then).to_frame())


def test_each_checkpoint_is_opened_once(run, monkeypatch):
    opened = []
    original = Run.model_at
    monkeypatch.setattr(Run, "model_at", lambda self, step: opened.append(step) or original(self, step))
    over_training(run, ["raw", "ipr", "additive_free"], steps=[30, 0])
    assert opened == [0, 30]


def test_a_path_and_a_plugin_are_taken_as_well(run, curves):
    again = over_training(run.run.path, [extractor("raw"), score("ipr"), NeuronSpectrum()])
    for name in ("raw", "ipr", "neuron_spectrum"):
        pd.testing.assert_frame_equal(again.frame(name), curves.frame(name))
    assert list(over_training(str(run.run.path), "ipr(two_sided)", steps=[0]).measured) == ["ipr(convention=two_sided)"]


def test_the_whole_table_names_each_thing(curves):
    frame = curves.to_frame()
    assert frame.columns[:2].tolist() == ["what", "step"] and frame["what"].unique().tolist() == WHAT
    assert len(frame) == sum(len(curves.frame(name)) for name in WHAT)


def test_what_cannot_be_measured_has_its_reason(tiny_run):
    bare = dataclasses.replace(tiny_run, roles=mm.Roles())
    found = over_training(bare, ["raw", "frequency", "ipr", "neuron_spectrum", "structure"])
    assert found.frame("raw")["value"].notna().all()
    for name in ("frequency", "ipr", "neuron_spectrum"):
        assert found.frame(name)["reason"].str.contains("needs").all() and len(found.frame(name)) == len(found.step)
    assert found.frame("structure")["reason"].str.contains("too few").all()
    with pytest.raises(ConfigError, match="no score"):
        found.values("raw")
    text = [trace.text[0] for trace in found.plot().data if trace.mode == "text"]
    assert len(text) == 3 and all("not measured" in each for each in text)


def test_names_and_steps_that_do_not_exist_are_refused(run, curves):
    with pytest.raises(UnknownNameError, match=r"'frequncy'. Did you mean 'frequency'\? extractors: .*scores: .*ipr"):
        over_training(run, "frequncy")
    with pytest.raises(UnknownNameError, match="Did you mean 'structure'.*analyses: .*neuron_spectrum.*'structure'"):
        over_training(run, "structur")
    with pytest.raises(UnknownNameError, match="no extractor 'quadratik'"):
        over_training(run, "frequency+quadratik")
    with pytest.raises(RunDirectoryError, match=r"no checkpoint at step 7; it has 0, 1, .*30"):
        over_training(run, "raw", steps=[0, 7])
    with pytest.raises(ConfigError, match="no step"):
        over_training(run, "raw", steps=[])
    with pytest.raises(ConfigError, match="nothing to measure"):
        over_training(run, [])
    with pytest.raises(ConfigError, match="got a int"):
        over_training(run, [3])
    with pytest.raises(UnknownNameError, match="Did you mean 'ipr'"):
        curves.frame("ipl")


@pytest.mark.parametrize("name", ["training_curves", "training_times", "fitting_order"])
def test_what_reads_a_whole_run_is_not_repeated_at_each_step(run, name):
    with pytest.raises(ConfigError, match="reads a whole run"):
        over_training(run, name)


def test_a_network_without_a_run_is_refused(planted):
    with pytest.raises(MissingNeedError, match="has no run"):
        over_training(planted.subject, "raw")


def test_a_name_of_two_kinds_is_refused(run, monkeypatch):
    real = plugins

    def clashing(kind):
        return {**real(kind), "ipr": NeuronSpectrum} if kind == "analyses" else real(kind)

    monkeypatch.setattr("mechmem.dynamics.plugins", clashing)
    with pytest.raises(ConfigError, match="'ipr' is the name of scores and of analyses"):
        over_training(run, "ipr")


def test_no_two_kinds_share_a_name():
    kinds = ({"raw", *plugins("surgeries"), *plugins("readouts")}, set(plugins("scorers")), set(plugins("analyses")))
    every = [name for names in kinds for name in names] + ["structure"]
    assert len(every) == len(set(every))


def test_saved_and_loaded_it_is_the_same(curves, tmp_path):
    curves.save(tmp_path / "c.safetensors")
    loaded = OverTraining.load(tmp_path / "c.safetensors")
    for name in WHAT:
        pd.testing.assert_frame_equal(loaded.frame(name), curves.frame(name))
    assert torch.equal(loaded.values("ipr"), curves.values("ipr"))
    pd.testing.assert_frame_equal(loaded.to_frame(), curves.to_frame())


def test_accuracies_and_structure_stand_on_one_figure_over_the_same_steps(run, curves):
    figure = curves.plot(["raw", "structure"])
    shown = {trace.name for trace in figure.data if trace.showlegend is not False}
    assert {"train, clean", "train, noisy (given labels)", "test", "S", "κ", "held-out vote"} <= shown
    assert {trace.yaxis for trace in figure.data} == {"y", "y2"} and figure.layout.xaxis2.title.text
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    for trace in lines:
        assert list(trace.x)[1:] == run.run.checkpoint_steps()[1:]
    kappa = next(trace for trace in lines if trace.name == "κ")
    wanted = curves.frame("structure").query("quantity == 'kappa'")["value"]
    np.testing.assert_array_equal(kappa.y, wanted)


def test_everything_is_drawn_in_panels_that_do_not_overlap(curves):
    figure = curves.plot()
    axes = [figure.layout[name] for name in figure.layout if name.startswith("yaxis")]
    domains = sorted(axis.domain for axis in axes)
    assert all(below[1] < above[0] for below, above in zip(domains[:-1], domains[1:], strict=True))
    assert domains[0][0] >= 0 and domains[-1][1] <= 1 and all(axis.title.text for axis in axes)
    titles = [note.text for note in figure.layout.annotations]
    assert titles[:4] == [
        "<b>test accuracy</b>",
        "<b>raw</b>",
        "<b>frequency+quadratic</b>",
        "<b>ipr, distribution</b>",
    ]
    means = next(
        t
        for t in figure.data
        if t.yaxis == f"y{1 + titles.index('<b>neuron_spectrum: key_share</b>')}"
        and t.y is not None
        and t.mode == "lines+markers"
    )
    wanted = curves.frame("neuron_spectrum").groupby("step")["key_share"].mean()
    np.testing.assert_allclose(means.y, wanted, rtol=1e-6)


def test_a_table_without_measured_numbers_asks_for_its_frame(run):
    found = over_training(run, "cell_outcomes", steps=[0, 30])
    assert set(found.frame("cell_outcomes")["step"]) == {0, 30}
    with pytest.raises(ConfigError, match="use frame"):
        found.plot()


def test_progress_is_shown_where_it_is_asked_for(run, capsys):
    over_training(run, "raw", steps=[0])
    assert capsys.readouterr() == ("", "")
    over_training(run, "raw", steps=[0], progress=True)


def test_tables_are_averaged_within_their_splits():
    rows = [("train_clean", 0, 0.0, 0.2), ("train_clean", 0, 0.0, 0.4), ("test", 0, 0.0, 0.9), ("test", 5, 0.0, 0.5)]
    frame = pd.DataFrame(rows, columns=["split", "step", "low", "value"])
    (title,), (figure,) = zip(*drawn({"table": ("analysis", frame)}, 0.1).items(), strict=True)
    lines = {trace.name: list(trace.y) for trace in figure.data if trace.mode == "lines+markers"}
    assert title == "table" and set(lines) == {"train, clean", "test"}
    assert lines["train, clean"] == pytest.approx([0.3]) and lines["test"] == [0.9, 0.5]
