"""Processes: termination that is handled as an interrupt, and workers that end with the process that started them."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from types import FrameType
from typing import Any, cast

TERMINATED = 143
"""Exit status of a process that was ended by SIGTERM."""
GRACE = 15.0
"""Seconds that interrupted workers have to save what they have."""


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM. Whatever heeds an interrupt heeds it too."""


@contextlib.contextmanager
def interruptible(*, leave: bool = True) -> Iterator[None]:
    """Raise `Terminated` in the block when the process receives SIGTERM, unless SIGTERM is handled otherwise already.

    Args:
        leave: whether the process exits with status 143 when the block has ended so; the caller's finally-blocks run.
    """
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not ours:
        yield
        return

    def terminate(_signal: int, _frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except Terminated:
        if leave:
            raise SystemExit(TERMINATED) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes of one thread each; what they run is interrupted if the block is left by an error.

    A worker whose parent has died, however that happened, ends at once.

    Args:
        workers: number of processes.
    """
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start)
    try:
        yield pool
    except BaseException:
        # An interrupt may have reached only this process. Queued work is dropped, and the rest saves what it has.
        pool.shutdown(wait=False, cancel_futures=True)
        started = set(multiprocessing.active_children()) - before
        for process in started:
            if process.pid is not None:
                os.kill(process.pid, signal.SIGINT)
        # An interrupt inside an import can be lost; what was saved before can be resumed all the same.
        running, deadline = {process.sentinel: process for process in started}, time.monotonic() + GRACE
        while running and (left := deadline - time.monotonic()) > 0:
            for ended in multiprocessing.connection.wait(list(running), left):
                running.pop(cast(int, ended))
        for process in running.values():
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_working = False
_interrupted = False


def run_interruptibly(call: Callable[..., Any], *arguments: Any) -> Any:
    """Run a call in a worker; an interrupt raises KeyboardInterrupt in it, and after one no further call is begun."""
    global _working
    if _interrupted:
        raise KeyboardInterrupt
    _working = True
    try:
        return call(*arguments)
    finally:
        _working = False


def _start() -> None:
    import torch

    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _interrupt)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(TERMINATED)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Interrupt what the worker runs; an idle one would end in a traceback, and is told when more work arrives."""
    global _working, _interrupted
    _interrupted = True
    if _working:
        _working = False
        raise KeyboardInterrupt
