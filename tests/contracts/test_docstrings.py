"""Every public function shows how it is called, and what it shows runs."""

import ast
import dataclasses
import inspect
import re
import textwrap
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

import mechmem as mm

STUB = Path(mm.__file__).with_suffix(".pyi")
FUNCTIONS = [
    name
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom)
    for name in (alias.name for alias in node.names)
    if inspect.isroutine(inspect.unwrap(getattr(mm, name)))
]
NOT_RUN = {"load_tl_checkpoint", "reproduce"}
"""One needs another library's file, the other takes minutes."""
OF_IMAGES = {
    "subnetwork",
    "isolation",
    "probe_layers",
    "example_scores",
    "influence",
    "leave_one_out",
    "choose_removals",
    "data_value",
}
"""Those whose network is one of images, with turn-over dropout."""

OF_SEQUENCES = {"memorized_sequences", "continuations", "sequence_edits"}


def example(name):
    """The code in a function's docstring: what is indented before the first section."""
    text = inspect.getdoc(getattr(mm, name)) or ""
    lines = text.split("\nArgs:")[0].split("\nRaises:")[0].splitlines()
    return textwrap.dedent("\n".join(line for line in lines if line.startswith("    ")))


@pytest.fixture(scope="module")
def images():
    task = mm.ImageConfig("digits", train=40, test=20, noise=mm.LabelNoise(0.3))
    model = mm.ImageMLPConfig(widths=(12, 12), biases=False, masks=mm.TurnOver(layers=(0, -1)))
    return mm.train(mm.TrainConfig(task, model, optimizer="sgd", batch_size=10, steps=20), progress=False)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_shows_how_it_is_called(name):
    code = example(name)
    compile(code, name, "exec")
    assert f"mm.{name}(" in code


@pytest.fixture(scope="module")
def sequences():
    task = mm.GrammarConfig(vocabulary=10, order=1, sharpness=6.0, length=18, train=2, test=2, passages=0, controls=0)
    model = mm.CausalTransformerConfig(layers=1, d_model=8, heads=2)
    return mm.train(mm.TrainConfig(task, model, lr=0.02, batch_size=10, steps=60), progress=False)


@pytest.fixture(scope="module")
def transformer():
    task = mm.ModularConfig(p=5, noise=mm.LabelNoise(0.3))
    model = mm.TransformerConfig(d_model=8, heads=2)
    return mm.train(mm.TrainConfig(task, model, steps=5), progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in NOT_RUN])
def test_what_it_shows_runs(name, tiny_config, images, transformer, sequences, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = mm.train(tiny_config, out="runs/first", progress=False)
    mm.discover_rule(network).save("rule.safetensors")
    layers = {"encoder": nn.Sequential(nn.Linear(3, 4), nn.ReLU()), "classifier": nn.Linear(4, 2)}
    rows = mm.ArrayTask(torch.randn(9, 3), torch.arange(9) % 2, None, torch.arange(9) < 6)
    ids = images.task.train_ids[:5]
    Path("decisions.csv").write_text("id,decision,label\n", encoding="utf-8")
    given = {
        "mm": mm,
        "torch": torch,
        "dataclasses": dataclasses,
        "network": images if name in OF_IMAGES else sequences if name in OF_SEQUENCES else network,
        "other": mm.planted_network(5).subject,
        "transformer": transformer,
        "model": nn.Sequential(OrderedDict(layers)),
        "task": rows if name in ("attach", "roles_from") else sequences.task if name in OF_SEQUENCES else network.task,
        "issues": mm.label_issues(network),
        "config": tiny_config,
        "logits": torch.randn(25, 5),
        "ids": ids,
        "inputs": images.task.batch(ids)[0],
    }
    for each in ["sweep", name] if name == "load_sweep" else [name]:
        code = re.sub("steps=[23]000", "steps=20", example(each)).replace("range(16)", "range(2)")
        code = code.replace('out="sweeps', 'engine="inline", out="sweeps').replace("p=31", "p=7")
        exec(compile(re.sub(r"(p=|network\()59", r"\g<1>7", code), each, "exec"), given)
