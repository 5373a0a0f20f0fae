"""The gallery's scripts run on the runs that the repository holds, and find what their last sentences say."""

import math
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from plotly.basedatatypes import BaseFigure

import mechmem as mm
from mechmem.core.results import Result

ROOT = Path(__file__).parents[1]
EXAMPLES = {path.stem: path for path in sorted((ROOT / "examples").glob("*.py"))}

sys.path.insert(0, str(ROOT / "docs"))
from order import EXAMPLES as ORDER  # noqa: E402


def last(frame, **chosen):
    """The value of the one row, or of the last, in which columns have these values."""
    for column, value in chosen.items():
        frame = frame[frame[column] == value]
    return frame["value"].iloc[-1]


def two_networks(found):
    hidden, heavy = found["hidden"], found["heavy"]
    assert (hidden.verdict, heavy.verdict) == ("rule", "labels_only")
    assert heavy.row("frequency+quadratic").splits["test"].estimate.value > 0.95
    assert (
        hidden.row("raw").splits["train_noisy"].estimate.value
        == heavy.row("raw").splits["train_noisy"].estimate.value
        == 1
    )


def discover_rule(found):
    assert found["rule"].found.name == "Z58" and found["untrained"].found.kind == "none"


def over_training(found):
    structure, test = found["structure"], found["measured"].to_frame().query("split == 'test'")
    times = found["times"].to_frame().set_index("name")["step"]
    assert (times["fit_noisy"], times["fit_clean"]) == (161, 234)
    assert structure.loc[204, "kappa"] < 0.05 and structure.loc[1500, "kappa"] > 0.25
    assert test[test["what"] == "raw"]["value"].max() < 0.1
    assert (
        last(test, what="frequency+quadratic", step=105) > 0.95
        and last(test, what="frequency+quadratic", step=28) < 0.9
    )


def neurons_and_waves(found):
    neurons = found["phases"].to_frame()
    assert (neurons["share"] > 0.5).mean() > 0.25 and 0.75 < (neurons["class"] == "generalizing").mean() < 0.85


def suppression(found):
    margins = found["parts"].to_frame().query("quantity == 'margin'")
    clean = last(margins, split="train_clean", part="rule")
    noisy = last(margins, split="train_noisy_true", part="rule")
    assert round(clean) == round(noisy) == 6
    assert last(margins, split="train_noisy_true", part="remainder") < -noisy


def pruning(found):
    test = found["curves"].to_frame().query("split == 'test'").groupby(["order", "removed"])["accuracy"].mean()
    assert round(test["low"].max(), 2) == 0.43 and round(test["low", 0], 2) == 0.2
    assert test["high"].max() == test["high", 0] and test["random"].max() == test["random", 0]


def patching(found):
    assert found["frequencies"].to_frame()["effect"].max() < 1 / 9
    assert abs(found["half"] / len(found["effect"]) - 1 / 3) < 0.03


def phase_diagram(found):
    fitted = found["sweep"].frame("raw").query("split == 'train_noisy'")
    assert fitted["value"].min() == 1
    table = found["sweep"].to_frame().set_index("measurement")
    few, most = table.loc["raw", "value"], table.loc["shared_subspaces+additive_free"]
    assert few.max() < 0.1 and 0.6 < most["value"].max() < 0.72
    assert most[most["label_noise"] >= 0.3]["value"].max() < 0.2
    assert table.loc["frequency+quadratic", "value"].min() > 0.7


def transformer(found):
    card, parts = found["card"], found["parts"].to_frame().query("quantity == 'margin'")
    assert round(card.row("raw").splits["test"].estimate.value, 2) == 0.55 and card.verdict == "labels_only"
    assert "answers next to the right ones fit as well" in card.sentence
    for split in ("train_clean", "train_noisy"):
        assert last(parts, split=split, component="MLP 0") > 0.9 * last(parts, split=split, component="total")
    assert found["heads"].to_frame().query("split == 'train_noisy'")["change"].max() < -0.25


def layers_of_images(found):
    table = found["layers"].table()
    hidden = table[table.index.str.startswith("layers")]
    assert table.loc["output", "trained"] < 0.7 and hidden["trained"].between(0.76, 0.81).all()
    assert (hidden["untrained"] > hidden["trained"]).all()


def memorized_images(found):
    top = found["images"].to_frame().nlargest(50, "self_influence")
    assert (top["split"] == "train_noisy").mean() == 0.8
    influence = found["influence"].to_frame()
    helped = influence.nlargest(5, "influence")
    assert helped["same_label"].iloc[:2].all()


def memorized_passages(found):
    edits, table = found["edits"].to_frame().set_index("edit"), found["table"]
    assert edits.loc["raw", "memorized"] == 15 and edits.loc["drop_memory", "exact"] == 0
    passages = table.query("group == 'passage' and part == 'train'")
    assert passages.groupby("units")["n"].sum().unique() == 40
    assert (passages.query("units != 'own'")["exact"] == 0).all()
    held_out = table.query("part == 'test'").set_index("units")["loss"]
    assert abs(held_out["full"] - held_out["shared"]) < 0.02 and held_out["own"] > held_out["full"]
    assert (passages.query("units == 'shared' and times >= 8")["exposure"] == math.log2(65)).all()


def finding_wrong_labels(found):
    auroc = found["quality"].to_frame().query("figure == 'auroc'").set_index("score")["value"]
    assert round(auroc["loss"], 2) == 0.99 and abs(auroc["margin"] - auroc["loss"]) < 0.001
    assert auroc.drop(["loss", "margin"]).max() < auroc["loss"]


def huggingface_trainer(found):
    auroc = found["quality"].to_frame().query("figure == 'auroc'").set_index("score")["value"]
    assert auroc["aum"] > 0.995 and 0.97 < auroc["loss"] < 0.99


def lightning_module(found):
    frame = found["curves"].to_frame()
    end = frame[frame["step"] == frame["step"].max()].set_index("split")["accuracy"]
    assert end["train_clean"] > 0.99 and 0.08 < end["train_noisy"] < 0.16 and end["train_noisy_true"] > 0.8
    assert last(found["quality"].to_frame(), score="aum", figure="auroc") > 0.995


def labels_in_a_frame(found):
    task, suspects = found["task"], torch.tensor(found["issues"].to_frame()["id"].head(10))
    assert (task.true(suspects) != task.given(suspects)).sum() == 8
    assert task.noisy.sum() == 14 and len(task.train_ids) == 142


def your_own_network(found):
    card = found["card"]
    assert card.verdict == "rule" and card.row("raw").splits["test"].estimate.value < 0.05


def benign_memorization(found):
    gaps, plain = found["gaps"].set_index("layer"), found["as_they_are"].benign_gap().set_index("layer")
    below = gaps.drop("projector.hook_hidden")
    assert (below["verdict"] == "benign").all() and below["gap"].between(0.03, 0.065).all()
    assert gaps.loc["projector.hook_hidden", "verdict"] == plain.loc["projector.hook_hidden", "verdict"] == "malign"
    assert (plain["verdict"] == "undecided").sum() == len(plain) - 1


def resnet(found):
    effects = found["effects"].to_frame()["effect"]
    assert len(effects) == 8 and 0.5 < effects.min() and effects.max() < 0.8


def bert(found):
    effects = found["effects"].to_frame().set_index("name")["effect"]
    assert effects.idxmax() == "bert.encoder.layer.0.attention.output.dense.hook_out" and effects.max() > 0.6
    without = found["pruned"].to_frame().query("split == 'train_noisy' and fraction == 1")
    assert (without["accuracy"] > 0.9).all()


def plugin(found):
    outcomes = [found[name].to_frame()["outcome"].value_counts(normalize=True) for name in ("before", "after")]
    assert outcomes[0]["memorized"] > 0.1 and outcomes[1]["right"] == 1


def ledger(found):
    verdicts = found["findings"].drop_duplicates("claim").set_index("claim")["verdict"]
    assert verdicts.value_counts().to_dict() == {"not at this scale": 3, "reproduced": 2, "not reproduced": 2}
    assert set(verdicts[verdicts == "reproduced"].index) == {"isolated", "unlearned"}


CLAIMS = {
    claim.__name__: claim
    for claim in (
        two_networks,
        discover_rule,
        over_training,
        neurons_and_waves,
        suppression,
        pruning,
        patching,
        phase_diagram,
        transformer,
        layers_of_images,
        memorized_images,
        memorized_passages,
        finding_wrong_labels,
        huggingface_trainer,
        lightning_module,
        labels_in_a_frame,
        your_own_network,
        benign_memorization,
        resnet,
        bert,
        plugin,
        ledger,
    )
}
"""What the last sentence of each example says of what its variables hold."""


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """A copy of the examples and of the runs that git carries."""
    copy = tmp_path_factory.mktemp("gallery") / "examples"
    shutil.copytree(ROOT / "examples", copy, ignore=shutil.ignore_patterns("*.optimizer.safetensors", "one_step-*"))
    return copy


def test_every_example_has_its_place_and_its_claim():
    assert set(EXAMPLES) == set(ORDER) == set(CLAIMS)


def test_every_example_asks_a_question_and_answers_it():
    for path in EXAMPLES.values():
        text = path.read_text(encoding="utf-8")
        title, answer = text.splitlines()[1], text.rsplit("# %%\n", 1)[1]
        assert title.endswith("?"), path.name
        assert answer.startswith("# So ") and all(line.startswith("#") for line in answer.splitlines()), path.name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # by Lightning of itself
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_finds_what_it_says(name, gallery, monkeypatch, capsys):
    monkeypatch.chdir(gallery)
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    before = {path for path in gallery.rglob("*") if "one_step-" not in str(path)}
    found = runpy.run_path(f"{name}.py")
    after = {path for path in gallery.rglob("*") if "one_step-" not in str(path) and "__pycache__" not in str(path)}
    assert after <= before, "something was trained that the repository should hold"
    shown = (Result, mm.Ledger, BaseFigure)
    assert any(isinstance(value, shown) for value in found.values())
    CLAIMS[name](found)


def test_the_runs_are_small():
    listed = subprocess.run(["git", "ls-files", "-z", "examples/runs"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode or not listed.stdout:
        pytest.skip("no git")
    assert sum((ROOT / name).stat().st_size for name in filter(None, listed.stdout.split("\0"))) < 10 * 2**20
