"""Commands that are interrupted: exit statuses, one line that says how to go on, and nothing lost."""

import os
import signal
import subprocess
import sys
import time
import weakref

import pytest

import mechmem.cli.main as cli
from mechmem.cli.start import nothing_begun


def _heed_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_the_command_line_loads_is_one_line(number):
    code = (
        "import os, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == 'tyro': os.kill(os.getpid(), {int(number)})\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from mechmem.cli.start import main\n"
        "sys.exit(main())"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=_heed_interrupts)
    assert done.returncode == 128 + number
    assert done.stderr == "mechmem: interrupted before anything was done\n"


def test_interrupts_are_handled_as_before_once_something_has_begun():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with nothing_begun():
            # As in a process in the background, which ignores them.
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not before[1]
        assert signal.getsignal(signal.SIGTERM) is before[1]
    finally:
        signal.signal(signal.SIGINT, before[0])


@pytest.mark.slow
def test_an_interrupt_keeps_what_was_reached_and_a_second_one_changes_nothing(tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "mechmem.cli.start", "train", "--p", "23", "--steps", "200000", "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # A test run that was started in the background ignores interrupts, and hands that down.
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=_heed_interrupts)
    while not (out / "checkpoints" / "step_1.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    while "To resume" not in (said := process.stderr.readline()):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=120)[1] == "" and process.returncode == 130
    assert "To resume: mechmem train --p 23 --steps 200000" in said
    assert list((out / "checkpoints").glob("*.optimizer.safetensors")) and not list(out.glob(".*"))


@pytest.mark.slow
def test_an_interrupted_reproduction_stops_soon_and_keeps_every_run(tmp_path):
    out = tmp_path / "r"
    command = [
        sys.executable,
        "-m",
        "mechmem.cli.main",
        "reproduce",
        "doshi_2024",
        "--claims",
        "coexistence",
        "--quiet",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--out", str(out)], stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=_heed_interrupts
    )
    while len(list(out.glob("runs/*/checkpoints/step_1.safetensors"))) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    # To the parent alone, as a notebook sends it; the third run, which waits, must not be begun.
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130 and "To resume: mechmem reproduce doshi_2024" in said
    assert "Traceback" not in said
    reached = list(out.glob("runs/*/checkpoints/step_*.optimizer.safetensors"))
    assert len(reached) == 2 and not list(out.glob("measurements/*/*"))


def test_what_an_interrupted_command_held_is_let_go_while_signals_are_ignored(monkeypatch, capsys):
    """In a finalizer, a second interrupt would be printed with a traceback and lost."""
    heard = []

    class Held:
        pass

    def interrupted(command):
        held = Held()
        weakref.finalize(held, lambda: heard.append(signal.getsignal(signal.SIGINT)))
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "list", (cli.COMMANDS["list"][0], interrupted))
    assert cli.main(["list"]) == 130
    assert capsys.readouterr().err == "mechmem: interrupted. To run it again: mechmem list\n"
    assert heard == [signal.SIG_IGN]
