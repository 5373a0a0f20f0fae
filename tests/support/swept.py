"""Sweeps whose processes are killed, and who works on what."""

import contextlib
import os
import threading
import time
from pathlib import Path

from mechmem.sweeps.jobs import Place

PATIENCE = 600
"""Seconds after which a test gives up; loading torch takes long where many processes do it at once."""


def until(condition, seconds=PATIENCE):
    """Wait until a condition holds, and return what it then is."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def holder(path):
    """Number of the process that has a file open, or None."""
    for each in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(each) == str(path):
                return int(each.parts[2])
    return None


def trainers(out):
    """Processes that train, past the first saved state of their run, by the digest of the run."""
    begun = [each for each in out.glob("claims/*") if (out / "runs" / each.name / "checkpoints").is_dir()]
    ready = [each for each in begun if list(Place(out).run(each.name).glob("checkpoints/step_1.safetensors"))]
    unfinished = [each for each in ready if not (Place(out).run(each.name) / "finished.json").exists()]
    return {each.name: pid for each in unfinished if (pid := holder(each.resolve())) is not None}


@contextlib.contextmanager
def once_training(out, act):
    """Call `act` with the number of a process that trains, as soon as there is one; yields the runs that it was of."""
    found, stop = [], threading.Event()

    def wait():
        while not stop.is_set() and not found:
            for digest, pid in list(trainers(out).items())[:1]:
                act(pid)
                found.append(digest)
            stop.wait(0.05)

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def those_with(text):
    """Numbers of the processes that were started with a text in their environment."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (each / "cmdline").read_bytes()
            # A tracker of resources lives as long as the process that it tracks for.
            if text.encode() in (each / "environ").read_bytes() and b"resource_tracker" not in command:
                found.append(int(each.name))
    return found
