"""Training a transformer from the command line, and refusing what belongs to another network."""

import json

import pytest

from mechmem.cli.main import main

TINY = ["--p", "7", "--steps", "8", "--train-fraction", "0.6", "--quiet"]
NARROW = ["--model", "transformer", "--d-model", "8"]
SMALL = [*NARROW, "--heads", "2", "--d-mlp", "12"]


def refused(capsys, *arguments):
    """The one line that a refused command prints."""
    assert main(["train", *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("mechmem: ")
    return lines[0]


def test_every_option_reaches_the_config(tmp_path):
    options = ["--layers", "2", "--dropout", "0.1", "--activation", "gelu", "--init", "pytorch", "--d-head", "3"]
    options += ["--attention", "bidirectional", "--tokens", "2", "--layer-norm", "--biases", "all"]
    out = tmp_path / "run"
    assert main(["train", *TINY, *SMALL, *options, "--out", str(out)]) == 0
    assert json.loads((out / "config.json").read_text())["config"]["model"] == {
        "kind": "transformer", "layers": 2, "d_model": 8, "heads": 2, "d_head": 3, "d_mlp": 12, "activation": "gelu",
        "attention": "bidirectional", "tokens": 2, "layer_norm": True, "biases": "all", "init": "pytorch",
        "dropout": 0.1,
    }  # fmt: skip
    assert main(["audit", str(out), "--extractors", "frequency", "--quiet"]) == 0


def test_defaults_are_each_networks_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *TINY, "--width", "8"]) == 0
    assert main(["train", *TINY, *NARROW, "--heads", "2", "--d-mlp", "0"]) == 0
    read = {}
    for name in ("add-p7-noise0.3-seed0", "transformer-add-p7-noise0.3-seed0"):
        read[name.partition("-")[0]] = json.loads((tmp_path / "runs" / name / "config.json").read_text())["config"]
    mlp, transformer = read["add"]["model"], read["transformer"]["model"]
    assert (mlp["kind"], mlp["init"], mlp["width"], mlp["bias"]) == ("mlp", "liu_lu_2026", 8, False)
    assert (transformer["init"], transformer["biases"], transformer["d_mlp"]) == ("nanda_2023", "mlp", 0)


@pytest.mark.parametrize(
    "option", [["--width", "512"], ["--tied"], ["--bias"], ["--batch-norm"]], ids=lambda option: option[0]
)
def test_options_of_the_mlp_are_refused_for_a_transformer(capsys, option):
    assert refused(capsys, *SMALL, *option) == (
        f"mechmem: {option[0]} is an option of --model mlp, not of --model transformer"
    )


@pytest.mark.parametrize(
    "option",
    [
        ["--d-model", "128"],
        ["--heads", "4"],
        ["--d-head", "32"],
        ["--d-mlp", "512"],
        ["--attention", "causal"],
        ["--tokens", "3"],
        ["--layer-norm"],
        ["--biases", "mlp"],
    ],
    ids=lambda option: option[0],
)
def test_options_of_the_transformer_are_refused_for_an_mlp(capsys, option):
    assert f"{option[0]} is an option of --model transformer, not of --model mlp" in refused(capsys, *option)


@pytest.mark.parametrize(
    "options, said",
    [
        (["--model", "transfomer"], "'mlp', 'transformer'"),
        ([*NARROW, "--heads", "3"], "d_model must be a multiple of heads"),
        ([*SMALL, "--init", "liu_lu_2026"], "One of: doshi_2024, nanda_2023, pytorch"),
        (["--init", "nanda_2023"], "One of: doshi_2024, liu_lu_2026, pytorch"),
    ],
)
def test_bad_settings_are_refused(capsys, options, said):
    assert said in refused(capsys, *options)


def test_help_shows_both_networks_defaults(capsys):
    assert main(["train", "--help"]) == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for said in ("(default: 512)", "(default: 128)", "liu_lu_2026, transformer nanda_2023", "(default: causal)"):
        assert said in printed
