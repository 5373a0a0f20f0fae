"""Data sets that are read as they are meant, whatever their form; and what is broken in folders is named."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from small_data_sets import DICTS, FEATURES, FRAME, HF, IDS, OTHER, PAIRS, TORCH, N, X, Y, column
from torch import nn

import mechmem as mm
from mechmem.errors import ConfigError
from mechmem.tasks.dataset_hashes import fingerprint, plain

READ = {
    "order-alike": (lambda: mm.DatasetTask(FEATURES, label=FRAME["label"]), 8),
    "another-index": (lambda: mm.DatasetTask(FEATURES, label=FRAME["label"].set_axis(range(100, 100 + N))), 8),
    "column-by-position": (lambda: mm.DatasetTask(FRAME["a"][::-1].to_frame()["a"][::-1].astype(float), label=Y), 8),
    "inputs-named": (lambda: mm.DatasetTask(FRAME, label=Y, inputs=["a", "b"]), 8),
    "int-columns": (lambda: mm.DatasetTask(FRAME.set_axis(range(3), axis=1), label=2), 8),
    "one-hot": (lambda: mm.DatasetTask([(x, nn.functional.one_hot(torch.tensor(y), 4)) for x, y in PAIRS]), 8),
    "one-hot-numpy": (lambda: mm.DatasetTask([(x, np.eye(4)[y]) for x, y in PAIRS]), 8),
    "val": (lambda: mm.DatasetTask({"train": TORCH, "val": OTHER}), N),
    "dev": (lambda: mm.DatasetTask(datasets.DatasetDict({"train": HF.select(range(30)), "Dev": HF.select([38])})), 1),
    "Test": (lambda: mm.DatasetTask({"train": TORCH, "Test": OTHER, "extra": OTHER}), N),
    "one-test": (lambda: mm.DatasetTask(TORCH, {"test": OTHER}), N),
    "truth-values": (lambda: mm.DatasetTask(column(s=[True] * 30 + [False] * 10), split="s"), 10),
    "truth-tensors": (
        lambda: mm.DatasetTask(
            [{**item, "s": torch.tensor(row < 30)} for row, item in enumerate(DICTS)], split="s", inputs="x"
        ),
        10,
    ),
    "Train": (
        lambda: mm.DatasetTask(column(s=["train", "Train", "train ", "TRAINING"] * 9 + ["test"] * 4), split="s"),
        4,
    ),
    "group-types": (lambda: mm.DatasetTask(column(g=[1] * 20 + ["1"] * 20), group="g", held_out=0.5), 20),
}


@pytest.mark.parametrize("name", READ)
def test_what_can_be_read_as_it_is_meant_is(name):
    make, held_out = READ[name]
    task = make()
    inputs, labels = task.batch(task.ids)
    assert len(task.test_ids) == held_out and torch.equal(labels, Y.repeat(3)[task.ids])
    first = torch.as_tensor(inputs.tensors["x"] if isinstance(inputs, mm.NamedInputs) else inputs).reshape(
        len(labels), -1
    )
    assert torch.equal(first[:30, 0].float(), X[:30, 0])


def test_groups_are_apart_by_type_in_the_order_they_had():
    mixed = mm.DatasetTask(column(g=["None"] * 10 + ["q"] * 10 + [1] * 10 + ["1"] * 10), group="g", held_out=0.25)
    assert len(mixed.test_ids) == 10
    numbers, names = (mm.DatasetTask(column(g=map(kind, range(N))), group="g", seed=3) for kind in (int, str))
    assert torch.equal(numbers.test_ids, names.test_ids)


def test_no_ids_are_an_empty_batch():
    for task in (mm.DatasetTask(TORCH), mm.DatasetTask(FRAME), mm.DatasetTask(HF)):
        inputs, labels = task.batch(torch.tensor([], dtype=torch.long))
        assert len(inputs) == len(labels) == 0 and labels.dtype == torch.long
        rows = inputs if isinstance(inputs, torch.Tensor) else inputs.tensors["x"]
        assert rows.shape[1:] == ((2,) if task.shape == (2,) else (3,))


def test_inputs_with_gradients_are_read_without():
    pairs = [(x.clone().requires_grad_(), y) for x, y in PAIRS]
    named = [{"x": x, "label": y} for x, y in pairs]
    assert not mm.DatasetTask(pairs).batch(IDS)[0].requires_grad
    assert not mm.DatasetTask(named).batch(IDS)[0].tensors["x"].requires_grad
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4))
    cards = [mm.audit(mm.Subject(network, mm.DatasetTask(data)), ["raw"]) for data in (pairs, TORCH)]
    assert cards[0].to_frame().equals(cards[1].to_frame())


def test_labels_given_apart_are_the_only_ones_of_an_item():
    task = mm.DatasetTask(DICTS, label=(Y + 1) % 4, inputs="x")
    assert [set(item) for item in task.items(IDS)] == [{"x", "labels"}] * 4
    assert [item["labels"] for item in task.items(IDS)] == ((Y[:4] + 1) % 4).tolist()


def test_items_keep_names_for_labels_of_a_network_with_more_classes():
    task = mm.DatasetTask([(x, "abcd"[y]) for x, y in PAIRS], n_classes=9)
    assert task.class_names is None and [label for _, label in task.items(IDS)] == list("abcd")


def test_a_format_that_is_set_later_is_not_the_tasks():
    data = HF.select(range(N))
    task = mm.DatasetTask(data, inputs="x")
    data.set_format(None)
    assert torch.equal(task.batch(IDS)[0], X[:4])


def test_fingerprints_tell_inputs_apart_and_hold_whatever_the_memory():
    parts = [1, 1.0, True, "1", b"1", None, [1], [1, 1], [[1], 1], [[1, 1]], (1, 1), [("a", 1)], [("a", 1), ("b", 2)]]
    parts += [plain(each) for each in (X, X.double(), X[:3, :3].T, X[:, None], X[:0], torch.tensor(1), np.array("1"))]
    parts += [plain(Image.new(mode, (2, 3))) for mode in ("L", "RGB")] + [np.datetime64("2020-01-01")]
    assert len({fingerprint(part, "a row") for part in parts}) == len(parts)
    assert fingerprint(plain(X.T), "") == fingerprint(plain(X.T.contiguous()), "")
    assert fingerprint(np.asarray(X.T), "") == fingerprint(np.asarray(X.T.contiguous()), "")


def pictures(folder, n=3):
    draw = np.random.default_rng([n, len(folder.name)])  # other pictures in every folder
    for name in ("bird", "fish"):
        (folder / name).mkdir(parents=True)
        for number in range(n):
            pixels = draw.integers(0, 255, (4, 6), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def test_held_out_folders_are_the_part_that_is_named(tmp_path):
    own = pictures(tmp_path / "own")
    new = tmp_path / "new"
    pictures(new / "train", 5)
    pictures(new / "test", 2)
    with pytest.raises(ConfigError, match="test has the splits train and test, and must be one"):
        mm.DatasetTask(own, new)
    task = mm.DatasetTask(own, new / "test", inputs="image")
    assert len(task.train_ids) == 6 and len(task.test_ids) == 4
    assert len(mm.DatasetTask(new, inputs="image").test_ids) == 4
    saved = tmp_path / "saved"
    datasets.DatasetDict({"train": HF.select(range(30)), "val": HF.select(range(30, N))}).save_to_disk(saved)
    assert len(mm.DatasetTask(saved).test_ids) == 10 and len(mm.DatasetTask(saved / "train", saved / "val").ids) == N
    with pytest.raises(ConfigError, match="train must be a data set or the path of a folder, but .* is a file"):
        mm.DatasetTask(own / "bird" / "0.png")


def test_broken_pictures_are_named(tmp_path):
    folder = pictures(tmp_path / "a")
    task = mm.DatasetTask(folder, inputs="image")
    (folder / "fish" / "1.png").write_text("no")
    for call in (lambda: mm.DatasetTask(folder), lambda: task.batch(task.ids)):
        with pytest.raises(ConfigError, match=r"row 4 of train \(.*1.png\) cannot be read: cannot identify"):
            call()
    folder.rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match=r"row 0 of train \(.*0.png\) cannot be read: "):
        task.batch(task.ids)
    mixed = pictures(tmp_path / "b")
    Image.new("L", (9, 9)).save(mixed / "bird" / "1.png")
    with pytest.raises(ConfigError, match="6 items cannot be put into one batch"):
        mm.DatasetTask(mixed, copies="drop").batch(torch.arange(6))
