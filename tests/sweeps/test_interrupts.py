"""Sweeps that are interrupted, ended or killed, and two on one directory: nothing lost, nothing left, nothing twice."""

import os
import re
import shlex
import signal
import subprocess
import sys
import uuid

import pytest
from swept import PATIENCE, those_with, trainers, until

import mechmem as mm
from mechmem.cli.main import main
from mechmem.training.history import LINES

pytestmark = pytest.mark.slow

TRAINING = ["--p", "7", "--width", "8", "--steps", "2000", "--evaluations", "4", "--checkpoints", "2"]
WHAT = [*TRAINING, "--grid", "seed=0:2", "--measure", "raw", "ipr"]


def _heed_interrupts():
    # A test run that was started in the background ignores interrupts, and hands that down.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start(tmp_path):
    """Starts `mechmem sweep` on tmp_path/s in a process group of its own; what is left of it is killed at the end."""
    mark, started = uuid.uuid4().hex, []

    def begin(*options):
        command = [sys.executable, "-m", "mechmem.cli.start", "sweep", *WHAT, *options, "--out", str(tmp_path / "s")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MECHMEM_TEST": mark}
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            preexec_fn=_heed_interrupts,
            start_new_session=True,
        )
        process.left = lambda: those_with(mark)
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=PATIENCE)
    for each in those_with(mark):
        os.kill(each, signal.SIGKILL)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "s"
    assert main(["sweep", *WHAT, "--engine", "inline", "--quiet", "--out", str(out)]) == 0
    return mm.load_sweep(out).to_frame()


def steps_of(run):
    """Steps at which a run was evaluated, as its history has them."""
    return [int(each) for each in re.findall(r'"step": (\d+)', (run / LINES).read_text())]


def check_finished(out, undisturbed):
    found = mm.load_sweep(out)
    assert found.to_frame().equals(undisturbed)
    for run in found.cells.frame()["run"]:
        steps = steps_of(out / "runs" / run)
        assert steps == sorted(set(steps)) and steps[-1] == 2000
    assert not list(out.glob("**/.*")) and not list(out.glob("claims/*")) and not list(out.glob("failures/*"))


INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL


@pytest.mark.parametrize(
    ("number", "whom", "moment"),
    [
        (INT, "group", "training"),
        (KILL, "parent", "training"),
        (TERM, "parent", "loading"),
    ],
)
def test_the_same_command_goes_on(number, whom, moment, start, undisturbed, tmp_path):
    out = tmp_path / "s"
    process = start("--workers", "2")
    # While the workers load torch, or while two of them train.
    until((out / "sweep.json").exists if moment == "loading" else lambda: len(trainers(out)) == 2)
    if whom == "group":
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, said = process.communicate(timeout=60)
    until(lambda: not process.left(), 20)
    if number == KILL:
        assert process.returncode == -KILL and "Traceback" not in said
    else:
        assert process.returncode == 128 + number
        (told,) = [line for line in said.splitlines() if "progress is saved" in line]
        beginning, _, again = told.partition(" To resume: ")
        assert beginning == f"mechmem: {'ended' if number == TERM else 'interrupted'}; progress is saved."
        assert sorted(shlex.split(again)) == sorted(["mechmem", "sweep", *WHAT, "--workers", "2", "--out", str(out)])
        saved = [each for each in out.glob("runs/*/checkpoints/*.optimizer.safetensors")]
        assert len(saved) == (2 if moment == "training" else 0)
        assert not list(out.glob("**/.*")) and not list(out.glob("claims/*"))
    again = ["sweep", *WHAT, "--out", str(out), "--quiet"]
    # The same cells, in this process.
    assert main([*again, "--engine", "inline"]) == 0
    check_finished(out, undisturbed)


def test_two_sweeps_share_the_work_and_one_takes_over_from_one_that_is_killed(start, undisturbed, tmp_path):
    out = tmp_path / "s"
    first, second = start("--engine", "inline", "--json"), start("--engine", "inline", "--json")
    until(lambda: len(trainers(out)) == 2)
    ((_, pid), _) = sorted(trainers(out).items())
    killed, other = (first, second) if pid == first.pid else (second, first)
    killed.kill()
    printed, said = other.communicate(timeout=PATIENCE)
    assert other.returncode == 0, said
    check_finished(out, undisturbed)


def test_two_sweeps_at_the_same_instant_do_nothing_twice(start, undisturbed, tmp_path):
    out = tmp_path / "s"
    both = [start("--engine", "inline", "--json") for _ in range(2)]
    printed = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert printed[0][0] == printed[1][0]
    check_finished(out, undisturbed)
