"""Processes: termination that is handled as an interrupt, and workers that end with the process that started them."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import multiprocessing.process
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from types import FrameType
from typing import Any, TypeVar, cast

from mechmem.errors import TrainingFailedError

K = TypeVar("K")
V = TypeVar("V")

TERMINATED = 143
"""Exit status of a process that was ended by SIGTERM."""
GRACE = 15.0
"""Seconds that interrupted workers have to save what they have."""
MOMENT = 0.2
"""Seconds after which an interrupted worker ends that has nothing to save, so that a result on its way arrives."""
HEEDED = (signal.SIGINT, signal.SIGTERM)


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

    terminated = threading.Event()

    def terminate(_signal: int, _frame: FrameType | None) -> None:
        terminated.set()
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt:
        # Libraries of compiled code raise a plain one in place of ours.
        if terminated.is_set() and leave:
            raise SystemExit(TERMINATED) from None
        if terminated.is_set():
            raise Terminated from None
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def same_handlers() -> Iterator[None]:
    """Undo, at the end of the block, what a library called there changes in the handling of interrupts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.getsignal(each) for each in HEEDED}
    try:
        yield
    finally:
        for each, handler in before.items():
            if handler is not None:  # None: set outside Python
                signal.signal(each, handler)


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """Ignore interrupts in the block, which ends what an earlier one has interrupted."""
    with same_handlers():
        if threading.current_thread() is threading.main_thread():
            for each in HEEDED:
                signal.signal(each, signal.SIG_IGN)
        yield


@contextlib.contextmanager
def worker_pool(
    workers: int, context: multiprocessing.context.BaseContext | None = None
) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes of one thread each; what they run is interrupted if the block is left by an error.

    A worker whose parent has died, however that happened, ends at once.

    Args:
        workers: number of processes.
        context: how they are started; by default Python's "spawn".
    """
    before = set(multiprocessing.active_children())
    pool = _Pool(workers, context or multiprocessing.get_context("spawn"), _begin_worker, (os.getpid(),))
    try:
        yield pool
    except BaseException:
        # An interrupt may have reached only this process. Queued work is dropped, and the rest saves what it has. The
        # pool is waited for: at the end of Python its own thread and what wakes it up would come in each other's way.
        closing = threading.Thread(target=pool.shutdown, kwargs={"cancel_futures": True})
        closing.start()
        try:
            _end_workers(set(multiprocessing.active_children()) - before)
        finally:
            closing.join()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def done_in_processes(calls: Mapping[K, Callable[[], V]], workers: int, doing: str) -> Generator[tuple[K, V]]:
    """Make calls in processes of one thread each, begun in this order; yield key and result of each as it ends.

    Args:
        calls: functions without arguments that can be pickled, such as partial ones.
        workers: number of processes.
        doing: what a process does, for errors, e.g. "trained subset networks".

    Raises:
        TrainingFailedError: a process died.
    """
    if not calls:
        return
    try:
        with worker_pool(min(workers, len(calls))) as pool:
            waiting = {pool.submit(run_interruptibly, call): key for key, call in calls.items()}
            for future in as_completed(waiting):
                yield waiting[future], future.result()
    except BrokenProcessPool as error:
        raise TrainingFailedError(f"a process that {doing} died (out of memory?): {error}") from error


def _end_workers(started: Collection[multiprocessing.process.BaseProcess]) -> None:
    """Interrupt workers, let them save what they have, and kill what has not ended then."""
    for process in started:
        # Not an interrupt, which a process in the background ignores.
        process.terminate()
    # An interrupt inside an import can be lost; what was saved before can be resumed all the same.
    running, deadline = {process.sentinel: process for process in started}, time.monotonic() + GRACE
    try:
        while running and (left := deadline - time.monotonic()) > 0:
            for ended in multiprocessing.connection.wait(list(running), left):
                running.pop(cast(int, ended))
    finally:
        # A second interrupt does not wait for them.
        for process in running.values():
            process.kill()


class _Pool(ProcessPoolExecutor):
    """A pool whose processes hear of an interrupt only once they can handle it, not while Python starts."""

    def submit(self, *arguments: Any, **named: Any) -> Future[Any]:
        """Submit a call; the process that may be started for it inherits the held signals, and releases them."""
        with _held():
            return super().submit(*arguments, **named)


@contextlib.contextmanager
def _held() -> Iterator[None]:
    """Let interrupts wait until the block has ended, where the system can."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_working = _raised = _interrupted = False
_ending = threading.Event()
"""Set when an interrupted worker has nothing left to save."""


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
        if _interrupted:
            _ending.set()


def _begin_worker(parent: int) -> None:
    """Prepare a worker: it ends with its parent, uses one thread, and is interrupted by SIGINT and SIGTERM.

    Args:
        parent: number of the process that started it.
    """
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    threading.Thread(target=_end_when_interrupted, daemon=True).start()
    for each in HEEDED:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, _interrupt)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEEDED)
    # Slow, as are the imports of the first call: what interrupts them ends the process.
    import torch

    torch.set_num_threads(1)


def _end_with_parent(parent: int) -> None:
    # A process whose parent has died is given to another one.
    while os.getppid() == parent:
        time.sleep(MOMENT)
    os._exit(TERMINATED)


def _end_when_interrupted() -> None:
    _ending.wait()
    time.sleep(MOMENT)
    os._exit(TERMINATED)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Interrupt what the worker runs, once, as that is then saved; an idle one ends."""
    global _raised, _interrupted
    first, _interrupted = not _interrupted, True
    if not _working:
        if first:
            _ending.set()
    elif not _raised:
        _raised = True
        raise KeyboardInterrupt
