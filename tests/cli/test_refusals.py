"""Wrong command lines: status 2, one line on standard error, nothing written, and no work done before."""

import dataclasses
import os
import shlex
import subprocess
import sys

import pytest

from mechmem.cli.lines import LEAST
from mechmem.cli.main import main
from mechmem.cli.running import COMMANDS

TINY = "--p 5 --width 4 --steps 2 --evaluations 1 --checkpoints 1 --quiet"
NINES = "9" * 23

LINES = [
    *(
        f"train {TINY} --{option} {NINES}"
        for option in ("steps", "evaluations", "checkpoints", "batch-size", "seed", "p", "width")
    ),
    *(f"train {TINY} --{option} {10**12}" for option in ("steps", "evaluations", "checkpoints")),
    f"train {TINY} --lr 1{'0' * 400}",
    f"train {TINY} --lr nan",
    f"train {TINY} --weight-decay -1",
    f"train {TINY} --betas 0.9",
    f"train {TINY} --label-noise 2",
    f"train {TINY} --p 7",
    f"train {TINY} --p=7",
    f"train {TINY} --quiet",
    f"train {TINY} --train-fraction 0.8 --train_fraction 0.5",
    f"train {TINY} --left-out",
    f"train {TINY} --mask-layers",
    f"train {TINY} --device cpu:7",
    f"train {TINY} --device meta",
    f"train {TINY} --group EMPTY",
    f"train {TINY} --out EMPTY",
    f"train {TINY} --out=",
    f"train {TINY} --out NULL",
    f"train {TINY} --out {'x' * 300}",
    f"train {TINY} --out {'x/' * 2000}",
    f"train {TINY} --out /proc/x",
    f"train {TINY} --out /proc/x/y/z",
    f"train {TINY} --out FILE",
    f"train {TINY} --out x/../y",
    f"train {TINY} --out FILE/run",
    f"train {TINY} --out LINK",
    f"train {TINY} --left-out 3 3",
    f"train {TINY} --label-noise 0 --stop-when 'train_noisy>=0.5'",
    "analyse RUN fitting_order --step 2",
    "list --out x",
    "sweep --p 5 --steps 2 --grid seed=1 --out LINK",
    "sweep --p 5 --steps 2 --grid seed=1 --out s --workers 500000",
    "sweep PIPE",
    "sweep DEEP",
    "sweep-images nowhere.npz --steps 2 --grid lr=0.1 --out s",
    "sweep-images digits --train 10000 --steps 2 --grid lr=0.1 --out s",
    "reproduce nanda_2023 --out LINK --workers 500000",
    "reproduce nanda_2023 --out LINK",
    "train-images digits --degrees 999 --quiet",
    "train-images digits --shear 999 --quiet",
    f"train-images digits --train {NINES} --quiet",
    "train-images EMPTY --quiet",
    "train-images FILE --quiet",
    f"train-images {'x' * 5000} --quiet",
    f"train-images digits --model resnet --width {10**8} --train 20 --test 20 --batch-size 10 --quiet",
    "train-images NULL --quiet",
    "audit RUN --out /proc/x",
    f"audit RUN --out {'x' * 300}",
    "audit RUN --out EMPTY",
    "audit RUN --out FILE",
    "audit RUN --extractors",
    "audit RUN --extractors raw raw",
    "audit RUN --extractors raw --extractors diagonal",
    "audit RUN --out a --out b",
    "audit RUN --extractors EMPTY",
    f"audit RUN --step {NINES}",
    "audit RUN --device cuda:99",
    "audit FILE",
    "audit EMPTY",
    "audit NULL",
    f"audit {'x' * 300}",
    f"audit {'x/' * 2000}",
    "audit /proc/x",
    *(
        f"{command} --out RUN/{name}"
        for command in ("over-training RUN raw", "ablate RUN", "compare RUN RUN", "discover RUN")
        for name in ("config.json", "finished.json")
    ),
    "compare RUN RUN",
    "examples RUN --out FILE/x.csv",
    "examples RUN --out /proc/x.csv",
    f"examples RUN --out {'x' * 300}.csv",
    "examples RUN --scores",
    "examples RUN --scores EMPTY",
    "examples RUN --most 0",
    f"examples RUN --most {NINES}",
    "demo --out FILE --quiet",
    "demo --out /proc/x --quiet",
    "demo --device cuda:99 --quiet",
    "demo --device gpu --out x --quiet",
    f"demo --seed {NINES} --quiet",
    "demo --seed -1 --quiet",
    "reproduce nanda_2023 --out FILE",
    "reproduce nanda_2023 --out /proc/x",
    "reproduce nanda_2023 --workers 0",
    f"reproduce nanda_2023 --workers {NINES}",
    "reproduce nanda_2023 --claims",
    "reproduce EMPTY",
    "EMPTY",
    *(
        f"train {TINY} --stop-when '{condition}'"
        for condition in ("test>=99", "test>=1.01", "test<=-1", "test>=nan", "loss>=1")
    ),
]


def parts(line, run, file):
    words = {
        "RUN": str(run),
        "FILE": str(file),
        "EMPTY": "",
        "NULL": "a\0b",
    }
    words |= {name.upper(): str(file.with_name(name)) for name in ("link", "pipe", "deep")}
    return [
        words.get(word, word.strip("'").replace("FILE/", f"{file}/").replace("RUN/", f"{run}/"))
        for word in line.split(" ")
    ]


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "run"
    assert main(["train", *TINY.split(), "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("line", LINES, ids=lambda line: line if len(line) < 80 else f"{line[:70]} and more")
def test_a_wrong_line_is_refused_at_once_and_leaves_nothing(line, run, capsys, tmp_path, monkeypatch):
    file, empty = tmp_path / "file", tmp_path / "empty"
    file.write_text("mine")
    empty.mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "deep").write_text(f"a = {'[' * 100_000}")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    monkeypatch.chdir(empty)
    before = contents(run)
    capsys.readouterr()
    assert main(parts(line, run, file)) == 2
    out, err = capsys.readouterr()
    assert err.startswith("mechmem: ") and err.count("\n") == 1 and len(err) < 700 and not out
    assert not any(empty.iterdir()) and not (tmp_path / "nowhere").exists()
    assert file.read_text() == "mine" and contents(run) == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train --p 5.0", "--p must be a whole number, got 5.0"),
        ("train --lr=1,5", "--lr must be a number, got 1,5"),
        ("train --betas 0.9", "--betas must be 2 numbers, got 0.9"),
        ("train --left-out 3 a", "--left-out must be whole numbers, got 3 a"),
        ("examples RUN --most many", "--most must be a whole number, got many"),
        ("train --widht 5", "Unrecognized options: --widht, 5. Did you mean --width?"),
        ("list --out x", "Unrecognized options: --out x"),
        ("train --p 5 --p 7", "--p is given 2 times: give it once, followed by all of its values"),
        ("audit RUN --extractors raw --extractors diagonal", "--extractors is given 2 times"),
        ("train --left-out", "nothing is given after --left-out"),
    ],
)
def test_a_wrong_option_is_named_with_what_it_takes(line, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"mechmem: {said}") and len(err) < 130


SEVERAL = [
    (name, field.name)
    for name, (command, _) in COMMANDS.items()
    for field in dataclasses.fields(command)
    if isinstance(field.type, str) and field.type.startswith("tyro.conf.Positional[tuple[")
]


@pytest.mark.parametrize(("name", "field"), SEVERAL)
@pytest.mark.parametrize("more", ["", "--json", "--quiet"])
def test_too_few_runs_are_refused_before_libraries_load(name, field, more, capsys, monkeypatch):
    monkeypatch.setattr("mechmem.cli.running._load_libraries", lambda: pytest.fail("libraries were loaded"))
    kept, least, wanted = LEAST[name]
    given = ["one"] * (least - 1 + (field != kept))
    assert kept == field and least and main([name, *([] if field == "runs" else ["run"]), *given, *more.split()]) == 2
    assert capsys.readouterr().err == f"mechmem: {name} takes at least {wanted}\n"


def test_commands_that_take_several_things_are_known():
    assert {name for name, _ in SEVERAL} == {"audit", "compare", "over-training"}


@pytest.mark.parametrize(
    "arguments", [["train", "--help"], pytest.param(["list", "--json"], marks=pytest.mark.slow)], ids=" ".join
)
def test_a_reader_that_leaves_early_ends_the_command_without_a_traceback(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "mechmem.cli.main", *arguments]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The command line of a run of a fraction of a second, without its directory."""
    return ["train", "--p", "5", "--width", "12", "--steps", "40", "--evaluations", "20", "--out"]


def started(arguments, redirected):
    """The command by a shell that has closed or redirected its streams."""
    command = shlex.join([sys.executable, "-m", "mechmem.cli.start", *map(str, arguments)])
    # Python's own status of the first command of a pipe is what counts.
    return subprocess.run(
        ["bash", "-c", f"{command} {redirected}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirected", "status"),
    [(">&-", 0), ("2>&-", 0), (">&- 2>&-", 0), ("2>&1 >/dev/null | true", 0), ("2>/dev/null | sleep 0", 141)],
)
def test_a_training_is_finished_whoever_reads_of_it(short, redirected, status, tmp_path):
    done = started([*short, tmp_path / "run"], redirected)
    assert done.returncode in (status, 0) and "Traceback" not in done.stderr, done
    assert (tmp_path / "run" / "finished.json").exists()


@pytest.mark.slow
def test_a_wrong_line_is_refused_where_nothing_can_be_said(tmp_path):
    for redirected in ("2>&-", "2>&1 | true"):
        assert started(["train", "--p", "1"], redirected).returncode == 2


@pytest.mark.slow
def test_a_scorecard_that_nobody_reads_ends_with_the_status_of_a_closed_pipe(tiny_run):
    done = started(["audit", tiny_run.run.path, "--extractors", "raw"], "| true")
    assert done.returncode == 141 and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["PYTHONIOENCODING=latin-1", "PYTHONOPTIMIZE=2"])
def test_a_training_ends_well_in_an_unusual_environment(short, setting, tmp_path, monkeypatch):
    monkeypatch.setenv(*setting.split("="))
    done = subprocess.run(
        [sys.executable, "-m", "mechmem.cli.start", *short, str(tmp_path / "run")], capture_output=True
    )
    assert done.returncode == 0 and b"Next: mechmem audit" in done.stdout
