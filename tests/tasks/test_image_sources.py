"""Images of users: of 16 bits, in every usual folder, and in numpy files whose headers do not tell the truth."""

import gc
import io
import struct
import zipfile

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

import mechmem as mm
from mechmem.errors import ConfigError
from mechmem.tasks.build import build_task
from mechmem.tasks.image_config import ImageConfig
from mechmem.tasks.image_data import ImageData
from mechmem.tasks.image_sources import image_data

# `datasets` leaves a metadata.csv open until it is collected.
LEFT_OPEN = ("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
pytestmark = [pytest.mark.filterwarnings(each) for each in LEFT_OPEN]


@pytest.fixture(autouse=True, scope="module")
def what_stood_before_is_not_searched():
    """Make collecting garbage quick: everything that other tests left is passed over."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def no_bars_and_no_open_files():
    datasets.disable_progress_bars()
    yield
    gc.collect()


def ramps(count):
    """Different ramps of 64 greys over 16 bits."""
    return np.stack(
        [np.linspace(7 * number, 60000 + number, 64).reshape(8, 8).astype(np.uint16) for number in range(count)]
    )


def write(folder, images, names):
    folder.mkdir(parents=True, exist_ok=True)
    for image, name in zip(images, names, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_grey_images_of_16_bits_are_read_as_they_are(tmp_path, ending):
    held = ramps(10)
    write(tmp_path, held, [f"{'ab'[number // 5]}/{number}.{ending}" for number in range(10)])
    data = image_data(str(tmp_path))
    assert torch.equal(data.pixels[:, 0], torch.from_numpy(held.astype(np.int32)))
    pixels = build_task(ImageConfig(str(tmp_path), train=6, test=2)).batch(torch.arange(10))[0].flatten(1)
    assert all(len(row.unique()) == 64 and (row.diff() > 0).all() for row in pixels)


def test_images_of_16_bits_from_arrays_files_and_under_augmentation(tmp_path):
    data = ImageData.from_arrays(ramps(12), np.arange(12) % 2)
    data.save(tmp_path / "mine.npz")
    again = image_data(str(tmp_path / "mine.npz"))
    assert torch.equal(again.pixels, data.pixels) and again.digest == data.digest and data.pixels.max() > 60000
    flipped = ImageConfig("mine", augmentation=mm.Augmentation(flip=True, views=3))
    views = mm.ImageTask(flipped, data)
    # Every view is its image, or its mirror image.
    shown, own = views.batch(views.train_ids)[0], views.batch(views.source(views.train_ids))[0]
    alike = (shown - own).abs().amax((1, 2, 3)) < 1e-3
    mirrored = (shown - own.flip(3)).abs().amax((1, 2, 3)) < 1e-3
    assert (alike ^ mirrored).all() and alike.any() and mirrored.any()


def test_pixels_outside_16_bits_are_refused_by_file(tmp_path):
    write(
        tmp_path, [np.full((4, 4), value, dtype=np.int32) for value in (1, 2, 70000)], ["a/1.tif", "a/2.tif", "b/3.tif"]
    )
    with pytest.raises(ConfigError, match=r"3\.tif.*lie in 70000 … 70000, outside the 16 bits"):
        image_data(str(tmp_path))
    write(tmp_path / "f", [np.full((4, 4), 0.5, dtype=np.float32)] * 2, ["a/1.tif", "b/2.tif"])
    with pytest.raises(ConfigError, match=r"1\.tif.*fractions of unknown range"):
        image_data(str(tmp_path / "f"))
    mixed = [np.zeros((4, 4), np.uint8), np.full((4, 4), 999, np.uint16)]
    write(tmp_path / "m", mixed, ["a/1.png", "b/2.png"])
    with pytest.raises(ConfigError, match=r"2\.png.*of uint16, but the first image has .* of uint8: all must be equal"):
        image_data(str(tmp_path / "m"))


def pictures(count):
    return np.random.default_rng(0).integers(0, 256, (count, 5, 4), dtype=np.uint8)


def metadata(folder, labels):
    rows = "".join(f"{number}.png,{label}\n" for number, label in enumerate(labels))
    (folder / "metadata.csv").write_text("file_name,label\n" + rows)


def make(kind, folder):
    """Six images of two classes in a folder of this kind, the last two a test split if the kind has one."""
    held, names = pictures(6), ["cat", "dog", "cat", "dog", "cat", "dog"]
    parts = {"train": slice(0, 4), "test": slice(4, 6)}
    if kind == "classes":
        write(folder, held, [f"{name}/{number}.png" for number, name in enumerate(names)])
    elif kind == "metadata":
        write(folder, held, [f"{number}.png" for number in range(6)])
        metadata(folder, names)
    elif kind == "metadata of each split":
        for split, part in parts.items():
            write(folder / split, held[part], [f"{number}.png" for number in range(len(held[part]))])
            metadata(folder / split, names[part])
    else:
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
        rows = {"image": [Image.fromarray(image) for image in held], "label": names}
        whole = datasets.Dataset.from_dict(rows, features=features)
        split = {name: whole.select(range(6)[part]) for name, part in parts.items()}
        if kind == "parquet":
            folder.mkdir()
            for name, part in split.items():
                part.to_parquet(folder / f"{name}-00000-of-00001.parquet")
        else:
            (datasets.DatasetDict(split) if kind == "saved splits" else whole).save_to_disk(folder)
    return held, names


KINDS = {"classes": 0, "metadata": 0, "metadata of each split": 2, "parquet": 2, "saved": 0, "saved splits": 2}


@pytest.mark.parametrize("kind", KINDS)
def test_folders_of_every_usual_kind_are_read(tmp_path, kind):
    held, names = make(kind, tmp_path / "data")
    data = image_data(str(tmp_path / "data"))
    assert data.class_names == ("cat", "dog") and data.n_test == KINDS[kind]
    by_image = {bytes(image): name for image, name in zip(held, names, strict=True)}
    for pixels, label in zip(data.pixels[:, 0].numpy(), data.labels.tolist(), strict=True):
        assert by_image[bytes(np.ascontiguousarray(pixels))] == data.class_names[label]
    task = build_task(ImageConfig(str(tmp_path / "data"), train=4, test=2))
    assert "2 classes (cat, dog)" in repr(task) and task.summary["class_names"] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["train/0.png", "train/1.png", "test/2.png", "test/3.png"], "has images in test and train, but no folders of"),
        (["0.png", "1.png", "2.png", "3.png"], "has the columns image, but needs one of images and one of classes"),
        ([], "cannot be read as images"),
    ],
)
def test_folders_without_classes_are_named(tmp_path, files, said):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data", pictures(len(files)), files)
    with pytest.raises(ConfigError, match=f"data' {said}.*a folder needs a folder for each class") as caught:
        image_data(str(tmp_path / "data"))
    assert "\n" not in str(caught.value)


def test_a_label_that_is_missing_is_named(tmp_path):
    write(tmp_path, pictures(3), [f"{number}.png" for number in range(3)])
    metadata(tmp_path, ["a", "", "b"])
    with pytest.raises(ConfigError, match="label must have no missing values, but row 1 is None"):
        image_data(str(tmp_path))


def test_a_file_that_is_no_numpy_file_is_named(tmp_path):
    (tmp_path / "data.zip").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"is a file, but not one of numpy \(\.npz\)"):
        image_data(str(tmp_path / "data.zip"))


def promising(path, shape):
    """A file whose images' header promises another shape than the bytes that follow."""
    head = repr({"descr": "|u1", "fortran_order": False, "shape": shape}).encode()
    head += b" " * (64 - (11 + len(head)) % 64) + b"\n"
    labels = io.BytesIO()
    np.save(labels, np.arange(6) % 3)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("images.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(6 * 16))
        file.writestr("labels.npy", labels.getvalue())


@pytest.mark.parametrize("shape", [(10**12, 28, 28), (10**30,), (5, 4, 4), (6, 4, 5)])
def test_a_header_that_promises_more_or_less_is_refused_before_memory_is_set_aside(tmp_path, shape):
    promising(tmp_path / "mine.npz", (6, 4, 4))
    assert len(image_data(str(tmp_path / "mine.npz")).labels) == 6
    promising(tmp_path / "mine.npz", shape)
    with pytest.raises(ConfigError, match=r"images\.npy in .*mine\.npz is said to have shape .* but has 96 bytes"):
        image_data(str(tmp_path / "mine.npz"))


GOOD = {"images": pictures(6), "labels": np.arange(6) % 3}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"n_test": np.array([1, 2])}, r"n_test in .* must be one whole number, got int64 of shape \(2,\)"),
        ({"n_test": np.array("a")}, "n_test in .* must be one whole number, got <U1"),
        ({"n_test": np.array(2.5)}, "n_test in .* must be one whole number"),
        ({"n_test": np.array(-1)}, "n_test must be a whole number of at least 0"),
        ({"n_test": np.array(6)}, "n_test must be less than the number of images, 6"),
        ({"n_classes": np.array(2**40)}, "n_classes must be at most 1,048,576"),
        ({"n_classes": np.array(0)}, "n_classes must be a whole number of at least 1"),
        ({"labels": np.arange(6) + 2**40}, "labels must be below 1,048,576"),
        ({"labels": np.array([0, 1, None], dtype=object)}, "labels.npy in .*: it holds Python objects"),
        ({"labels": np.arange(6) * 1j}, "labels must be one whole number"),
        ({"class_names": np.array(["a"])}, "class_names in .* must be 3 strings"),
    ],
)
def test_arrays_of_a_file_that_are_out_of_range_are_named(tmp_path, changed, said):
    np.savez(tmp_path / "mine.npz", **{**GOOD, **changed})
    with pytest.raises(ConfigError, match=said):
        image_data(str(tmp_path / "mine.npz"))


def test_damaged_compressed_data_is_refused(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, **GOOD)
    whole = path.read_bytes()
    path.write_bytes(whole[:120] + bytes(20) + whole[140:])
    with pytest.raises(ConfigError, match="cannot read images"):
        image_data(str(path))


def test_names_of_classes_survive_a_file(tmp_path):
    data = ImageData.from_arrays(pictures(6), ["cat", "ant", "bee", "cat", "ant", "bee"])
    assert data.class_names == ("ant", "bee", "cat") and data.labels.tolist() == [2, 0, 1, 2, 0, 1]
    data.save(tmp_path / "mine.npz")
    assert image_data(str(tmp_path / "mine.npz")).class_names == data.class_names
    with pytest.raises(ConfigError, match=r"class 1 \(bee\) of 3 has no training image"):
        mm.ImageTask(ImageConfig("mine", train=1, test=1), data)


@pytest.mark.parametrize(
    ("pixels", "labels", "said"),
    [
        (torch.zeros(3, 1, 4, 4), torch.arange(3), "pixels must be uint8"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), torch.arange(3), "pixels must be uint8"),
        (torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.arange(2), "labels must be int64, one for each image"),
        (np.zeros((3, 1, 4, 4)), torch.arange(3), "pixels must be a tensor"),
    ],
)
def test_image_data_of_other_tensors_is_refused(pixels, labels, said, unchecked_shapes):
    with pytest.raises(ConfigError, match=said):
        ImageData(pixels, labels, 3, 0)


def test_arrays_that_are_changed_afterwards_change_nothing():
    pixels, labels = np.arange(48, dtype=np.uint8).reshape(12, 2, 2), np.arange(12) % 3
    data = mm.ImageData.from_arrays(pixels, labels, n_test=3)
    kept = data.pixels.clone(), data.labels.clone()
    own = mm.ImageData(*kept, n_classes=3, n_test=3)
    for array in (pixels, labels, *kept):
        array[:] = 1
    for found in (data, own):
        assert found.labels.tolist() == [0, 1, 2] * 4 and found.pixels.flatten().tolist() == list(range(48))
