"""The code in the README and the guides is code that runs."""

import ast
import importlib
import importlib.util
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

import mechmem as mm
from mechmem.errors import ConfigError

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    return FENCE.findall(page.read_text(encoding="utf-8"))


def public_names():
    stub = ast.parse((ROOT / "mechmem" / "__init__.pyi").read_text(encoding="utf-8"))
    return {alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_compile_and_use_names_that_exist(page):
    for block in blocks(page):
        tree = ast.parse(block)
        used = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "mm"
        }
        assert used <= public_names(), f"{page.name} uses {used - public_names()}"


def test_the_pages_with_code_are_the_ones_expected():
    assert {page.name for page in PAGES if blocks(page)} == {
        "README.md",
        "augmentation.md",
        "discover.md",
        "figures.md",
        "hooks.md",
        "index.md",
        "label_errors.md",
        "layers.md",
        "memorized_examples.md",
        "neurons.md",
        "own_data.md",
        "own_loops.md",
        "own_networks.md",
        "plugins.md",
        "quickstart.md",
        "reproduce.md",
        "sequences.md",
        "sweeps.md",
        "transformers.md",
    }


def shrunk(code):
    """The same code on a network that takes a second."""
    code = re.sub(r"steps=\d+", "steps=20", re.sub(r"width=\d+", "width=24", code))
    code = code.replace("range(1, 1001)", "range(1, 21)").replace("range(1200)", "range(20)")
    return code.replace("p=59", "p=23").replace("planted_network(59", "planted_network(23")


@pytest.mark.slow
def test_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first, own = blocks(ROOT / "README.md")
    names = {"__name__": "readme"}
    exec(compile(shrunk(first), "README.md", "exec"), names)
    assert (tmp_path / "report.html").exists() and names["card"].name == "hidden_rule"
    assert names["hidden"].shape == (len(names["network"].task.test_ids), 24)
    capsys.readouterr()
    # The block on the user's own network stands by itself: nothing but this import comes before it.
    torch.manual_seed(0)
    alone = {"__name__": "readme", "mm": mm}
    exec(compile(shrunk(own).replace("p = 31", "p = 11"), "README.md", "exec"), alone)
    card = alone["card"]
    assert card.name == "my network" and capsys.readouterr().out.strip() == card.sentence
    for control in ("untrained", "noise_only"):
        assert card.row("frequency").controls[control].estimate is not None
    assert alone["task"].noisy.any() and not alone["task"].noisy.all()


@pytest.mark.slow
def test_the_front_page_runs(capsys):
    (code,) = blocks(ROOT / "docs" / "index.md")
    exec(compile(shrunk(code), "index.md", "exec"), {"__name__": "index"})
    told, audited = capsys.readouterr().out.splitlines()
    assert told.startswith("Told nothing, ") and "κ" in audited


@pytest.mark.slow
def test_the_page_on_discovery_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "discover"}
    for code in blocks(ROOT / "docs" / "discover.md"):
        smaller = shrunk(code).replace("p=61", "p=13").replace("range(16)", "range(2)")
        exec(compile(smaller, "discover.md", "exec"), names)
    assert names["rule"].sentence in capsys.readouterr().out
    assert names["together"].read.shape == (13, 13)


@pytest.mark.slow
def test_the_page_on_sweeps_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "sweeps"}
    (code,) = blocks(ROOT / "docs" / "sweeps.md")
    smaller = (
        shrunk(code).replace("p=31", "p=7").replace("range(3)", "range(2)").replace("out=", 'engine="inline", out=')
    )
    exec(compile(smaller, "sweeps.md", "exec"), names)
    assert len(names["sweep"].to_frame()) == 4 * 3 * 2 * 3


def test_the_readme_is_one_screen_to_the_first_result_and_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert any("verdict" in line for line in lines[:40])


@pytest.mark.slow
def test_the_quickstart_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "quickstart"}
    for block in blocks(ROOT / "docs" / "quickstart.md"):
        exec(compile(shrunk(block), "quickstart.md", "exec"), names)
    assert names["subject"].run.finished() is None and len(names["subject"].run.history()) > 2
    assert names["moments"]["hook_hidden"].ndim == 1


@pytest.mark.slow
def test_the_guide_to_neurons_runs():
    names = {"__name__": "neurons"}
    for block in blocks(ROOT / "docs" / "neurons.md"):
        exec(compile(shrunk(block), "neurons.md", "exec"), names)
    assert len(names["generalizing"]) and not len(names["generalizing"] & names["memorizing"])
    assert names["card"].row("keep(by=ipr,fraction=0.3)").knows
    assert set(names["moving"].frame("ipr")["step"]) == set(names["run"].run.checkpoint_steps())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the trainers
def test_the_guide_to_own_loops_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "own_loops"}
    for block in blocks(ROOT / "docs" / "own_loops.md"):
        exec(compile(block, "own_loops.md", "exec"), names)
    for name in ("by_hand", "trainer", "lightning", "skorch", "keras"):
        assert (tmp_path / "runs" / name / "observations" / "epoch_0010.safetensors").exists(), name
    assert names["table"]["forgetting_events"].note == "counted over 10 epochs, in training mode"


@pytest.mark.slow
def test_the_guide_to_own_networks_runs():
    names = {"__name__": "own_networks"}
    for block in blocks(ROOT / "docs" / "own_networks.md"):
        exec(compile(block, "own_networks.md", "exec"), names)
    assert names["curves"].width == 64


@pytest.mark.slow
def test_the_guide_to_own_data_finds_the_planted_wrong_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {"__name__": "own_data"}
    for block in blocks(ROOT / "docs" / "own_data.md"):
        exec(compile(block, "own_data.md", "exec"), names)
    task, better, suspect = names["task"], names["better"], names["suspect"]
    assert names["found"].roles.hidden == ("1.hook_out",) and (tmp_path / "review.html").exists()
    wrong = {task.example_names[row] for row in task.rows(task.splits["train_noisy"]).tolist()}
    assert len(wrong & set(suspect["id"])) > 0.5 * len(wrong) and better.noisy.sum() < 0.5 * task.noisy.sum()


@pytest.mark.slow
def test_the_page_on_sequences_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {"__name__": "sequences"}
    smaller = {
        "length=32, train=2000, repeats=(1, 2, 4, 8, 16)": "length=20, train=3, test=5, repeats=(2,)",
        "layers=2, d_model=64, masks=mm.ExampleTied(stream=False)": "d_model=32, masks=mm.ExampleTied(stream=False)",
        "lr=0.002, batch_size=64, steps=400": "lr=0.01, batch_size=19, steps=80",
    }
    for block in blocks(ROOT / "docs" / "sequences.md"):
        for whole, small in smaller.items():
            block = block.replace(whole, small)
        exec(compile(block, "sequences.md", "exec"), names)
    forgotten = names["edits"].to_frame().set_index("edit")["exact"]
    assert forgotten["raw"] == 1 and forgotten["drop_memory"] < 0.2
    assert len(names["subject"].run.history()) > 5


@pytest.mark.slow
def test_the_guide_to_layers_runs():
    names = {"__name__": "layers"}
    for block in blocks(ROOT / "docs" / "layers.md"):
        exec(compile(block.replace("steps=2000", "steps=100"), "layers.md", "exec"), names)
    assert names["found"].chosen in names["run"].roles.hidden
    assert [row.extractor for row in names["card"].rows][1] == "masc@hidden.0"
    assert set(names["neighbours"].benign_gap()["verdict"]) == {"not fitted"}


@pytest.mark.slow
def test_the_guide_to_augmentation_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "augmentation"}
    for block in blocks(ROOT / "docs" / "augmentation.md"):
        exec(compile(block.replace("steps=3000", "steps=20"), "augmentation.md", "exec"), names)
    assert names["layers"].benign_gap()["verdict"].eq("not fitted").all()
    assert (len(names["capacity"].train_ids), len(names["capacity"].sources)) == (800, 200)
    assert mm.ImageTask(mm.ImageConfig("mine.npz")).shape == (1, 8, 8)


@pytest.mark.slow
def test_the_guide_to_transformers_runs():
    names = {"__name__": "transformers"}
    for block in blocks(ROOT / "docs" / "transformers.md"):
        code = shrunk(block).replace("d_model=128", "d_model=16").replace("p=23", "p=11")
        exec(compile(code, "transformers.md", "exec"), names)
    assert names["single"].accuracy.shape == (64, 4)
    assert names["permuted"].task.n_classes == 6


def test_the_guide_s_recipe_is_one():
    _, own = blocks(ROOT / "docs" / "reproduce.md")
    names = {"__name__": "recipe"}
    exec(compile(own, "reproduce.md", "exec"), names)
    assert [claim.key for claim in names["RECIPE"].claims] == ["hidden"]
    assert len(names["RECIPE"].trials("smoke")) == 3
    run = mm.train(next(iter(names["RECIPE"].trials("smoke").values())), progress=False)
    assert "test of frequency" in set(names["RECIPE"].claim("hidden").measure(run)["quantity"])


def test_the_guide_s_surgery_works(tmp_path, monkeypatch):
    """The file in the guide, as it stands, does what the guide says."""
    surgery, _usage = blocks(ROOT / "docs" / "plugins.md")
    path = tmp_path / "keep_longest.py"
    path.write_text(surgery, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("keep_longest", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "keep_longest", module)
    spec.loader.exec_module(module)
    subject = mm.planted_network(7, width=12).subject
    with torch.no_grad():  # planted neurons are equally loud; make them differ
        subject.model.W_out.mul_(torch.randperm(12, generator=torch.Generator().manual_seed(0))[:, None] + 1)
    before = subject.model.W_out.clone()
    pruned = module.KeepLongest(fraction=0.25)(subject)
    kept = pruned.model.W_out.norm(dim=1) > 0
    assert kept.sum() == 3
    assert before.norm(dim=1)[kept].min() >= before.norm(dim=1)[~kept].max()
    assert torch.equal(subject.model.W_out, before)
    assert module.KeepLongest().label() == "keep_longest"
    with pytest.raises(ConfigError, match="fraction of neurons"):
        module.KeepLongest(1.5)


@pytest.mark.slow
def test_the_guide_to_memorized_examples_runs():
    names = {"__name__": "memorized_examples"}
    for block in blocks(ROOT / "docs" / "memorized_examples.md"):
        code = (
            re.sub(r"steps=\d+", "steps=150", block).replace("train=500", "train=200").replace("sample=4", "sample=2")
        )
        # Figures are drawn where a notebook would show them.
        exec(
            compile(
                code.replace('choose_removals(table, "self_influence", 50)', 'choose_removals(table, "loss", 20)'),
                "guide",
                "exec",
            ),
            names,
        )
    assert names["table"].reasons == {} and names["pair"].verdict == "real first"
    assert set(names["value"].names) == {"nothing", "suspect", "random", "wrong", "difficult", "easy"}


@pytest.mark.slow
def test_the_page_on_label_errors_runs():
    names = {"__name__": "label_errors"}
    for block in blocks(ROOT / "docs" / "label_errors.md"):
        exec(compile(shrunk(block).replace("networks=16", "networks=3"), "label_errors.md", "exec"), names)
    assert set(names["quality"].to_frame()["method"]) == {"ekfac_influence", "trak", "grad_dot", "random"}


def test_the_page_on_label_errors_has_every_measured_score(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    page = importlib.import_module("label_errors")
    measured = pd.read_csv(page.CSV)
    assert {"digits"} <= set(measured["data"]) <= {"digits", "mnist5k"}
    for (data, kind), rows in measured.groupby(["data", "kind"]):
        table = page.label_errors_table(data, kind).splitlines()
        assert table[2].startswith("| `loss` |") and page.BETTER not in table[2] and page.WORSE not in table[2]
        assert {line.split("`")[1] for line in table[2:]} == set(rows["score"])
        assert len({line.count("|") for line in table}) == 1
    assert len(page.fitted_table().splitlines()) == 2 + len(measured.groupby(["data", "kind", "noise"]))
    attributions = page.attributions_table().splitlines()
    assert {"`random`", "`grad_dot`", "`ekfac_influence`"} <= {line.split(" | ")[0][2:] for line in attributions[2:]}
    assert len({line.count("|") for line in attributions}) == 1


def test_what_the_page_on_label_errors_says_of_the_tables_holds(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    measured = pd.read_csv(importlib.import_module("label_errors").CSV)
    area = measured[measured["figure"] == "auroc"].pivot(
        index=["data", "kind", "noise"], columns="score", values="value"
    )
    for name in ("grad_dot", "datainf", "ekfac_influence", "trak"):
        assert ((area[name] - area["loss"]).abs().dropna() < 0.03).all()
    for name in ("tracin", "settled_depth", "learning_speed"):
        assert (area[name] - area["loss"]).dropna().gt(0.05).all()
    for name in ("knn_shapley", "confident_learning"):
        assert (area[f"{name}(point=inputs)"] - area[name]).dropna().gt(0).all()
    neighbours = area["knn_shapley(point=inputs)"].dropna()
    others = area.loc[neighbours.index].drop(columns="knn_shapley(point=inputs)")
    assert (neighbours > others.max(axis=1)).all()
    quality = pd.read_csv(ROOT / "docs" / "attributions.csv").set_index(["figure", "method"])
    best = quality.loc["lds"].loc["ekfac_influence"]
    assert (quality.loc["lds"].drop("ekfac_influence")["high"] < best["low"]).all()
    left_out = quality.loc["leave_one_out"].drop("random")
    assert left_out["low"].max() < left_out["high"].min()
