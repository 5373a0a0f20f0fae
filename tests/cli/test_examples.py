"""Scores of examples from the command line."""

import json

import pandas as pd
import pytest

import mechmem as mm
from mechmem.cli.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "masked"
    options = "--train 60 --test 30 --label-noise 0.3 --widths 24 24 --steps 30 --batch-size 20 --quiet".split()
    masks = ["--unbiased", "--masks", "turn_over", "--keep", "0.4", "--mask-layers", "0", "-1", "--mask-seed", "3"]
    assert main(["train-images", "digits", *options, *masks, "--clip-norm", "0", "--out", str(out)]) == 0
    return out


def test_options_of_masks_are_the_configs(run):
    model = mm.load(run).run.config.model
    assert model.masks == mm.TurnOver(layers=(0, -1), seed=3, keep=0.4) and not model.biases


def test_scores_are_printed_and_written(run, tmp_path, capsys):
    out = tmp_path / "scores.csv"
    assert main(["examples", str(run), "--scores", "self_influence", "tracin", "--out", str(out), "--most", "3"]) == 0
    shown = capsys.readouterr().out
    assert "60 training examples, 18 wrongly labelled" in shown and "most suspect" in shown
    assert all(line.isascii() or "–" in line or len(line) <= 80 for line in shown.splitlines())
    frame = pd.read_csv(out)
    table = mm.example_scores(mm.load(run), ["self_influence", "tracin"])
    assert list(frame.columns) == list(table.to_frame().columns) and frame["id"].tolist() == table.ids.tolist()
    assert frame["self_influence"].tolist() == pytest.approx(table["self_influence"].values.tolist())
    assert f"self_influence: {', '.join(map(str, table['self_influence'].most(3).tolist()))}" in shown


def test_json_has_every_figure_and_what_is_missing(run, capsys):
    assert main(["examples", str(run), "--scores", "flip_cost(point=nowhere)", "margin", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["score"] for row in found["detection"]} == {"loss", "margin"} and found["reason"] == ""
    assert "nowhere" in found["missing"]["flip_cost(point=nowhere)"] and len(found["most"]["margin"]) == 8


def test_a_run_without_wrong_labels_has_no_table(tmp_path, capsys):
    command = ["train", "--p", "7", "--steps", "5", "--label-noise", "0", "--quiet", "--out", str(tmp_path / "run")]
    assert main(command) == 0
    assert main(["examples", str(tmp_path / "run"), "--scores", "margin"]) == 0
    assert "no label is wrong" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scores", "margn"], "Did you mean 'margin'"),
        (["--scores", "flip_cost(point=nowhere)"], "no flip_cost(point=nowhere): "),
        (["--out", "scores.txt"], "--out must be a file named *.csv"),
        (["--most", "0"], "--most must be a whole number"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line(run, options, message, capsys):
    assert main(["examples", str(run), *options]) == 2
    found = capsys.readouterr().err
    assert message in found and found.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keep", "0.5"], "--keep is an option of --masks turn_over, not of --masks none"),
        (["--masks", "turn_over", "--memory-units", "0.1"], "--memory-units is an option of --masks example_tied"),
        (
            ["--mask-layers", "0"],
            "--mask-layers is an option of --masks turn_over or example_tied, not of --masks none",
        ),
        (["--masks", "turn_over", "--keep", "1"], "keep probability must lie between 0 and 1"),
        (["--masks", "turn_over", "--clip-norm", "1"], "couples the examples"),
    ],
)
def test_options_of_masks_that_do_not_fit_are_refused(options, message, tmp_path, capsys):
    assert main(["train", "--p", "7", *options, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("default")
def test_a_leak_is_one_line_of_warning(tmp_path, capsys):
    command = "train --p 7 --steps 2 --bias --masks turn_over --quiet --out".split()
    assert main([*command, str(tmp_path / "run")]) == 0
    found = capsys.readouterr().err
    assert found.startswith("mechmem: warning: turn-over dropout is not isolated") and found.count("\n") == 1
