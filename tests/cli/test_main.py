"""The command line as its user meets it: exit statuses, one clear line per refusal, JSON, resuming."""

import fcntl
import json
import os
import subprocess
import sys

import pytest

import mechmem as mm
from mechmem.cli.main import main
from mechmem.core import files

TINY = ["--p", "7", "--width", "16", "--steps", "40", "--train-fraction", "0.6", "--quiet"]


def refused(capsys, *arguments):
    """The one line that a refused command prints."""
    assert main(list(arguments)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("mechmem: ")
    return lines[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "run"
    assert main(["train", *TINY, "--out", str(out)]) == 0
    return out


def test_version_and_help(capsys):
    assert main(["--version"]) == 0 and capsys.readouterr().out.strip().count(".") == 2
    for command in ([], ["demo"], ["train"], ["audit"], ["list"]):
        assert main([*command, "--help"]) == 0
        assert "usage: mechmem" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--p", "1"], "p must be a whole number of at least 2"),
        (["--op", "mul", "--p", "12"], "needs a prime p"),
        (["--batch-norm", "--batch-size", "1"], "BatchNorm needs at least 2 examples"),
        (["--device", "cuda:99"], "device"),
        (["--optimizer", "adamv"], "adamw"),
        (["--widht", "3"], "--width"),
        (["--p", "many"], "--p"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(capsys, tmp_path, arguments, said):
    """By the config, the command, the training and the parser; the configs' own tests refuse every setting."""
    out = tmp_path / "run"
    assert said in refused(capsys, "train", "--out", str(out), *arguments)
    assert not out.exists()


def test_a_typo_in_a_command_is_refused(capsys):
    names = "ablate, analyse, audit, compare, demo, discover, examples, explore, label-issues, list, neuron, "
    names += "over-training, patch, reproduce, sweep, sweep-images, sweep-table, train, train-images"
    wanted = f"no command 'trian'. Did you mean 'train'? One of: {names}"
    assert refused(capsys, "trian") == refused(capsys, "trian", "--p", "5") == f"mechmem: {wanted}"


def test_nothing_is_said_twice(capsys):
    """The box that a refusal comes in has a title that its text begins with."""
    assert refused(capsys, "train", "extra") == "mechmem: Unrecognized options: extra"
    line = refused(capsys, "train", "--model", "ml")
    assert line.lower().count("invalid choice") == 1 and "'mlp', 'transformer'" in line
    wanted = "no operation 'ad'. Did you mean 'add'? One of: add, multiply, subtract"
    assert refused(capsys, "train", "--op", "ad") == f"mechmem: {wanted}"


def test_training_again_resumes_and_another_config_is_refused(capsys, run):
    assert main(["train", *TINY, "--out", str(run)]) == 0
    assert "another config (it differs in model)" in refused(
        capsys, "train", *TINY, "--activation", "gelu", "--out", str(run)
    )


def test_regularization_is_set_from_the_command_line(tmp_path):
    out = tmp_path / "run"
    assert main(["train", *TINY, "--layers", "2", "--dropout", "0.1", "--batch-norm", "--out", str(out)]) == 0
    model = json.loads((out / "config.json").read_text())["config"]["model"]
    assert (model["width"], model["layers"], model["dropout"], model["batch_norm"]) == (16, 2, 0.1, True)
    assert main(["audit", str(out), "--quiet"]) == 0


def test_train_prints_json(capsys, run):
    assert main(["train", *TINY, "--json", "--out", str(run)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["step"] == 40 and 0 <= printed["test"] <= 1


@pytest.mark.slow
def test_audit_writes_a_scorecard_and_a_report(capsys, run, tmp_path):
    out = tmp_path / "audit"
    for _ in range(2):  # an earlier audit may be written over
        assert main(["audit", str(run), "--out", str(out), "--quiet"]) == 0
    card = json.loads((out / "scorecard.json").read_text())
    assert [row["extractor"] for row in card["rows"]][:3] == ["raw", "shared_subspaces+additive_free", "frequency"]
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "scorecard.json"]
    assert capsys.readouterr().out == ""


def test_audit_prints_a_table_or_json(capsys, run):
    assert main(["audit", str(run)]) == 0
    assert "frequency+quadratic" in capsys.readouterr().out
    assert main(["audit", str(run), "--json", "--extractors", "raw", "diagonal"]) == 0
    assert [row["extractor"] for row in json.loads(capsys.readouterr().out)["rows"]] == ["raw", "diagonal"]


def test_bad_runs_and_outputs_are_refused(capsys, run, tmp_path):
    assert "does not exist" in refused(capsys, "audit", str(tmp_path / "none"))
    assert "is empty" in refused(capsys, "audit", str(tmp_path))
    (tmp_path / "notes.txt").write_text("mine")
    assert "holds something else" in refused(capsys, "audit", str(tmp_path))
    assert "holds something else" in refused(capsys, "audit", str(run), "--out", str(tmp_path))
    assert "holds something else" in refused(capsys, "train", *TINY, "--out", str(tmp_path))
    assert (tmp_path / "notes.txt").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
    assert "Did you mean 'frequency'" in refused(capsys, "audit", str(run), "--extractors", "frequncy")
    assert "no checkpoint at step 39" in refused(capsys, "audit", str(run), "--step", "39")


def test_somebody_else_s_files_are_not_overwritten(capsys, run, tmp_path):
    (tmp_path / "report.html").write_text("my own")
    assert "somebody else's" in refused(capsys, "audit", str(run), "--out", str(tmp_path))
    (tmp_path / "notes").mkdir()
    assert "holds something else" in refused(capsys, "demo", "--quiet", "--out", str(tmp_path))
    assert (tmp_path / "report.html").read_text() == "my own"


def test_a_place_that_cannot_be_written_is_refused(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write" in refused(capsys, "train", *TINY, "--out", str(tmp_path / "file" / "run"))


def test_a_run_whose_config_was_edited_is_refused(capsys, tmp_path):
    out = tmp_path / "run"
    assert main(["train", *TINY, "--out", str(out)]) == 0
    text = (out / "config.json").read_text()
    (out / "config.json").write_text(text.replace('"fraction": 0.3', '"fraction": 0.5'))
    assert "changed after the run" in refused(capsys, "audit", str(out))


def test_a_second_process_keeps_out_of_a_run(capsys, tmp_path):
    out = tmp_path / "run"
    assert main(["train", *TINY, "--out", str(out)]) == 0
    opened = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        assert "another process" in refused(capsys, "train", *TINY, "--out", str(out))
    finally:
        os.close(opened)


def test_multiplication_by_a_composite_number_and_by_two(capsys, tmp_path):
    out = tmp_path / "run"
    command = [
        "train",
        "--op",
        "mul",
        "--p",
        "2",
        "--width",
        "8",
        "--steps",
        "10",
        "--train-fraction",
        "0.5",
        "--quiet",
    ]
    assert main([*command, "--out", str(out)]) == 0
    assert main(["audit", str(out), "--quiet", "--out", str(tmp_path / "audit")]) == 0
    assert "one element" in (tmp_path / "audit" / "report.html").read_text()


def test_a_diverging_run_fails_with_its_step(capsys, tmp_path):
    command = ["train", *TINY, "--optimizer", "sgd", "--lr", "1e30", "--out", str(tmp_path / "run")]
    assert main(command) == 1
    assert "at step" in capsys.readouterr().err


def test_a_run_that_cannot_be_written_fails(capsys, tmp_path, monkeypatch):
    def full(*_arguments, **_settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mechmem.training.recorder.write_checkpoint", full)
    assert main(["train", *TINY, "--out", str(tmp_path / "run")]) == 1
    assert "No space left" in capsys.readouterr().err


def test_reproduce_refuses_in_one_line(capsys, tmp_path):
    assert "Did you mean 'doshi_2024'" in refused(capsys, "reproduce", "doshi")
    assert "no claim of 'doshi_2024' 'nosuch'" in refused(capsys, "reproduce", "doshi_2024", "--claims", "nosuch")
    assert "small" in refused(capsys, "reproduce", "doshi_2024", "--scale", "tiny")
    (tmp_path / "notes.txt").write_text("mine")
    assert "notes.txt" in refused(capsys, "reproduce", "doshi_2024", "--out", str(tmp_path))


@pytest.mark.slow
def test_a_ledger_is_printed_or_written_as_json(capsys, tmp_path):
    command = ["reproduce", "liu_lu_2026", "--scale", "smoke", "--claims", "mnist"]
    assert main([*command, "--out", str(tmp_path / "r")]) == 0
    said = capsys.readouterr().out
    assert "not judged" in said and "Ledger:" in said and max(map(len, said.splitlines()[:-1])) <= 80
    assert main([*command, "--out", str(tmp_path / "r"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entries"][0]["verdict"] == "not judged"
    assert (tmp_path / "r" / "ledger.html").exists()


def test_list_names_every_plugin(capsys):
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"frequency", "random_frequency", "additive_free", "energy_ranked", "diagonal"} <= {
        p["name"] for p in listed
    }
    assert {"ipr", "keep", "suppression", "doshi_2024", "liu_lu_2026"} <= {p["name"] for p in listed}
    assert all(plugin["summary"] and plugin["cites"] for plugin in listed)
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    kinds = ["surgeries", "readouts", "neuron scores", "example scores", "analyses", "recipes"]
    assert [line.strip() for line in lines if line.strip() and not line.startswith(" ")] == kinds


def test_starting_up_loads_neither_torch_nor_transformer_lens():
    code = (
        "import sys, mechmem, mechmem.cli.main\n"
        "try: mechmem.cli.main.main(['--help'])\n"
        "finally: print(sorted({'torch', 'transformer_lens', 'pandas', 'plotly'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


@pytest.mark.slow
def test_the_demo_trains_networks_and_twins_side_by_side_and_once(tmp_path, monkeypatch):
    from mechmem.cli import demo

    def tiny(seed):
        task = mm.ModularConfig(p=11, noise=mm.LabelNoise(0.3), seed=seed)
        widths = {"hidden_rule": 24, "heavy_noise": 32}
        return {name: mm.TrainConfig(task, mm.MLPConfig(width), steps=20) for name, width in widths.items()}

    monkeypatch.setattr(demo, "demo_configs", tiny)
    out = tmp_path / "demo"
    entries = demo.run_demo(out, progress=False)
    assert [card.name for _, card in entries] == ["hidden_rule", "heavy_noise"] and (out / "report.html").exists()
    # The audits found the twins that had been trained beside the networks.
    assert [len(list(out.glob(f"{name}/twins/noise_only-*"))) for name in tiny(0)] == [1, 1]
    made = {path: path.stat().st_mtime_ns for path in out.rglob("finished.json")}
    again = demo.run_demo(out, progress=False)
    assert [card.to_json() for _, card in again] == [card.to_json() for _, card in entries]
    assert made == {path: path.stat().st_mtime_ns for path in out.rglob("finished.json")}


def test_two_demos_do_not_share_a_directory(capsys, tmp_path):
    with files.alone(tmp_path):
        assert "is being written by another process" in refused(capsys, "demo", "--quiet", "--out", str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("capability", "precision"), [("AVX2", "fp32"), ("DEFAULT", "fp32"), ("AVX512", "bf16")])
def test_the_demo_trains_in_the_precision_that_the_processor_is_fast_in(monkeypatch, capability, precision):
    from mechmem.cli.demo import demo_configs

    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    assert {config.precision for config in demo_configs(0).values()} == {precision}
