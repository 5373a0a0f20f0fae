"""What a function reads besides the network belongs to what it measures."""

import functools
import importlib.util
import subprocess
import sys
import threading
import types

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import mechmem as mm
from mechmem.errors import RunDirectoryError
from mechmem.sweeps.functions import code_of, values_of

BASE = mm.TrainConfig(mm.ModularConfig(p=5), mm.MLPConfig(width=4), steps=2, evaluations=1, checkpoints=1)


def closed(value):
    def measured(subject):
        return float(value)

    return measured


def defaulted(value):
    def measured(subject, value=value, *, more=value):
        return float(value)

    return measured


def named(value):
    def measured(subject, *, more=value):
        return float(more)

    return measured


def attributed(value):
    def measured(subject):
        return measured.value

    measured.value = value
    return measured


def written(source, **scope):
    """The function `measured` of a module of the user's."""
    module = types.ModuleType("users_own")
    vars(module).update(scope)
    exec(source, vars(module))
    return module.measured


def by_global(value):
    return written("def measured(subject): return limit", limit=value)


def by_helper(value):
    return written(f"def helper(): return {value}\ndef other(): return helper()\ndef measured(subject): return other()")


def by_module(value):
    helpers = types.ModuleType("helpers")
    exec(f"def helper(): return {value}", vars(helpers))
    return written("def measured(subject): return helpers.helper()", helpers=helpers)


def by_class(value):
    source = "class Part:\n  limit = {0}\n  def read(self): return {0}\ndef measured(subject): return Part().read()"
    return written(source.format(value))


def by_wrapper(value):
    source = "def helper(): return {}\nhelper = kept(helper)\ndef measured(subject): return helper()"
    return written(source.format(value), kept=functools.lru_cache)


def by_decorator(value):
    @functools.wraps(closed(0))
    def measured(subject):
        return closed(value)(subject)

    return measured


class Limited:
    def __init__(self, value):
        self.value = value
        self.__name__ = "limited"

    def __call__(self, subject):
        return float(self.value)

    def measured(self, subject):
        return float(self.value)


MAKERS = [closed, defaulted, named, attributed, by_global, by_decorator, Limited, lambda value: Limited(value).measured]
VALUES = [
    (1, 2),
    (1, 1.0),
    ("a", "b"),
    ([1, [2]], [1, [3]]),
    ({"a": 1}, {"a": 2}),
    ({"a", "b"}, {"a", "c"}),
    (np.arange(3), np.arange(3) + 1),
    (torch.arange(3), torch.tensor([0, 1, 3])),
    (pd.DataFrame({"a": ["x", "y"]}), pd.DataFrame({"a": ["x", "z"]})),
    (functools.partial(max, 1), functools.partial(max, 2)),
    (Limited(1), Limited(2)),
    (closed(1), closed(2)),
    (mm.LabelNoise(0.1), mm.LabelNoise(0.2)),
    (mm.ModularTask(mm.ModularConfig(p=5)), mm.ModularTask(mm.ModularConfig(p=5, seed=1))),
]


@pytest.mark.parametrize("made", MAKERS)
@pytest.mark.parametrize(("value", "other"), VALUES)
def test_another_value_is_another_measurement_and_the_same_one_is_not(made, value, other):
    one, same, changed = made(value), made(value), made(other)
    assert values_of(one) == values_of(same) != values_of(changed)
    assert code_of(one) == code_of(changed)


@pytest.mark.parametrize("made", [by_helper, by_module, by_class, by_wrapper])
def test_what_functions_and_classes_of_the_users_do_belongs_to_it(made):
    assert values_of(made(1)) == values_of(made(1)) != values_of(made(2))
    assert code_of(made(1)) == code_of(made(2))


def test_what_is_not_read_does_not_belong_to_it():
    source = "import threading\nlock = threading.Lock()\ndef measured(subject): return lock and subject.limit"
    assert values_of(written(source, limit=1)) == values_of(written(source, limit=2))
    task = mm.ModularTask(mm.ModularConfig(p=5))
    network = mm.Subject(nn.Linear(2, 2), task)
    before = values_of(closed(network))
    task.splits, network.memo("kept", lambda: 1)  # noqa: B018 - are kept once they were asked for
    assert values_of(closed(network)) == before
    with torch.no_grad():
        network.model.weight[0, 0] += 1
    assert values_of(closed(network)) != before


def test_values_that_lead_to_themselves_have_an_end():
    def circle(value):
        held = [value]
        held.append(held)
        box = Limited(held)
        box.own = box
        return closed({"held": held, "box": box, "lock": threading.Lock(), "rows": (each for each in held)})

    assert values_of(circle(1)) == values_of(circle(1)) != values_of(circle(2))
    deep = [1]
    for _ in range(10_000):
        deep = [deep]
    assert values_of(closed(deep)) != values_of(closed([deep]))


def test_another_process_finds_the_same(tmp_path):
    source = """
import numpy as np, pandas as pd, torch
from torch import nn
torch.manual_seed(0)
LIMITS = {"a", "b", "c", "d"}
model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
table = pd.DataFrame({"a": ["x", "y"], "b": pd.Categorical(["u", "v"])})
class Part:
    names = frozenset("abcdef")
    def read(self, what): return what in {"x", "y", "z"}
part = Part()
def measured(subject, held=torch.ones(2, dtype=torch.bfloat16)):
    return (LIMITS, model, table, part.read(np.float32), nn.Linear, pd.NA, held)
"""
    path = tmp_path / "users_own.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("users_own", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    script = "import users_own; from mechmem.sweeps.functions import values_of; print(values_of(users_own.measured))"
    for seed in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join([str(tmp_path), *filter(None, sys.path)])},
        )
        assert found.stdout.strip() == values_of(module.measured)


@pytest.mark.parametrize("made", MAKERS)
def test_a_sweep_refuses_the_measurement_of_other_values(made, tmp_path):
    def swept(value):
        settings = {"out": tmp_path / "s", "engine": "inline", "progress": False}
        return mm.sweep(BASE, {"seed": [0]}, measure=[made(value)], **settings).to_frame()["value"].tolist()

    assert swept(1) == swept(1) == [1]
    with pytest.raises(RunDirectoryError, match="another measurement .* other values .* choose another directory"):
        swept(2)
