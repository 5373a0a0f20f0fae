"""Every figure over training is the figure that the checkpoint alone gives."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from plotly.graph_objects import Figure
from plugin_names import example_score, score

import mechmem as mm
from mechmem.analyses.dynamics import OverTraining, over_training
from mechmem.analyses.logits.progress_measures import ProgressMeasures
from mechmem.analyses.neurons.neuron_spectrum import NeuronSpectrum
from mechmem.core.plugins import plugins
from mechmem.errors import ConfigError, MissingNeedError, RunDirectoryError, UnknownNameError
from mechmem.plotting.over_training import drawn
from mechmem.scorecard.audit import split_accuracies
from mechmem.scorecard.extractor import extractor
from mechmem.scorecard.structure import held_out_structure
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
    with pytest.raises(ConfigError, match="not a score"):
        found.values("raw")
    text = said(found.plot())
    assert len(text) == 4 and all("not measured" in each for each in text)
    assert "too few" in text[3] and "needs" in text[0]


def test_names_and_steps_that_do_not_exist_are_refused(run, curves):
    with pytest.raises(UnknownNameError, match=r"'frequncy'. Did you mean 'frequency'\? .*`mechmem list`"):
        over_training(run, "frequncy")
    with pytest.raises(UnknownNameError, match="Did you mean 'structure'.*an analysis.*'structure'"):
        over_training(run, "structur")
    with pytest.raises(UnknownNameError, match="no extractor 'quadratik'"):
        over_training(run, "frequency+quadratik")
    with pytest.raises(RunDirectoryError, match=r"no checkpoint at step 7; it has 0, 1, .*30"):
        over_training(run, "raw", steps=[0, 7])
    with pytest.raises(ConfigError, match="no step"):
        over_training(run, "raw", steps=[])
    with pytest.raises(ConfigError, match="nothing to measure"):
        over_training(run, [])
    with pytest.raises(ConfigError, match=r"what must be a string or an Extractor .*got \[3\]"):
        over_training(run, [3])
    with pytest.raises(ConfigError, match="takes a Subject with a run, or a run's path; got a HookedMLP"):
        over_training(run.model, "raw")
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

    monkeypatch.setattr("mechmem.analyses.measuring.plugins", clashing)
    with pytest.raises(ConfigError, match="'ipr' is the name of neuron scores and of analyses"):
        over_training(run, "ipr")


def test_a_probe_of_a_layer_is_named_as_anywhere(run):
    name = "class_mean@hidden.0"
    found = over_training(run, name).frame(name)
    last = found.loc[(found["split"] == "test") & (found["step"] == found["step"].max()), "value"]
    assert last.tolist() == [split_accuracies(extractor(name)(run), run.task)["test"].estimate.value]


def test_no_two_kinds_share_a_name():
    kinds = (
        {"raw", *plugins("surgeries"), *plugins("readouts")},
        set(plugins("neuron_scores")),
        set(plugins("analyses")),
    )
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


def said(figure):
    """What is written in panels that have no curve."""
    return [trace.text[0].replace("<br>", " ") for trace in figure.data if trace.mode == "text"]


def test_a_table_without_measured_numbers_asks_for_its_frame(run):
    found = over_training(run, "cell_outcomes", steps=[0, 30])
    assert set(found.frame("cell_outcomes")["step"]) == {0, 30}
    assert said(found.plot()) == ["no column of measurements to draw over steps: use frame('cell_outcomes')"]


def test_progress_is_shown_where_it_is_asked_for(run, capsys):
    over_training(run, "raw", steps=[0])
    assert capsys.readouterr() == ("", "")
    over_training(run, "raw", steps=[0], progress=True)


def curves_of(table):
    """The panels of an analysis' table: line by name, each as (steps, values)."""
    panels = drawn({"table": ("analysis", table)}, 0.1)
    return {
        title: {t.name: (list(t.customdata), list(t.y)) for t in figure.data if t.mode == "lines+markers"}
        for title, figure in panels.items()
    }


def test_rows_of_neurons_are_averaged_within_their_splits():
    rows = [("train_clean", 0, 0, 0.2), ("train_clean", 0, 1, 0.4), ("test", 0, 0, 0.9), ("test", 5, 0, 0.5)]
    frame = pd.DataFrame(rows, columns=["split", "step", "neuron", "value"])
    assert curves_of(frame) == {
        "table": {"train, clean": ([0], [pytest.approx(0.3)]), "test": ([0, 5], [0.9, 0.5])},
    }
    figure = drawn({"table": ("analysis", frame)}, 0.1)["table"]
    assert "mean over neurons" in figure.layout.yaxis.title.text


@pytest.mark.slow
def test_different_things_are_never_averaged(run):
    """One line per network and figure, at the values and intervals of the table itself."""
    found = over_training(run, "clock_or_pizza")
    frame = found.frame("clock_or_pizza")
    panels = curves_of(frame)
    assert list(panels) == ["table: distance irrelevance", "table: gradient symmetricity"]
    for title, lines in panels.items():
        assert list(lines) == ["this network", "at initialisation"]
        for name, (steps, values) in lines.items():
            rows = frame.loc[(frame["network"] == name) & ("table: " + frame["figure"] == title)]
            known = rows.dropna(subset="value")
            assert values == known["value"].tolist() and steps == known["step"].tolist()
    band = next(trace for trace in found.plot().data if trace.fill == "toself")
    assert band.y[0] == frame["high"].iloc[0] and band.y[-1] == frame["low"].iloc[0]


def test_an_interval_belongs_to_the_column_before_it():
    columns = {"step": [0, 5], "split": "test", "fraction": 0.5, "accuracy": [0.1, 0.3], "low": 0.0, "high": 1.0}
    figures = drawn({"t": ("analysis", pd.DataFrame(columns))}, 0.1)
    bands = {title: sum(trace.fill == "toself" for trace in figure.data) for title, figure in figures.items()}
    assert bands == {"t: fraction": 0, "t: accuracy": 1}
    assert figures["t: accuracy"].layout.yaxis.title.text == "accuracy (95 % interval)"


def test_names_that_change_over_steps_do_not_break_a_line():
    """What a row's own step and split tell apart already is no part of its line's name."""
    columns = {"step": [0, 0, 5, 5], "split": ["train_clean", "test"] * 2, "value": [0.1, 0.2, 0.3, 0.4]}
    frame = pd.DataFrame(columns | {"phase": ["none", "none", "grokking", "none"], "reason": ["", "x", "y", "z"]})
    assert curves_of(frame)["table"] == {"train, clean": ([0, 5], [0.1, 0.3]), "test": ([0, 5], [0.2, 0.4])}


def many(components, splits=("train_clean", "test")):
    rows = [(s, split, f"c{c}", c + s) for s in (0, 5) for split in splits for c in range(components)]
    return pd.DataFrame(rows, columns=["step", "split", "component", "value"]).astype({"value": float})


def test_of_many_lines_those_on_test_are_drawn_and_of_too_many_none():
    assert list(curves_of(many(6))["table"])[:2] == ["train, clean, c0", "train, clean, c1"]
    (title,), (lines,) = zip(*curves_of(many(7)).items(), strict=True)
    assert title == "table, on test" and list(lines) == [f"c{c}" for c in range(7)] and lines["c3"][1] == [3, 8]
    (figure,) = drawn({"table": ("analysis", many(13))}, 0.1).values()
    assert said(figure) == ["13 lines are too many for one panel: use frame('table')"]


def test_rows_told_apart_by_numbers_only_are_not_drawn(run):
    assert said(over_training(run, "operation_scan", steps=[0]).plot()) == [
        "several rows per step that differ only in numbers: use frame('operation_scan')"
    ]


def test_a_step_that_could_not_be_measured_is_left_out():
    frame = pd.concat([pd.DataFrame({"step": [0], "reason": ["no"]}), many(6)[lambda f: f["step"] == 5]])
    lines = curves_of(frame.reset_index(drop=True))["table"]
    assert len(lines) == 12 and lines["test, c1"] == ([5], [6])


@pytest.mark.slow
def test_no_line_of_any_analysis_has_two_values_at_a_step(run, monkeypatch):
    shown = []
    monkeypatch.setattr(
        "mechmem.plotting.over_training.lines",
        lambda frame, **_: shown.append(frame.dropna(subset="value")) or Figure(),
    )
    names = [name for name, cls in plugins("analyses").items() if cls().wants() != {"run"}]
    found = over_training(run, names, steps=[0, 30])
    for name in names:
        before = len(shown)
        drawn({name: ("analysis", found.frame(name))}, 0.1)
        assert len(shown) > before, name
    assert sum(map(len, shown)) > 100
    assert not any(frame.duplicated(["x", "series"]).any() or frame["series"].nunique() > 12 for frame in shown)


def test_key_frequencies_of_the_last_checkpoint_are_found_once(run, monkeypatch):
    wanted = over_training(run, "progress_measures").frame("progress_measures")
    asked = []
    original = ProgressMeasures.key_of
    monkeypatch.setattr(ProgressMeasures, "key_of", lambda self, s: asked.append(s) or original(self, s))
    pd.testing.assert_frame_equal(over_training(run, "progress_measures").frame("progress_measures"), wanted)
    assert len(asked) == 1
    monkeypatch.undo()
    each = [
        ProgressMeasures()(run.with_model(run.run.model_at(step))).to_frame() for step in run.run.checkpoint_steps()
    ]
    pd.testing.assert_frame_equal(pd.concat(each, ignore_index=True), wanted.drop(columns="step"))


def test_scores_of_examples_are_described_by_split(run):
    found = over_training(run, ["loss", "margin"])
    frame = found.frame("loss")
    last = frame[frame["step"] == frame["step"].max()].set_index("split")
    values = example_score("loss")(run)
    noisy = run.task.true(values.ids) != run.task.given(values.ids)
    for name, members in (("train_clean", ~noisy), ("train_noisy", noisy)):
        assert last.loc[name, "mean"] == pytest.approx(float(values.values[members].mean()))
        assert last.loc[name, "q25"] == pytest.approx(np.quantile(values.values[members], 0.25))
    assert torch.equal(found.values("loss")[-1], values.values)
    assert len(found.plot().data) == 8
    with pytest.raises(ConfigError, match="whole runs"):
        over_training(run, "learning_speed")
    with pytest.raises(ConfigError, match=r"input_curvature\(checkpoints=last\)"):
        over_training(run, "input_curvature")
