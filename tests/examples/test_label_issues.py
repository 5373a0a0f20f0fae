"""Suspect labels: the planted ones come first, are suggested rightly, and a person's decisions are applied."""

import json
import os
import re

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from torch import nn

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError, RunDirectoryError, UnknownNameError

N, NAMES = 90, ["ape", "bee", "cat, tame"]
DRAW = torch.Generator().manual_seed(0)
TRUE = torch.arange(N) % 3
X = 4 * torch.eye(3)[TRUE] + 0.3 * torch.randn(N, 3, generator=DRAW)
FRAME = pd.DataFrame(X.numpy(), columns=list("uvw")).assign(
    kind=np.array(NAMES)[TRUE.numpy()], key=[f"k{i:02}" for i in range(N)]
)


@pytest.fixture(scope="module")
def network():
    """A network that answers by the truth, on a task with planted wrong labels."""
    task = mm.DatasetTask(FRAME, label="kind", id="key", noise=mm.LabelNoise(0.1))
    model = nn.Linear(3, 3)
    with torch.no_grad():
        model.weight.copy_(torch.eye(3))
        model.bias.zero_()
    return mm.Subject(model, task)


@pytest.fixture(scope="module")
def issues(network):
    return mm.label_issues(network, "loss", neighbours=9)


def test_planted_wrong_labels_come_first_with_the_right_suggestion(network, issues):
    task, frame = network.task, issues.to_frame()
    wrong = [task.example_names[row] for row in task.rows(task.splits["train_noisy"]).tolist()]
    assert set(frame["id"][frame["suspect"]]) == set(wrong) and frame["suspect"].sum() == round(
        0.1 * len(task.train_ids)
    )
    truth = dict(zip(FRAME["key"], FRAME["kind"], strict=True))
    assert (frame["suggested"] == frame["id"].map(truth)).all() and (frame["votes"] > 0.5).all()
    assert frame["score"].is_monotonic_decreasing and list(frame.columns[:3]) == ["id", "given", "suggested"]
    some = mm.label_issues(network, "loss", count=3, neighbours=9)
    assert some.to_frame()["suspect"].sum() == 3 and "3 are called suspect as asked" in some.note


def test_an_example_is_no_neighbour_of_itself(network):
    """Were it, a single neighbour would always agree."""
    found = mm.label_issues(network, "loss", neighbours=1)
    noisy = network.task.splits["train_noisy"]
    rows = torch.isin(found.ids, noisy)
    assert (found.suggested[rows] == network.task.true(found.ids[rows])).float().mean() > 0.8


def test_other_tools_read_it(issues, tmp_path):
    for name in ("t.parquet", "t.csv"):
        issues.export(tmp_path / name)
    read = pd.read_parquet(tmp_path / "t.parquet")
    assert read.equals(issues.to_frame()) and len(pd.read_csv(tmp_path / "t.csv")) == len(read)
    assert isinstance(issues.to_dataset(), Dataset) and issues.to_dataset()["id"][:3] == read["id"].tolist()[:3]
    theirs = issues.to_cleanlab()
    assert list(theirs.columns) == ["is_label_issue", "label_quality", "given_label", "predicted_label"]
    assert list(theirs.index) == sorted(theirs.index) and theirs["label_quality"].between(0, 1).all()
    assert (theirs.sort_values("label_quality").index == read["id"]).all()
    issues.save(tmp_path / "t.safetensors")
    assert mm.LabelIssues.load(tmp_path / "t.safetensors").to_frame().equals(issues.to_frame())


def test_the_page_holds_the_examples_and_nothing_that_runs(network, issues, tmp_path):
    mm.write_review(issues, network.task, tmp_path / "r.html", count=4)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert [each["id"] for each in data["examples"]] == issues.to_frame()["id"].tolist()[:4]
    assert data["classes"] == NAMES and data["examples"][0]["values"][0][0] == "u" and len(page) < 100_000
    hostile = mm.DatasetTask(
        [{"x": x, "note": f"</script><b>{i}", "label": int(y)} for i, (x, y) in enumerate(zip(X, TRUE, strict=True))],
        inputs="x",
    )
    found = mm.label_issues(mm.Subject(network.model, hostile), count=1)
    mm.write_review(found, hostile, tmp_path / "h.html")
    assert (tmp_path / "h.html").read_text().count("</script>") == 2


def test_pictures_are_shown(tmp_path):
    images = torch.rand(30, 1, 8, 8, generator=DRAW)
    task = mm.ArrayTask(images, TRUE[:30], TRUE[:30], torch.arange(30) < 20)
    found = mm.label_issues(mm.Subject(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), task), count=2)
    mm.write_review(found, task, tmp_path / "p.html")
    assert (tmp_path / "p.html").read_text().count("data:image/png;base64,iVBOR") == 2


def test_decisions_are_applied(network, issues, tmp_path):
    task, first = network.task, issues.to_frame().head(3)
    rows = {"id": first["id"], "decision": ["relabel", "leave out", "keep"], "label": [first["suggested"][0], "", ""]}
    pd.DataFrame(rows).to_csv(tmp_path / "d.csv", index=False)
    clean = mm.cleaned(task, tmp_path / "d.csv")
    ids = issues.ids[:3]
    assert clean.given(ids[:1]) == issues.suggested[0] and clean.given(ids[2:]) == issues.given[2]
    assert len(clean.train_ids) == len(task.train_ids) - 1 and int(ids[1]) not in clean.train_ids.tolist()
    assert torch.equal(clean.test_ids, task.test_ids) and clean.digest != task.digest
    assert int(clean.noisy.sum()) == int(task.noisy.sum()) - 2
    data = clean.data()
    place = clean.train_ids.tolist().index(int(ids[0]))
    assert len(data) == len(clean.train_ids) and data[place]["kind"] == first["suggested"][0]
    assert mm.audit(mm.Subject(network.model, clean), "raw").row("raw").splits["test"].estimate.value == 1
    # By number, of a task whose classes have no names.
    plain = mm.ArrayTask(X, TRUE, TRUE, torch.arange(N) < 60)
    other = mm.cleaned(plain, pd.DataFrame({"id": [5], "decision": ["relabel"], "label": [0]}))
    assert other.given(torch.tensor([5])) == 0 and other.data()[5][1] == 0 and torch.equal(other.data()[5][0], X[5])


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ({"id": ["k00"], "decision": ["keep"]}, ConfigError, "no column 'label'; they have id, decision"),
        ({"id": ["k0"], "decision": ["keep"], "label": [""]}, UnknownNameError, "no training example has the id 'k0'"),
        ({"id": ["A", "A"], "decision": ["keep"] * 2, "label": [""] * 2}, ConfigError, "there are two of"),
        (
            {"id": ["A"], "decision": ["drop"], "label": [""]},
            ConfigError,
            "a decision must be one of keep, relabel, leave",
        ),
        (
            {"id": ["A"], "decision": ["relabel"], "label": ["cow"]},
            ConfigError,
            "'cow', which is no class: ape, bee, cat",
        ),
        ({"id": ["A"], "decision": ["relabel"], "label": [""]}, ConfigError, "which is no class"),
        ({"id": ["A"], "decision": ["relabel"], "label": [None]}, ConfigError, "which is no class"),
        ({"id": ["A"], "decision": ["relabel"], "label": ["1"]}, ConfigError, "which is no class"),
        ({"id": ["A"], "decision": [pd.NA], "label": [""]}, ConfigError, "a decision must be one of"),
        ({"id": ["A", np.nan], "decision": ["keep"] * 2, "label": [""] * 2}, ConfigError, "no id in row 1"),
        ({"id": [None], "decision": ["keep"], "label": [""]}, ConfigError, "no id in row 0; pandas reads an id such"),
    ],
)
def test_decisions_that_cannot_be_applied_are_refused(network, issues, rows, error, words):
    known = issues.to_frame()["id"][0]
    table = pd.DataFrame(rows).replace({"id": {"A": known}})
    with pytest.raises(error, match=re.escape(words)):
        mm.cleaned(network.task, table)


def test_decisions_on_images_are_those_on_all_their_views(tmp_path):
    draw = np.random.default_rng(0)
    labels = np.arange(60) % 3
    pixels = draw.integers(0, 80, (60, 6, 6)).astype(np.uint8)
    pixels[np.arange(60), labels] = 255
    data = mm.ImageData.from_arrays(pixels, labels, n_test=20)
    moved = mm.Augmentation(translate=0.2, views=3)
    task = mm.ImageTask(mm.ImageConfig("own", noise=mm.LabelNoise(0.2), augmentation=moved), data)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3))
    issues = mm.label_issues(mm.Subject(model, task))
    mm.write_review(issues, task, tmp_path / "review.html")
    relabelled, out = issues.ids[:2].tolist()
    label = (int(task.given(issues.ids[:1])) + 1) % 3
    table = pd.DataFrame({"id": [relabelled, out], "decision": ["relabel", "leave out"], "label": [label, ""]})
    clean = mm.cleaned(task, table)
    views = clean.train_ids[task.source(clean.train_ids) == relabelled]
    assert len(views) == 3 and (clean.given(views) == label).all()
    assert clean.given([relabelled]).tolist() == [label] and len(clean.train_ids) == len(task.train_ids) - 3
    others = clean.train_ids[task.source(clean.train_ids) != relabelled]
    assert torch.equal(clean.given(others), task.given(others))
    assert out not in clean.sources.tolist() and len(clean.sources) == len(task.sources) - 1
    again = mm.label_issues(mm.Subject(model, clean))
    assert out not in again.ids.tolist()
    assert [label] == again.given[again.ids == relabelled].tolist() or relabelled not in again.ids.tolist()


def test_every_example_cannot_be_left_out_and_a_file_must_be_there(network, issues, tmp_path):
    everything = pd.DataFrame({"id": issues.to_frame()["id"], "decision": "leave out", "label": ""})
    with pytest.raises(ConfigError, match="the training set is empty"):
        mm.cleaned(network.task, everything)
    with pytest.raises(RunDirectoryError, match="cannot read decisions"):
        mm.cleaned(network.task, tmp_path / "none.csv")


PLAIN = mm.ArrayTask(X, TRUE, TRUE, torch.arange(N) < 60)
HALVES = FRAME.assign(part=["train"] * 60 + ["test"] * 30)


@pytest.mark.parametrize(
    ("label", "found"),
    [("1", 1), (1, 1), (1.0, 1), ("1.0", 1), (" 01 ", 1), ("0_1", None), ("\uff11", None), (0.5, None), (3, None)],
)
def test_a_class_without_a_name_is_named_by_its_number(label, found):
    table = pd.DataFrame({"id": [6.0, np.float32(9)], "decision": ["relabel", "leave out"], "label": [label, None]})
    if found is None:
        with pytest.raises(ConfigError, match=r"the new label of 6.0 is .* which is no class: 0 … 2"):
            mm.cleaned(PLAIN, table)
    else:
        clean = mm.cleaned(PLAIN, table)
        assert int(clean.given(torch.tensor([6]))) == found and clean.left_out.tolist() == [9]
        items = clean.data()
        assert [label for _, label in items[4:8]] == [items[place][1] for place in range(4, 8)]


@pytest.mark.parametrize("number", ["6", "6.0", " 6", "06"])
@pytest.mark.parametrize("header", ["id,decision,label", "Id, Decision ,LABEL", "note,ID,decision, label"])
def test_a_file_that_a_spreadsheet_wrote_is_read(header, number, tmp_path):
    before = "kept," if header.startswith("note") else ""
    (tmp_path / "d.csv").write_text(f"{header}\n{before}{number},relabel,2.0\n{before}9.0,leave out,\n")
    clean = mm.cleaned(PLAIN, tmp_path / "d.csv")
    assert clean.given(torch.tensor([6])).tolist() == [2] and clean.left_out.tolist() == [9]


def test_names_that_look_like_numbers_are_names(tmp_path):
    named = FRAME.assign(key=[f"{row}.0" if row % 2 else f"{row}" for row in range(N)])
    task = mm.DatasetTask(named, label="kind", id="key", held_out=0.1)
    known = [task.example_names[row] for row in task.rows(task.train_ids).tolist()]
    odd = next(name for name in known if name.endswith(".0"))
    mm.cleaned(task, pd.DataFrame({"id": [odd], "decision": ["keep"], "label": [""]}))
    with pytest.raises(UnknownNameError, match="no training example has the id"):
        mm.cleaned(task, pd.DataFrame({"id": [odd.removesuffix(".0")], "decision": ["keep"], "label": [""]}))


@pytest.mark.parametrize("task_names", [["NA", "nan", "None"], ["nan", "None", "NA"]])
def test_an_id_that_pandas_takes_for_missing_is_that_of_its_example_in_a_file(task_names, tmp_path):
    named = FRAME.assign(key=task_names + FRAME["key"].tolist()[3:])
    task = mm.DatasetTask(named, label="kind", id="key", test=FRAME.assign(u=FRAME["u"] + 9, key=FRAME["key"] + "t"))
    (tmp_path / "d.csv").write_text("\ufeffid,decision,label\nNA,leave out,\n\n", encoding="utf-8")
    clean = mm.cleaned(task, tmp_path / "d.csv")
    assert [task.example_names[row] for row in task.rows(clean.left_out).tolist()] == ["NA"]
    with pytest.raises(ConfigError, match="no id in row 0"):
        mm.cleaned(task, pd.read_csv(tmp_path / "d.csv"))


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("id,decision,label,label\n0,keep,,\n", ConfigError, "decisions have the column 'label' twice: leave one"),
        ("id,decision,label\n0,relabel,1,sure\n", RunDirectoryError, "cannot read decisions from .*Expected 3 fields"),
        (
            "id;decision;label\n0;keep;\n",
            ConfigError,
            "separated by commas, not by ';': save them so, or pass pd.read_csv",
        ),
        ("id\tdecision\tlabel\n0\tkeep\t\n", ConfigError, r"separated by commas, not by '\\t'"),
        ("ID,id,decision,label\n0,0,keep,\n", ConfigError, "decisions have the column 'id' twice: leave one"),
        ("", RunDirectoryError, "cannot read decisions"),
        (None, RunDirectoryError, "it is not a regular file"),
    ],
)
def test_a_file_that_holds_no_decisions_is_refused(text, error, said, tmp_path):
    place = tmp_path / "d.csv"
    os.mkfifo(place) if text is None else place.write_text(text)
    with pytest.raises(error, match=said):
        mm.cleaned(PLAIN, place)
    if "'label' twice" in said:
        with pytest.raises(error, match=said):
            mm.cleaned(PLAIN, pd.read_csv(place).set_axis(["id", "decision", "label", "label"], axis=1))


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (mm.ArrayTask(X + 100, (TRUE + 1) % 3, (TRUE + 1) % 3, torch.arange(N) < 60), "labels"),
        (mm.ArrayTask(X, TRUE, TRUE, torch.arange(N) < 40), "training examples"),
        (mm.DatasetTask(HALVES, inputs=list("uvw"), label="kind", split="part"), "classes"),
    ],
)
def test_a_page_shows_the_task_that_its_issues_are_of(other, what, tmp_path):
    found = mm.label_issues(mm.Subject(nn.Linear(3, 3), PLAIN), count=1)
    with pytest.raises(ConfigError, match=f"issues must be those of the task, but its .*{what} are others"):
        mm.write_review(found, other, tmp_path / "r.html")
    assert not list(tmp_path.iterdir())
    for _ in range(2):  # over its own page, too
        mm.write_review(found, PLAIN, tmp_path / "r.html")


def test_one_example_has_no_neighbours():
    task = mm.ArrayTask(X, TRUE, TRUE, torch.arange(N) < 1)
    with pytest.raises(MissingNeedError, match="the task has only one"):
        mm.label_issues(mm.Subject(nn.Linear(3, 3), task))
