"""Tasks from data sets of torch, HuggingFace and pandas, and from folders: read lazily, with ids that stay."""

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError, RunDirectoryError, UnknownNameError
from mechmem.scorecard.controls import kernel_ridge

N = 120
COLUMNS = list("abcde")
X = torch.randn(N, 5, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
NAMES = np.array(["cat", "dog", "eel"])[Y.numpy()]
FRAME = pd.DataFrame(X.numpy(), columns=COLUMNS).assign(
    species=NAMES, sample=[f"s{row:03}" for row in range(N)], patient=np.arange(N) // 3
)
WORDS = {"input_ids": (X.abs() * 50).long().tolist(), "attention_mask": [[1] * 5] * N}


class Items(Dataset):
    """A map-style data set of any items, which notes what is read."""

    def __init__(self, items, classes=None):
        self.held, self.read, self.classes = list(items), [], classes

    def __len__(self):
        return len(self.held)

    def __getitem__(self, row):
        self.read.append(row)
        return self.held[row]


def pairs(labels=Y):
    return zip(X, labels.tolist(), strict=True)


def words(**more):
    return datasets.Dataset.from_dict({**WORDS, "label": Y.tolist(), **more}).with_format("torch")


def together(items):
    return {name: torch.stack([torch.as_tensor(item[name]) for item in items]) for name in COLUMNS}


SOURCES = {
    "tensors": lambda: mm.DatasetTask(TensorDataset(X, Y)),
    "items": lambda: mm.DatasetTask(Items(pairs())),
    "lists": lambda: mm.DatasetTask(list(pairs())),
    "dicts": lambda: mm.DatasetTask(Items({"x": x, "label": y} for x, y in pairs()), inputs="x"),
    "labels-apart": lambda: mm.DatasetTask(Items(X), label=Y),
    "names": lambda: mm.DatasetTask(Items(pairs(NAMES))),
    "frame": lambda: mm.DatasetTask(FRAME, label="species", inputs=COLUMNS),
    "frame-with-fractional-labels": lambda: mm.DatasetTask(
        FRAME[COLUMNS].assign(kind=Y.double().numpy()), label="kind"
    ),
    "frame-the-rest": lambda: mm.DatasetTask(FRAME.drop(columns="patient"), label="species", id="sample"),
    "huggingface": lambda: mm.DatasetTask(
        datasets.Dataset.from_pandas(FRAME), label="species", inputs=COLUMNS, collate=together
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_gives_the_same_examples(name):
    task = SOURCES[name]()
    inputs, labels = task.batch(task.ids)
    if isinstance(inputs, mm.NamedInputs):
        inputs = torch.stack([inputs.tensors[each] for each in COLUMNS], 1)
    assert torch.equal(inputs, X) and torch.equal(labels, Y) and task.n_classes == 3
    assert torch.equal(torch.cat([task.train_ids, task.test_ids]).sort().values, torch.arange(N))
    assert len(task.test_ids) == round(0.2 * N) and task.noisy is None
    # Every class is divided alike.
    assert (torch.bincount(Y[task.test_ids]) / torch.bincount(Y) - 0.2).abs().max() < 0.03
    assert task.class_names == (
        ("cat", "dog", "eel") if "names" in name or "species" in str(name) else task.class_names
    )


def test_names_of_classes_come_from_the_data():
    assert mm.DatasetTask(FRAME, label="species", inputs=COLUMNS).class_names == ("cat", "dog", "eel")
    # The order of categories is that of the codes that people train on.
    sized = FRAME.assign(species=FRAME["species"].astype(pd.CategoricalDtype(["eel", "dog", "cat", "ant"])))
    for made in (
        mm.DatasetTask(sized, label="species", inputs=COLUMNS),
        mm.DatasetTask(sized[:30], sized[30:], label="species", inputs=COLUMNS),
        mm.DatasetTask(FRAME[COLUMNS], label=sized["species"]),
    ):
        assert made.class_names == ("eel", "dog", "cat", "ant")
        assert made.given(made.train_ids).tolist() == sized["species"].cat.codes[made.train_ids.numpy()].tolist()
    assert mm.DatasetTask(Items(pairs(), classes=["no", "one", "both"])).class_names == ("no", "one", "both")
    kinds = datasets.ClassLabel(names=["no", "one", "both"])
    assert mm.DatasetTask(words().cast_column("label", kinds), copies="drop").class_names == ("no", "one", "both")


def test_examples_are_read_when_they_are_needed_and_not_held():
    data = Items(pairs())
    task = mm.DatasetTask(data)
    data.read.clear()
    assert torch.equal(task.given(task.ids), Y) and task.splits["test"] is not None and not data.read
    task.batch(torch.tensor([7, 3]))
    assert data.read == [7, 3]
    held = sum(each.nbytes for each in vars(task).values() if isinstance(each, torch.Tensor))
    assert held <= 50 * N


@given(st.permutations(range(N)))
def test_ids_stay_with_their_examples_when_rows_are_shuffled(order):
    options = {"label": "species", "id": "sample", "group": "patient", "noise": mm.LabelNoise(0.3)}
    first = mm.DatasetTask(FRAME, **options)
    other = mm.DatasetTask(FRAME.iloc[order], **options)
    assert other.digest == first.digest and other.example_names == first.example_names
    assert torch.equal(other.train_ids, first.train_ids) and torch.equal(other.given(other.ids), first.given(first.ids))
    assert torch.equal(other.batch(first.train_ids[:9])[0], first.batch(first.train_ids[:9])[0])
    # A data loader over the user's own rows.
    rows = torch.tensor(order)[other._rows[other.rows(other.row_ids)]]
    assert torch.equal(rows, other.row_ids) and (other.row_ids.sort().values == other.train_ids).all()


def test_ids_may_be_whole_numbers_with_gaps():
    task = mm.DatasetTask(
        FRAME.assign(sample=np.arange(N)[::-1] * 1000 + 5), label="species", id="sample", inputs=COLUMNS
    )
    assert task.ids.tolist() == [1000 * row + 5 for row in range(N)] and task.example_names is None
    assert torch.equal(task.batch(torch.tensor([5, 1005]))[0], X[[N - 1, N - 2]])
    with pytest.raises(UnknownNameError, match="no example id 6"):
        task.batch(torch.tensor([6]))


@given(st.integers(0, 20), st.sampled_from([0.1, 0.3, 0.5]))
def test_no_group_is_on_both_sides(seed, fraction):
    task = mm.DatasetTask(FRAME, label="species", id="sample", group="patient", held_out=fraction, seed=seed)
    groups = torch.arange(N) // 3
    assert not set(groups[task.train_ids].tolist()) & set(groups[task.test_ids].tolist())
    assert abs(len(task.test_ids) / N - fraction) < 0.05


def test_held_out_data_are_the_users_own_where_there_are_some():
    train, test = (TensorDataset(X[rows], Y[rows]) for rows in (slice(0, 100), slice(100, N)))
    task = mm.DatasetTask(train, test)
    assert task.train_ids.tolist() == list(range(100)) and task.test_ids.tolist() == list(range(100, N))
    assert torch.equal(task.batch(torch.tensor([3, 110, 99, 100]))[0], X[[3, 110, 99, 100]])
    splits = datasets.DatasetDict({"train": words().select(range(100)), "validation": words().select(range(100, N))})
    assert len(mm.DatasetTask(splits).test_ids) == N - 100
    said = np.where(np.arange(N) < 90, "train", "test")
    assert mm.DatasetTask(
        FRAME.assign(part=said), label="species", inputs=COLUMNS, split="part"
    ).test_ids.tolist() == list(range(90, N))


def test_noise_is_on_the_training_labels_of_a_trainer():
    task = mm.DatasetTask(Items(pairs(NAMES)), noise=mm.LabelNoise(0.25))
    noisy = task.is_noisy(task.train_ids)
    assert int(noisy.sum()) == round(0.25 * len(task.train_ids)) and not task.is_noisy(task.test_ids).any()
    assert torch.equal(task.true(task.ids), Y)
    shown = [label for _, label in task.data()]
    assert shown == [task.class_names[label] for label in task.given(task.train_ids)]
    assert [label for _, label in task.data("test")] == NAMES[task.test_ids].tolist()
    # The data set behind it is as it was.
    (x, labels), *_ = DataLoader(mm.DatasetTask(TensorDataset(X, Y), noise=mm.LabelNoise(0.25)).data(), batch_size=N)
    assert len(x) == len(labels) == len(task.train_ids)
    named = mm.DatasetTask(words(), noise=mm.LabelNoise(0.25), copies="drop")
    assert [int(item["label"]) for item in named.data()] == named.given(named.train_ids).tolist()


def test_true_labels_may_be_known_of_some():
    given = np.where(np.arange(N) % 4 == 0, (Y.numpy() + 1) % 3, Y.numpy())
    frame = FRAME.assign(species=given, truth=Y.numpy())
    task = mm.DatasetTask(frame, label="species", true="truth", inputs=COLUMNS)
    assert torch.equal(task.noisy, task.train_ids % 4 == 0) and torch.equal(task.given(task.test_ids), Y[task.test_ids])
    partly = np.where(np.arange(N) < 5, -1, Y.numpy())
    part = np.where(np.arange(N) < 90, "train", "test")
    task = mm.DatasetTask(frame.assign(part=part), label="species", true=partly, split="part", inputs=COLUMNS)
    assert task.true(torch.arange(5)) is None and torch.equal(task.true(task.ids[5:]), Y[5:]) and task.noisy is None


class Reads(nn.Module):
    """Takes its inputs by name, as networks of HuggingFace do."""

    def __init__(self):
        super().__init__()
        self.words, self.readout = nn.Embedding(300, 8), nn.Linear(8, 3)

    def forward(self, input_ids, attention_mask):
        held = (self.words(input_ids) * attention_mask[..., None]).sum(1) / attention_mask.sum(1, keepdim=True)
        return self.readout(held)


def test_a_network_with_named_inputs_is_measured_as_any_other():
    torch.manual_seed(0)
    task, model = mm.DatasetTask(words(), noise=mm.LabelNoise(0.25), copies="drop"), Reads().eval()
    logits = model(torch.tensor(WORDS["input_ids"])[task.ids], torch.ones(len(task.ids), 5))
    card = mm.audit(mm.Subject(model, task), "raw")
    right = (logits.argmax(1) == task.given(task.ids))[task.rows(task.test_ids)]
    assert card.row("raw").splits["test"].estimate.value == pytest.approx(float(right.double().mean()))
    network = mm.Subject(mm.attach(model, "words", "readout"), task)
    assert mm.activations(network, "words.hook_out", ids=task.ids[:7])["words.hook_out"].shape == (7, 5, 8)
    table = mm.example_scores(network, ["loss", "margin", "input_curvature(point=words.hook_out)"])
    loss = nn.functional.cross_entropy(logits.double(), task.given(task.ids), reduction="none")
    assert torch.allclose(table["loss"].values.double(), loss[task.rows(task.train_ids)], atol=1e-6)
    assert "input_curvature(point=words.hook_out)" in table.scores
    assert len(mm.patch(network, at="words.hook_out", ids=task.ids[:2], donor_ids=task.ids[2:4]).to_frame())
    assert "inputs" in mm.probe_layers(network, points=["words.hook_out"], probe="knn").to_frame()["layer"].tolist()
    with pytest.raises(MissingNeedError, match="inputs in one tensor, and this task's are input_ids, attention_mask"):
        kernel_ridge(task)


def test_runs_of_a_users_loop_open_with_the_task(tmp_path):
    task = mm.DatasetTask(TensorDataset(X, Y), noise=mm.LabelNoise(0.25))
    torch.manual_seed(0)
    model = nn.Linear(5, 3)
    recorder = mm.Recorder(model, task, steps=10, out=tmp_path / "run")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recorder(0)
    loader = DataLoader(task.data(), batch_size=len(task.train_ids))
    for step in range(1, 11):
        for x, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), labels).backward()
            optimizer.step()
        recorder(step)
    again = mm.DatasetTask(TensorDataset(X.clone(), Y.clone()), noise=mm.LabelNoise(0.25))
    network = mm.load(tmp_path / "run", model=nn.Linear(5, 3), task=again)
    assert "learning_speed" in mm.example_scores(network, "learning_speed").scores
    with pytest.raises(RunDirectoryError):
        mm.load(tmp_path / "run", model=nn.Linear(5, 3), task=mm.DatasetTask(TensorDataset(X + 1, Y)))


def test_folders_of_images_are_read_picture_by_picture(tmp_path):
    draw = np.random.default_rng(0)
    for name in ("bird", "fish"):
        (tmp_path / name).mkdir()
        for number in range(6):
            Image.fromarray(draw.integers(0, 255, (4, 6), dtype=np.uint8)).save(tmp_path / name / f"{number}.png")
    task = mm.DatasetTask(tmp_path, inputs="image", held_out=0.3)
    assert task.class_names == ("bird", "fish") and task.shape == (1, 4, 6) and len(task.test_ids) == 4
    inputs = task.batch(task.ids)[0]
    assert inputs.dtype == torch.float32 and 0 <= inputs.min() and inputs.max() <= 1


class Stream(IterableDataset):
    def __iter__(self):
        return iter(pairs())


class Changing(Items):
    def __getitem__(self, row):
        x, label = super().__getitem__(row)
        return x + torch.rand(()), label


class Relabelled(Items):
    def __getitem__(self, row):
        x, label = super().__getitem__(row)
        return x, (label + (len(self.read) > N + 10)) % 3


BAD = {
    "stream": (lambda: mm.DatasetTask(Stream()), "is a stream: its examples have no numbers"),
    "generator": (lambda: mm.DatasetTask(pairs()), "is a stream"),
    "hf-stream": (lambda: mm.DatasetTask(words().to_iterable_dataset()), "is a stream"),
    "loader": (lambda: mm.DatasetTask(torch.utils.data.DataLoader(Items(X))), "pass its data set, loader.dataset"),
    "empty": (lambda: mm.DatasetTask([]), "train has no examples"),
    "number": (lambda: mm.DatasetTask(3), "train must be a data set of torch or HuggingFace, a frame of pandas"),
    "random": (lambda: mm.DatasetTask(Changing(pairs())), "is another input at every reading: a random transform"),
    "no-label": (lambda: mm.DatasetTask(Items(X)), "label is missing"),
    "no-label-column": (lambda: mm.DatasetTask(FRAME), "label is missing: which of a, b"),
    "typo": (lambda: mm.DatasetTask(FRAME, label="specis"), "species"),
    "typo-group": (lambda: mm.DatasetTask(FRAME, label="species", group="patiant"), "patient"),
    "typo-inputs": (lambda: mm.DatasetTask(FRAME, label="species", inputs=["a", "f"]), "'f'"),
    "few-labels": (lambda: mm.DatasetTask(Items(X), label=Y[:7]), "label must have one value for each of 120 rows"),
    "words": (lambda: mm.DatasetTask(FRAME, label="species"), "column 'sample' holds 's000' in row 0 of train"),
    "missing": (
        lambda: mm.DatasetTask(FRAME.assign(a=np.nan), label="species", inputs=COLUMNS),
        "column 'a' holds a number that is missing, infinite or too large for float32, nan, in row 0 of train",
    ),
    "ids-twice": (
        lambda: mm.DatasetTask(FRAME.assign(sample="s1"), label="species", id="sample", group="patient"),
        "ids must be different, but 's1'",
    ),
    "ids-mixed": (
        lambda: mm.DatasetTask(FRAME.assign(sample=[1.5] * N), label="species", id="sample"),
        "ids must be all whole numbers from 0 on, or all names",
    ),
    "group-both": (
        lambda: mm.DatasetTask(
            FRAME.assign(part=["train", "test"] * (N // 2)), label="species", id="sample", group="patient", split="part"
        ),
        "group '0' has examples both in training and held out (40 groups",
    ),
    "one-side": (
        lambda: mm.DatasetTask(FRAME.assign(part="train"), label="species", id="sample", split="part"),
        "the test set is empty; the column of splits holds train",
    ),
    "twice-held-out": (
        lambda: mm.DatasetTask(FRAME, FRAME, label="species", inputs=COLUMNS, split="patient"),
        "split divides the training data, but held-out data were given too",
    ),
    "copies": (
        lambda: mm.DatasetTask(TensorDataset(X, Y), TensorDataset(X[:5], Y[:5])),
        "5 of 5 held-out examples have the input of a training example",
    ),
    "drops": (
        lambda: mm.DatasetTask(Items(pairs()), collate=lambda items: torch.stack([x for x, _ in items[1:]])),
        "collate made 7 rows of 8 items",
    ),
    "repeats": (
        lambda: mm.DatasetTask(Items(pairs()), collate=lambda items: torch.stack([x for x, _ in items * 2])),
        "collate made 16 rows of 8 items",
    ),
    "text": (
        lambda: mm.DatasetTask(Items({"text": str(x), "label": y} for x, y in pairs())).batch(torch.arange(2)),
        "the batch holds 'text' as",
    ),
    "labels-change": (
        lambda: mm.DatasetTask(Relabelled(pairs())).batch(torch.arange(N)),
        "labels must not change between readings",
    ),
    "three-parts": (
        lambda: mm.DatasetTask(TensorDataset(X, X, Y)).batch(torch.arange(2)),
        "a batch has 2 inputs besides the label",
    ),
    "classes": (lambda: mm.DatasetTask(TensorDataset(X, Y), n_classes=2), "labels must lie in 0 … 1, got 0 … 2"),
    "fraction": (lambda: mm.DatasetTask(TensorDataset(X, Y), held_out=0.0), "set is empty|cannot be held out"),
    "noise": (
        lambda: mm.DatasetTask(TensorDataset(X, Y), noise=mm.LabelNoise(0.1, "symmetric")),
        "inputs that are pairs",
    ),
    "no-train": (lambda: mm.DatasetTask(datasets.DatasetDict({"a": words()})), "train has no split 'train'; it has a"),
    "part": (lambda: mm.DatasetTask(TensorDataset(X, Y)).data("tset"), "tset"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_right_is_one_clear_error(name):
    call, words_of_error = BAD[name]
    with pytest.raises(
        (ConfigError, UnknownNameError), match=words_of_error if "|" in words_of_error else None
    ) as error:
        call()
    assert "|" in words_of_error or words_of_error in str(error.value)
    assert "\n" not in str(error.value)


def test_several_inputs_of_tuples_get_the_names_of_the_networks_arguments():
    task = mm.DatasetTask(TensorDataset(X, X + 1, Y), inputs=["left", "right"])
    inputs, _ = task.batch(torch.arange(3))
    assert torch.equal(inputs.tensors["right"], X[:3] + 1) and len(inputs) == 3 and len(inputs[:2]) == 2
