"""A sweep from its call to its table: kept, gone on with, shared, and refused."""

import json
import math
import os
import threading

import numpy as np
import pandas as pd
import pytest
import torch

import mechmem as mm
from mechmem.core.locks import taken
from mechmem.errors import ConfigError, MechmemError, RunDirectoryError, TrainingFailedError, UnknownNameError
from mechmem.sweeps.jobs import Place

BASE = mm.TrainConfig(mm.ModularConfig(p=7), mm.MLPConfig(8), steps=4, evaluations=2, checkpoints=2)
GRID = {"label_noise": [0.0, 0.3], "width": [12, 16], "seed": range(2)}


def neurons(subject):
    """A measurement of the user's own."""
    return subject.run.config.model.width


def sweep(out, grid=GRID, base=BASE, measure=("raw", neurons), **settings):
    return mm.sweep(base, grid, measure=measure, out=out, progress=False, **{"engine": "inline", **settings})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweeps") / "done"
    return out, sweep(out, measure=["raw", "ipr", "structure", "discover_rule", "partition", "training_times", neurons])


def test_there_is_a_row_for_every_cell_and_measurement(done):
    out, found = done
    frame = found.to_frame()
    assert list(frame.columns[:3]) == list(GRID) and len(frame) == 8 * 7
    raw = frame.loc[frame["measurement"] == "raw"]
    for row in raw.to_dict("records"):
        network = mm.load(out / "runs" / row["run"])
        assert network.run.config.task.noise.fraction == row["label_noise"]
        assert (network.run.config.model.width, network.run.config.seed) == (row["width"], row["seed"])
        card = mm.audit(network, ["raw"]).row("raw").splits["test"].estimate
        assert (row["value"], row["low"], row["high"]) == (card.value, card.low, card.high)
    own = frame.loc[frame["measurement"] == "neurons"]
    assert (own["value"] == own["width"]).all() and set(own["reason"]) == {""}
    assert set(frame.loc[frame["measurement"] == "structure", "verdict"]) == {"refused"}
    # Of too small a task there is no evidence, and the table says so.
    assert frame.loc[frame["measurement"] == "structure", "reason"].str.contains("too few").all()
    assert pd.read_parquet(out / "table.parquet").drop(columns="reason").equals(frame.drop(columns="reason"))


def test_the_table_is_rebuilt_from_the_directory_alone(done):
    out, found = done
    again = mm.load_sweep(out)
    assert again.to_frame().equals(found.to_frame())
    (out / "table.parquet").write_bytes(b"not a table")
    assert mm.load_sweep(out).to_frame().equals(found.to_frame())


def test_whole_tables_and_all_numbers_can_be_had(done, tmp_path):
    _, found = done
    splits = found.frame("raw")
    assert set(splits["split"]) == {"train_clean", "train_noisy", "train_noisy_true", "test"} and len(splits) == 32
    assert found.quantities("structure") == ["S", "kappa", "heldout_vote", "Z", "verdict"]
    assert found.quantities("discover_rule")[0] == "agreement"
    with pytest.raises(UnknownNameError, match="no measurement 'rw'. Did you mean 'raw'"):
        found.frame("rw")
    found.save(tmp_path / "sweep.safetensors")
    assert mm.load_result(tmp_path / "sweep.safetensors").to_frame().equals(found.to_frame())


def test_phase_diagrams_and_lines_are_means_over_seeds(done):
    _, found = done
    figure = found.plot(x="label_noise", y="width", color="raw")
    (heat,) = figure.data
    numbers = found.to_frame().query("measurement == 'raw'").groupby(["width", "label_noise"])["value"].mean()
    assert [list(row) for row in heat.z] == [
        [pytest.approx(numbers[width, noise]) for noise in (0.0, 0.3)] for width in (12, 16)
    ]
    said = [cell[2] for row in heat.customdata for cell in row]
    assert said == [f"{mean:.3f} (n = 2)" for mean in heat.z.flatten()]
    lines = found.plot(x="label_noise", y="raw:train_clean", color="width")
    assert {trace.name for trace in lines.data if trace.showlegend is not False} == {"width 12", "width 16"}
    assert "train clean accuracy" in lines.layout.yaxis.title.text
    panels = found.plot(x="label_noise", y="raw")
    assert "width" in "".join(str(trace.name) for trace in panels.data)
    for wrong, error in (
        ({"x": "nois"}, "no setting 'nois'"),
        ({"x": "seed", "y": "raw:tset"}, "no quantity of 'raw' 'tset'. Did you mean 'test'"),
        ({"x": "width", "y": "label_noise", "color": "seed"}, "one of y and color is a name of the grid"),
        ({"x": "width", "y": "rwa"}, "no setting or measurement 'rwa'"),
    ):
        with pytest.raises((ConfigError, UnknownNameError), match=error):
            found.plot(**wrong)


def test_a_phase_diagram_of_words_has_a_colour_for_each(tmp_path):
    def sized(subject):
        wide = subject.run.config.model.width > 12
        return pd.DataFrame({"side": ["a", "b"], "value": [1.0, 2.0], "phase": "wide" if wide else "narrow"})

    found = sweep(tmp_path / "s", measure=[sized, "inversion_phase", "structure"])
    assert found.quantities("sized") == ["a", "b", "phase"]
    assert {"train", "train_noisy", "phase"} <= set(found.quantities("inversion_phase"))
    heat, *legend = found.plot(x="label_noise", y="width", color="sized:phase").data
    assert [trace.name for trace in legend] == ["narrow", "wide"] and heat.z.tolist() == [[0, 0], [1, 1]]
    assert heat.customdata[1][0].tolist() == ["0", "16", "wide (2 of 2)"]
    assert [trace.name for trace in found.plot(color="structure:verdict").data[1:]] == ["refused"]
    with pytest.raises(ConfigError, match="'sized:phase' is in words, which have no lines"):
        found.plot(x="width", y="sized:phase")


def test_what_stands_is_not_done_again_and_more_can_be_added(tmp_path, monkeypatch):
    first = sweep(tmp_path / "s", {"seed": [0, 1]}, measure=["raw"])
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("*.json") if path.name != "sweep.json"}
    more = sweep(tmp_path / "s", {"seed": range(3)}, measure=["raw", "ipr"])
    assert all(path.stat().st_mtime_ns == before for path, before in made.items())
    assert len(more.to_frame()) == 6
    assert more.to_frame().query("measurement == 'raw' and seed < 2").reset_index(drop=True).equals(first.to_frame())
    monkeypatch.setattr("mechmem.sweeps.jobs.train", lambda *_, **__: pytest.fail("trained again"))
    assert sweep(tmp_path / "s", {"seed": range(3)}, measure=["raw"]).to_frame()["measurement"].unique() == ["raw"]
    assert set(mm.load_sweep(tmp_path / "s").kinds) == {"raw", "ipr"}


def test_a_cell_that_fails_says_why_and_stops_no_other(tmp_path):
    bad = {"lr": [1e-3, 1e30], "seed": range(2)}
    found = sweep(tmp_path / "s", bad, measure=["raw"])
    frame = found.to_frame()
    assert frame.loc[frame["lr"] == 1e-3, "value"].notna().all() and set(frame.loc[frame["lr"] == 1e-3, "reason"]) == {
        ""
    }
    assert frame.loc[frame["lr"] == 1e30, "reason"].str.contains("loss is").all()
    assert frame.loc[frame["lr"] == 1e30, "value"].isna().all()


def test_a_measurement_that_raises_fails_its_cell_and_is_tried_again(tmp_path):
    def fragile(subject):
        raise ZeroDivisionError("by nothing")

    frame = sweep(tmp_path / "s", {"seed": [0]}, measure=[fragile]).to_frame()
    assert frame["reason"].tolist() == ["ZeroDivisionError: by nothing"]
    assert mm.load_sweep(tmp_path / "s").to_frame()["reason"].tolist() == ["ZeroDivisionError: by nothing"]

    def fragile(subject):
        return {"a": 1.0, "b": math.inf}

    found = sweep(tmp_path / "s", {"seed": [0]}, measure=[fragile])
    assert found.quantities("fragile") == ["a", "b"] and found.numbers.frame()["value"].tolist() == [1.0, math.inf]
    assert not list((tmp_path / "s" / "failures").iterdir())


@pytest.mark.parametrize("value", [2, 2.0, True, np.float32(2), np.array([2]), torch.tensor(2.0), torch.tensor([[2]])])
def test_a_function_may_return_a_number_of_any_kind(value, tmp_path):
    def number(subject):
        return value

    (found,) = sweep(tmp_path / "s", {"seed": [0]}, measure=[number]).to_frame()["value"]
    assert found == np.asarray(value).item()


@pytest.mark.parametrize("value", [None, "2", [1, 2], torch.ones(2)])
@pytest.mark.parametrize("named", [False, True])
def test_a_function_that_returns_no_number_fails_its_cell(named, value, tmp_path):
    def number(subject):
        return {"a": 1, "b": value} if named else value

    (reason,) = sweep(tmp_path / "s", {"seed": [0]}, measure=[number]).to_frame()["reason"]
    got = f"a {type(value).__name__}" + " for 'b'" * named
    assert reason == f"number must return a number, numbers by name, or a table; got {got}"


def test_shares_are_disjoint_and_together_everything(tmp_path):
    for number in (1, 2, 3):  # counted from 1, as by some schedulers
        sweep(tmp_path / "s", share=(number, 3), engine="local")
    whole = sweep(tmp_path / "w")
    assert mm.load_sweep(tmp_path / "s").to_frame().equals(whole.to_frame())
    with pytest.raises(ConfigError, match="a share is i/n"):
        sweep(tmp_path / "s", share=(4, 3), engine="local")
    with pytest.raises(ConfigError, match="done in this process"):
        sweep(tmp_path / "s", share=(0, 3), engine="dask")


def test_it_can_be_drawn_while_it_runs(tmp_path):
    sweep(tmp_path / "s", share=(0, 2), engine="local")
    found = mm.load_sweep(tmp_path / "s")
    frame = found.to_frame()
    assert len(frame) == 16 and set(frame.loc[frame["value"].isna(), "reason"]) == {"not done yet"}
    assert found.plot(x="label_noise", y="width").data[0].z.shape == (2, 2)


def test_what_another_process_works_on_is_left_to_it_until_it_ends(tmp_path, monkeypatch):
    """The lock of a cell is held, as by another process; it is let go of while this sweep waits."""
    from mechmem.sweeps.directory import Listing, open_directory
    from mechmem.sweeps.grid import cells_of, varied
    from mechmem.sweeps.measurements import named

    cells = cells_of({"seed": [0, 1, 2]}, lambda values: varied(BASE, values))
    open_directory(tmp_path / "s", Listing.of(cells, named(["raw"])))
    cell, waited = cells[1], []
    held = taken(Place(tmp_path / "s").claim(cell.config.digest))
    held.__enter__()

    def release(seconds):
        waited.append(sorted(os.listdir(tmp_path / "s" / "measurements" / "raw")))
        held.__exit__(None, None, None)

    monkeypatch.setattr("mechmem.sweeps.running.time.sleep", release)
    frame = sweep(tmp_path / "s", {"seed": range(3)}, measure=["raw"]).to_frame()
    # The others were done first.
    assert len(waited) == 1 and len(waited[0]) == 2 and frame["value"].notna().all()


def test_a_full_disk_ends_the_sweep_and_the_same_call_goes_on(tmp_path, monkeypatch):
    from mechmem.core import files

    write, count = files.write_hashed, []

    def full(path, values):
        if "measurements" in str(path):
            count.append(path)
            if len(count) == 2:
                raise OSError(28, "No space left on device")
        write(path, values)

    monkeypatch.setattr("mechmem.sweeps.jobs.files.write_hashed", full)
    with pytest.raises(TrainingFailedError, match="no room left"):
        sweep(tmp_path / "s", {"seed": range(3)}, measure=["raw"])
    assert len(list((tmp_path / "s" / "measurements" / "raw").iterdir())) == 1
    monkeypatch.undo()
    assert sweep(tmp_path / "s", {"seed": range(3)}, measure=["raw"]).to_frame()["value"].notna().all()


def test_another_function_of_the_same_name_is_another_measurement(tmp_path):
    def made(source):
        scope = {}
        exec(source, scope)
        return scope["measured"]

    one, same, other = (
        made("def measured(s): return 1"),
        made("\n\ndef measured(s): return 1"),
        made("def measured(s): return 2"),
    )
    settings = {"out": tmp_path / "s", "grid": {"seed": [0]}}
    assert sweep(**settings, measure=[one]).to_frame()["value"].tolist() == [1]
    assert sweep(**settings, measure=[same]).to_frame()["value"].tolist() == [1]
    with pytest.raises(RunDirectoryError, match="another measurement 'measured'"):
        sweep(**settings, measure=[other])
    sweep(**settings, measure=["raw"])
    one.__name__ = "raw"
    with pytest.raises(RunDirectoryError, match="another measurement 'raw'"):
        sweep(**settings, measure=[one])


def test_what_a_function_does_to_the_network_changes_no_other_measurement(tmp_path):
    def emptied(subject):
        for each in subject.model.parameters():
            each.data.zero_()
        return 0.0

    before, after = (
        sweep(tmp_path / str(place), {"seed": [0]}, measure=names)
        .to_frame()
        .set_index("measurement")
        .loc["raw", "value"]
        for place, names in enumerate((["raw", emptied], [emptied, "raw"]))
    )
    assert before == after


def test_a_table_of_another_run_is_refused(tmp_path):
    sweep(tmp_path / "s", {"seed": [0, 1]}, measure=["raw"])
    one, other = sorted((tmp_path / "s" / "measurements" / "raw").iterdir())
    one.write_bytes(other.read_bytes())
    with pytest.raises(RunDirectoryError, match="is of another run"):
        mm.load_sweep(tmp_path / "s")


@pytest.mark.parametrize("surrounding", [torch.inference_mode, torch.no_grad])
def test_what_the_caller_has_set_in_torch_does_not_matter(surrounding, tmp_path):
    with surrounding():
        found = sweep(tmp_path / "s", {"seed": [0]}, measure=["raw"]).to_frame()
    assert found.equals(sweep(tmp_path / "t", {"seed": [0]}, measure=["raw"]).to_frame())


def test_a_directory_of_something_else_is_refused_and_left_alone(tmp_path):
    out = tmp_path / "s"
    sweep(out, {"seed": [0, 1]}, measure=["raw"])
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for grid, base, why in (
        ({"width": [4, 8]}, BASE, "holds another sweep, of seed and not of width"),
        ({"seed": [1]}, BASE, "its cell seed=0 is not in this grid"),
        ({"seed": [0, 1]}, mm.TrainConfig(BASE.task, BASE.model, steps=5), "its cell seed=0 was trained with other"),
    ):
        with pytest.raises(RunDirectoryError, match=why):
            sweep(out, grid, base)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(RunDirectoryError, match="thesis.tex"):
        sweep(tmp_path / "mine")
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "table.parquet").write_text("x")
    with pytest.raises(RunDirectoryError, match="table.parquet of no sweep"):
        sweep(tmp_path / "table")
    assert (tmp_path / "table" / "table.parquet").read_text() == "x"
    with pytest.raises(RunDirectoryError, match="holds no sweep"):
        mm.load_sweep(tmp_path / "mine")
    path = out / "sweep.json"
    values = json.loads(path.read_text())
    values["cells"][0]["values"]["seed"] = 7
    path.write_text(json.dumps(values))
    with pytest.raises(RunDirectoryError, match="does not match its hash"):
        mm.load_sweep(out)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"measure": ["raww"]}, "no measurement 'raww'. Did you mean 'raw'"),
        ({"measure": ["raw", "raw"]}, "'raw' is given twice"),
        ({"measure": [lambda subject: 1.0]}, "a function must have a name"),
        ({"measure": [3]}, "measure must be a string or an Extractor"),
        ({"engine": "slurn"}, "no engine 'slurn'. Did you mean 'slurm'"),
        ({"engine": "local", "workers": 0}, "number of workers"),
        ({"engine": "local", "settings": {"adress": 1}}, "no setting of engine 'local' 'adress'"),
        ({"engine": "slurm", "settings": {"cluster": "local"}}, "needs the number of workers"),
        ({"device": "cuda:99"}, "cuda"),
        ({"grid": {"seed": "012"}}, "seed must be a list of values"),
        ({"base": [BASE], "grid": {"seed": [1]}}, "grid varies a single config"),
    ],
    # A function's address is another one in each process.
    ids=lambda each: each if isinstance(each, str) else None,
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(settings, why, tmp_path):
    with pytest.raises(MechmemError, match=why):
        sweep(tmp_path / "s", **settings)
    assert not (tmp_path / "s").exists()


def test_configs_themselves_can_be_swept(tmp_path):
    configs = [mm.TrainConfig(BASE.task, mm.MLPConfig(width), steps=2) for width in (4, 8)]
    frame = sweep(tmp_path / "s", None, configs, measure="raw").to_frame()
    assert list(frame.columns[:2]) == ["width", "run"] and frame["width"].tolist() == [4, 8]


def test_a_table_may_have_columns_called_like_the_sweeps_own(tmp_path):
    def fragile(subject):
        return pd.DataFrame({"run": ["a", "b"], "seed": [5, 6], "value": [1.0, 2.0]})

    found = sweep(tmp_path / "s", {"seed": [0]}, measure=[fragile])
    assert mm.load_sweep(tmp_path / "s").to_frame().equals(found.to_frame())
    assert {"run", "own_run", "seed", "own_seed"} <= {*found.frame("fragile")}


def test_a_table_with_a_column_twice_is_the_reason_of_a_cell(tmp_path):
    def twice(subject):
        return pd.DataFrame([[1.0, 2.0]], columns=["a", "a"])

    (why,) = sweep(tmp_path / "s", {"seed": [0]}, measure=[twice]).to_frame()["reason"]
    assert why == "twice must return a table of different columns; got 'a' twice"


def test_a_function_that_cannot_travel_is_refused_before_anything_is_trained(tmp_path):
    lock = threading.Lock()

    def locked(subject):
        with lock:
            return 1.0

    with pytest.raises(ConfigError, match="measure: 'locked' cannot be sent to another process"):
        sweep(tmp_path / "s", {"seed": [0]}, measure=[locked], engine="local")
    assert not (tmp_path / "s").exists()
    assert sweep(tmp_path / "s", {"seed": [0]}, measure=[locked]).to_frame()["value"].tolist() == [1.0]
