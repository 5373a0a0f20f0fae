"""One thread, reproducible property tests, and the tiny networks that many tests look at."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter

# Before torch is loaded: two test workers with two threads each would collapse each other.
os.environ["OMP_NUM_THREADS"] = "1"

import hypothesis
import pytest
import torch

try:
    from absl import logging as absl_logging  # Keras brings it

    # Its handler closes the stream that it was made with when logging is configured anew, as submitit does at import;
    # that would be pytest's.
    absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__
except ImportError:
    pass

torch.set_num_threads(1)
hypothesis.settings.register_profile("mechmem", deadline=None, derandomize=True, max_examples=40, database=None)
hypothesis.settings.load_profile("mechmem")


def pytest_collection_modifyitems(config, items):
    """Hand the modules with slow tests to the workers first, then those with many tests, so that none is left over."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        size = Counter(item.path for item in items)
        items.sort(key=lambda item: (item.path not in slow, -size[item.path]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Check no shapes in slow tests, nor where every plugin is called again and again.

    Checks take two fifths of the time of the latter; what both call, other tests call with checks, on small networks.
    """
    if item.get_closest_marker("slow") is None and item.get_closest_marker("unchecked") is None:
        return (yield)
    with without_shapes():
        return (yield)


@contextlib.contextmanager
def without_shapes():
    """Turn shape checking off in the block."""
    from jaxtyping import config

    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", before)


@pytest.fixture
def draw() -> torch.Generator:
    """A seeded generator."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def unchecked_shapes():
    """Turn shape checking off, to see what a user without it sees."""
    with without_shapes():
        yield


@pytest.fixture(scope="session")
def tiny_config():
    """The config of a run that takes a fraction of a second."""
    import mechmem as mm

    return mm.TrainConfig(
        task=mm.ModularConfig(p=5, train_fraction=0.7, noise=mm.LabelNoise(0.3)),
        model=mm.MLPConfig(width=12),
        steps=30,
        lr=0.01,
        evaluations=6,
        checkpoints=3,
    )


@pytest.fixture(scope="session")
def tiny_run(tiny_config, tmp_path_factory):
    """That run, trained once per session. Read it, never change it."""
    import mechmem as mm

    return mm.train(tiny_config, out=tmp_path_factory.mktemp("runs") / "tiny", progress=False)


@pytest.fixture(scope="session")
def planted():
    """A planted network mod 7 with memorized cells. Read it, never change it."""
    import mechmem as mm

    return mm.planted_network(7, memorized_fraction=0.3, train_fraction=0.7, dtype=torch.float64)
