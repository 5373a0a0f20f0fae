"""Training on images from the command line, and refusing what belongs to another network."""

import json

import numpy as np
import pytest

import mechmem as mm
from mechmem.cli.main import main

TINY = ["--train", "60", "--test", "40", "--steps", "6", "--batch-size", "30", "--quiet"]


def refused(capsys, *arguments):
    """The one line that a refused command prints."""
    assert main(["train-images", *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("mechmem: ")
    return lines[0]


def recorded(path):
    return json.loads((path / "config.json").read_text())["config"]


def test_every_option_reaches_the_config(tmp_path):
    options = ["--model", "cnn", "--channels", "3", "4", "--batch-norm", "--projector", "5", "--label-noise", "1"]
    options += ["--noise-kind", "any", "--degrees", "10", "--translate", "0.1", "--zoom", "0.1", "--shear", "2"]
    options += ["--crop", "0.7", "--flip", "--jitter", "0.2", "--grayscale", "0.1", "--randaugment", "3"]
    options += ["--mixup", "0.5", "--views", "2", "--view-labels", "independent", "--loss", "mse", "--seed", "4"]
    out = tmp_path / "run"
    assert main(["train-images", "digits", *TINY, *options, "--out", str(out)]) == 0
    config = recorded(out)
    assert config["model"] == {"kind": "cnn", "projector": 5, "channels": [3, 4], "batch_norm": True}
    assert config["task"]["noise"] == {"kind": "label_noise", "fraction": 1.0, "distribution": "any"}
    assert config["task"]["augmentation"] == {
        "kind": "augmentation", "degrees": 10.0, "translate": 0.1, "zoom": 0.1, "shear": 2.0, "crop": 0.7, "flip": True,
        "jitter": 0.2, "grayscale": 0.1, "randaugment": 3, "mixup": 0.5, "real": False, "views": 2,
        "labels": "independent", "seed": 4,
    }  # fmt: skip
    assert (config["loss"], config["seed"], config["optimizer"], config["weight_decay"]) == ("mse", 4, "adam", 0.0)


@pytest.mark.parametrize(
    ("options", "model"),
    [
        (["--widths", "6", "5"], {"kind": "image_mlp", "projector": 0, "widths": [6, 5]}),
        (
            ["--model", "resnet", "--width", "2", "--blocks", "1", "1"],
            {"kind": "resnet", "projector": 0, "width": 2, "blocks": [1, 1]},
        ),
    ],
)
def test_networks_and_the_runs_name(tmp_path, monkeypatch, options, model):
    monkeypatch.chdir(tmp_path)
    assert main(["train-images", "digits", *TINY, *options]) == 0
    kind = "resnet" if "resnet" in options else "mlp"
    assert recorded(tmp_path / "runs" / f"digits-{kind}-noise0.4-seed0")["model"] == model


def test_arrays_on_disk_are_trained_on_and_audited(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = draw.integers(0, 100, (90, 6, 6)) + 50 * labels[:, None, None]
    mm.ImageData.from_arrays(images, labels).save("mine.npz")
    arguments = ["mine.npz", "--widths", "8", "--steps", "30", "--batch-size", "20"]
    assert main(["train-images", *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == "runs/mine-mlp-noise0.4-seed0"
    assert main(["audit", "runs/mine-mlp-noise0.4-seed0", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["extractor"] for row in rows] == ["raw", "masc@hidden.0"]


def test_options_of_another_network_are_refused(capsys):
    said = "mechmem: --channels is an option of --model cnn, not of --model mlp"
    assert refused(capsys, "digits", *TINY, "--channels", "3") == said
    assert "--widths is an option of --model mlp" in refused(capsys, "digits", "--model", "cnn", "--widths", "3")
    assert "views=" in refused(capsys, "digits", "--view-labels", "independent")
    assert "neither digits, mnist5k, a local folder" in refused(capsys, "./nothing-here", *TINY)
    assert "required" in refused(capsys)
