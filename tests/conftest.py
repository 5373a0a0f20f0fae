"""One thread, reproducible property tests, a limit of CPU time, and the tiny networks that many tests look at."""

from __future__ import annotations

import importlib._bootstrap
import os
import random
from collections import Counter

# Before torch is loaded: two test workers with two threads each would collapse each other.
os.environ["OMP_NUM_THREADS"] = "1"

import hypothesis
import hypothesis.strategies
import pytest
import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile("mechmem", deadline=None, derandomize=True, max_examples=40, database=None)
hypothesis.settings.load_profile("mechmem")

CPU_LIMIT = 3.0
"""Seconds of CPU that a test without the marker `slow` may take, above the 2 s that call for it."""

imports = 0.0
"""Seconds of CPU that this process has spent on importing modules."""


def cpu_seconds():
    """CPU time of this process and of those of its children that have ended."""
    return sum(os.times()[:4])


def timed_import(name, import_, find_and_load=importlib._bootstrap._find_and_load):
    """Import a module that is not loaded yet, and add what that takes to `imports`, with the modules it imports."""
    global imports
    before = cpu_seconds() - imports
    try:
        return find_and_load(name, import_)
    finally:
        imports = cpu_seconds() - before


# The first test that needs torch's compiler, scikit-learn or a lazily loaded module must not be charged for it.
importlib._bootstrap._find_and_load = timed_import


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item):
    """Fail a test that takes more CPU than `CPU_LIMIT` and is not marked `slow`; fixtures are not counted."""
    before = cpu_seconds() - imports
    result = yield
    seconds = cpu_seconds() - imports - before
    if seconds > CPU_LIMIT and item.get_closest_marker("slow") is None:
        why = f"took {seconds:.1f} s of CPU: mark it slow, or make it smaller (limit {CPU_LIMIT:g} s)"
        pytest.fail(why, pytrace=False)
    return result


def pytest_collection_modifyitems(config, items):
    """Hand the modules with slow tests to the workers first, then those with many tests, so that none is left over."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        size = Counter(item.path for item in items)
        items.sort(key=lambda item: (item.path not in slow, -size[item.path]))


@pytest.fixture(scope="session", autouse=True)
def tables_of_hypothesis():
    """Have hypothesis work out its tables of characters, which a fresh clone lacks; no test is charged for them."""
    hypothesis.find(hypothesis.strategies.text(), lambda text: True, random=random.Random(0))


@pytest.fixture
def draw() -> torch.Generator:
    """A seeded generator."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def unchecked_shapes():
    """Turn shape checking off, to see what a user without it sees."""
    from jaxtyping import config

    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", before)


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
