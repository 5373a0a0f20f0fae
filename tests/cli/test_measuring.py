"""Commands that measure a run: a table, JSON, or a file in the format of its suffix."""

import errno
import json
import shutil

import pandas as pd
import pytest

import mechmem as mm
from mechmem.cli.main import main

COMMANDS = {
    "discover": (lambda run: mm.discover_rule(run), []),
    "analyse": (lambda run: mm.analyse(run, "logit_spectrum"), ["logit_spectrum"]),
    "ablate": (lambda run: mm.ablate(run, by="weight_norm", points=3), ["--by", "weight_norm", "--points", "3"]),
    "patch": (lambda run: mm.patch(run, metric="probability"), ["--metric", "probability"]),
    "neuron": (lambda run: mm.neuron(run, 2), ["2"]),
    "label-issues": (
        lambda run: mm.label_issues(run, "margin", count=3, point="inputs"),
        ["--score", "margin", "--count", "3", "--point", "inputs"],
    ),
    "over-training": (lambda run: mm.over_training(run, ["raw", "weight_norm"]), ["raw", "weight_norm"]),
}


@pytest.fixture(scope="module")
def runs(tiny_config, tmp_path_factory):
    """Two runs of different seeds, by path."""
    folder = tmp_path_factory.mktemp("measured")
    config = mm.TrainConfig(
        mm.ModularConfig(p=7, train_fraction=0.6, noise=mm.LabelNoise(0.2)), mm.MLPConfig(24), steps=20, checkpoints=2
    )
    for seed in (0, 1):
        mm.train(mm.TrainConfig(**{**vars(config), "seed": seed}), out=folder / str(seed), progress=False)
    return [str(folder / "0"), str(folder / "1")]


def without_time(frame):
    return frame.drop(columns=[name for name in frame if "seconds" in str(name)])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_gives_what_its_function_gives(name, runs, tmp_path, capsys):
    measure, options = COMMANDS[name]
    wanted = measure(mm.load(runs[0]))
    out = tmp_path / "table.csv"
    assert main([name, runs[0], *options, "--out", str(out), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    wanted.to_frame().to_csv(tmp_path / "wanted.csv", index=False)
    pd.testing.assert_frame_equal(pd.read_csv(out), pd.read_csv(tmp_path / "wanted.csv"))
    assert main([name, runs[0], *options, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert "sentence" in said and (name == "discover" or len(said["rows"]) == len(wanted.to_frame()))
    assert main([name, runs[0], *options]) == 0
    shown = capsys.readouterr().out
    assert shown.strip() and max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    "line", ["compare RUN RUN", "analyse RUN logit_spectrum", "over-training RUN raw", "patch RUN"]
)
def test_no_work_is_done_for_a_picture_that_cannot_be_drawn(line, runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", "/no/such/file")
    monkeypatch.setattr("mechmem.cli.running._load_libraries", lambda: pytest.fail("libraries were loaded"))
    line = [runs[0] if word == "RUN" else word for word in line.split()]
    assert main([*line, "--out", str(tmp_path / "x.svg")]) == 2
    assert "pictures need Chromium" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("columns", ["0", "00", "", "80"])
def test_an_unknown_width_is_no_width_of_nothing(columns, runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["analyse", runs[0], "logit_spectrum"]) == 0
    assert "additive" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "shown"),
    [(["analyse", "logit_spectrum", "--out", "table.html"], "k1"), (["audit", "--out", "audited"], "extractor")],
)
def test_a_full_disk_fails_the_command_and_does_not_lose_what_was_measured(
    line, shown, runs, tmp_path, capsys, monkeypatch
):
    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.chdir(tmp_path)
    main(["audit", runs[0], "--quiet"])  # the controls are trained before the disk is full
    monkeypatch.setattr("mechmem.core.files.os.fsync", full)
    assert main([line[0], runs[0], *line[1:]]) == 1
    said = capsys.readouterr()
    assert shown in said.out and "No space left on device" in said.err and "Traceback" not in said.err


def test_a_state_is_chosen_by_its_step(runs, capsys):
    assert main(["analyse", runs[0], "logit_spectrum", "--step", "0", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["rows"]
    wanted = mm.analyse(mm.load(runs[0], step=0), "logit_spectrum").to_frame()
    assert first[0]["before"] == pytest.approx(wanted["before"][0])


def test_runs_in_folders_of_one_name_are_told_apart_by_their_paths(runs, tmp_path, capsys):
    folders = [str(tmp_path / place / "copy") for place in ("left", "right")]
    for run, folder in zip(runs, folders, strict=True):
        shutil.copytree(run, folder)
    assert main(["compare", *folders, "--extractors", "raw", "--json"]) == 0
    assert {row["name"] for row in json.loads(capsys.readouterr().out)["rows"]} == {"left/copy", "right/copy"}


def test_runs_are_compared_and_pooled(runs, tmp_path, capsys):
    assert main(["compare", *runs, "--extractors", "raw", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 2
    assert main(["audit", *runs, "--extractors", "raw", "--json", "--quiet", "--out", str(tmp_path / "pooled")]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["task"]["runs"] == 2 and {each.name for each in (tmp_path / "pooled").iterdir()} == {
        "scorecard.json",
        "report.html",
    }


def test_a_longer_table_says_what_it_leaves_out(runs, capsys):
    assert main(["ablate", runs[0], "--points", "24"]) == 0
    assert "rows" in capsys.readouterr().out.splitlines()[-1]


def test_a_page_to_explore_is_written_and_its_place_and_size_are_told(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["explore", runs[0], "--json", "--quiet"]) == 0
    page = tmp_path / "explore.html"
    assert json.loads(capsys.readouterr().out) == {"page": "explore.html", "bytes": page.stat().st_size}
    out = tmp_path / "deep" / "first.html"
    assert main(["explore", runs[0], "--out", str(out), "--step", "0"]) == 0
    assert capsys.readouterr().out == f"Page: {out} ({out.stat().st_size / 1e6:.1f} MB)\n"
    assert '"own":0,' in out.read_text(encoding="utf-8") and '"own":2,' in page.read_text(encoding="utf-8")


def test_suspect_labels_are_listed_and_reviewed(runs, tmp_path, capsys):
    page = tmp_path / "review.html"
    assert main(["label-issues", runs[0], "--score", "margin", "--count", "2", "--review", str(page)]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith(f"Written: {page}\n") and "suspect" in shown
    first = mm.label_issues(mm.load(runs[0]), "margin", count=2)
    assert all(f'"id": {example},' in page.read_text(encoding="utf-8") for example in first.ids[:2].tolist())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("label-issues RUN --score marjin", "Did you mean 'margin'"),
        ("label-issues RUN --review x.csv", "--review must end in .html or .htm"),
        ("label-issues RUN --review x.html --out ./x.html", "--review and --out must be two files"),
        ("analyse RUN logit_spektrum", "Did you mean 'logit_spectrum'"),
        ("analyse RUN", "Missing from mechmem analyse"),
        ("neuron RUN 900", "no neuron 900"),
        ("neuron RUN two", "must be a whole number, got two"),
        ("ablate RUN --by ipz", "Did you mean 'ipr'"),
        ("ablate RUN --value nothing", "zero"),
        ("patch RUN --donor nowhere", "nowhere"),
        ("over-training RUN rawe", "Did you mean"),
        ("over-training RUN", "over-training takes at least one measurement: an extractor"),
        ("compare RUN", "compare takes at least two run directories"),
        ("audit RUN RUN", "given twice"),
        ("list reedouts", "Did you mean 'readouts'"),
        ("analyse RUN logit_spectrum --out x.gif", "--out must end in .svg"),
        ("analyse RUN logit_spectrum --step 3", "no checkpoint at step 3"),
        ("explore RUN --out x.csv", "--out must end in .html or .htm"),
        ("explore RUN --step 3", "no checkpoint at step 3"),
    ],
)
def test_what_is_wrong_is_one_line(line, said, runs, capsys):
    assert main([runs[0] if word == "RUN" else word for word in line.split()]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1
