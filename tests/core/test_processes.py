"""SIGTERM is heeded as an interrupt is, and no worker outlives the process that started it."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from mechmem.core import processes
from mechmem.core.processes import TERMINATED, Terminated, interruptible, run_interruptibly, worker_pool


def test_termination_is_an_interrupt_within_and_an_exit_outside():
    heeded = []
    with pytest.raises(SystemExit) as left, interruptible():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt as error:
            heeded.append(type(error))
            raise
    assert heeded == [Terminated] and left.value.code == TERMINATED == 128 + signal.SIGTERM
    with pytest.raises(Terminated), interruptible(leave=False):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_whoever_handles_termination_otherwise_still_does():
    seen = []
    signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert seen == [1]


def test_only_the_main_thread_can_heed_it():
    done = []

    def elsewhere():
        with interruptible():
            done.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert done == [signal.SIG_DFL]


def test_an_interrupted_worker_begins_no_further_call(monkeypatch):
    calls = []
    for name in ("_working", "_raised", "_interrupted"):
        monkeypatch.setattr(processes, name, False)
    monkeypatch.setattr(processes, "_ending", threading.Event())
    with pytest.raises(KeyboardInterrupt):
        run_interruptibly(lambda: processes._interrupt(signal.SIGINT, None))
    with pytest.raises(KeyboardInterrupt):
        run_interruptibly(calls.append, 1)
    assert not calls and processes._ending.is_set()


def test_an_interrupt_is_raised_once_so_that_what_it_saves_is_saved(monkeypatch):
    for name in ("_working", "_raised", "_interrupted"):
        monkeypatch.setattr(processes, name, False)
    monkeypatch.setattr(processes, "_ending", threading.Event())

    def saved():
        try:
            processes._interrupt(signal.SIGINT, None)
        except KeyboardInterrupt:
            processes._interrupt(signal.SIGTERM, None)
            return "saved", processes._ending.is_set()

    assert run_interruptibly(saved) == ("saved", False) and processes._ending.is_set()


def wait_for(path):
    deadline = time.monotonic() + 100
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path.name} is not written"
        time.sleep(0.05)
    return path.read_text()


@pytest.mark.slow
def test_an_error_interrupts_what_the_workers_run(tmp_path):
    work = "import sys, time; print('begun', file=open(sys.argv[1], 'w'), flush=True); time.sleep(100)"
    command = [sys.executable, "-c", work, tmp_path / "begun"]
    with pytest.raises(ZeroDivisionError), worker_pool(1) as pool:
        running, queued = (pool.submit(run_interruptibly, subprocess.run, command) for _ in range(2))
        wait_for(tmp_path / "begun")
        raise ZeroDivisionError
    assert isinstance(running.exception(), KeyboardInterrupt)
    assert queued.cancelled() or isinstance(queued.exception(), KeyboardInterrupt)


STARTING = """
import sys, time
from mechmem.core.processes import run_interruptibly, worker_pool
if __name__ == "__main__":
    try:
        with worker_pool(2) as pool:
            for _ in range(2):
                pool.submit(run_interruptibly, time.sleep, 100)
            time.sleep(float(sys.argv[1]))
            start = time.monotonic()
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        print(time.monotonic() - start)
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", ["0", "0.3", "1"])
def test_a_worker_interrupted_while_it_starts_ends_soon_and_without_a_word(after, tmp_path):
    script = tmp_path / "starting.py"
    script.write_text(STARTING)
    done = subprocess.run([sys.executable, script, after], capture_output=True, text=True, check=True)
    assert done.stderr == "" and float(done.stdout) < processes.GRACE


BACKGROUND = """
import os, signal
from mechmem.core.processes import run_interruptibly, worker_pool
def work():
    os.kill(os.getpid(), signal.SIGINT)
    return "not interrupted"
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with worker_pool(1) as pool:
        print(pool.submit(run_interruptibly, work).result())
"""


@pytest.mark.slow
def test_a_worker_of_a_process_in_the_background_ignores_interrupts_too(tmp_path):
    script = tmp_path / "background.py"
    script.write_text(BACKGROUND)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "not interrupted\n"


PARENT = """
import os, sys, time
from pathlib import Path
from mechmem.core.processes import worker_pool
def work(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(100)
if __name__ == "__main__":
    with worker_pool(1) as pool:
        pool.submit(work, f"{sys.argv[1]}/worker").result()
"""


@pytest.mark.slow
def test_a_worker_ends_with_its_parent_even_if_that_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, script, tmp_path], stderr=subprocess.DEVNULL)
    worker = wait_for(tmp_path / "worker")
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 50
    while _runs(worker):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.05)


def _runs(worker):
    """Whether a process is there and is no zombie, which nobody may reap in a container."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", worker], capture_output=True, text=True)
    return done.stdout.strip()[:1] not in ("", "Z")


STUCK = """
import signal, sys, time
from mechmem.core.processes import run_interruptibly, worker_pool

def stuck(path):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open(path, "w").write("begun")
    time.sleep(100)

if __name__ == "__main__":
    with worker_pool(1) as pool:
        pool.submit(stuck, sys.argv[1])
        time.sleep(100)
"""


@pytest.mark.slow
def test_a_second_interrupt_does_not_wait_for_workers_that_do_not_end(tmp_path):
    (tmp_path / "stuck.py").write_text(STUCK)
    command = [sys.executable, tmp_path / "stuck.py", tmp_path / "begun"]
    parent = subprocess.Popen(
        command, stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler)
    )
    wait_for(tmp_path / "begun")
    parent.send_signal(signal.SIGINT)
    time.sleep(1)
    assert parent.poll() is None
    start = time.monotonic()
    parent.send_signal(signal.SIGINT)
    parent.communicate(timeout=60)
    assert parent.returncode != 0 and time.monotonic() - start < processes.GRACE
