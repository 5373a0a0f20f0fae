"""Image tasks: sizes, shares of classes, labels and inputs, on planted pixels and on the data that ships."""

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import mechmem as mm
from mechmem.core.config import Config
from mechmem.errors import ConfigError
from mechmem.models.networks.build import build_model
from mechmem.tasks.build import build_task
from mechmem.tasks.image_config import ImageConfig
from mechmem.tasks.image_data import ImageData
from mechmem.tasks.image_sources import image_data
from mechmem.tasks.images import ImageTask


def planted(counts=(40, 20, 60), n_test=0, channels=1):
    """Images whose every pixel is 10 times their class plus their number, but for one, by which all of them differ."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    pixels = (10 * labels + torch.arange(len(labels)) % 7).to(torch.uint8)
    pixels = pixels[:, None, None, None].repeat(1, channels, 4, 5)
    pixels[:, :, 0, 0] = torch.arange(len(labels))[:, None]
    return ImageData(pixels, labels, len(counts), n_test)


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    task = build_task(ImageConfig())
    images, labels = load_digits(return_X_y=True)
    assert task.shape == (1, 8, 8) and task.n_classes == 10
    assert len(task.train_ids) + len(task.test_ids) == len(task.ids) == 1797 and len(task.test_ids) == 359
    inputs, given = task.batch(task.ids)
    trained = (images * 255 / 16).round()[task.train_ids]
    expected = ((images * 255 / 16).round() - trained.mean()) / trained.std(ddof=1)
    np.testing.assert_allclose(inputs.flatten(1), expected[task.ids], atol=1e-5)
    assert torch.equal(given, torch.from_numpy(labels)[task.ids]) and torch.equal(task.true(task.ids), given)


@pytest.mark.slow
def test_mnist_is_shuffled_and_balanced():
    task = build_task(ImageConfig("mnist5k", train=1000, test=500))
    assert task.shape == (1, 28, 28)
    for ids, each in ((task.train_ids, 100), (task.test_ids, 50)):
        assert torch.bincount(task.true(ids)).tolist() == [each] * 10
    assert not set(task.train_ids.tolist()) & set(task.test_ids.tolist())


@settings(max_examples=25)
@given(st.integers(6, 80), st.integers(1, 40), st.integers(0, 5))
def test_every_class_has_its_share(train, test, seed):
    task = ImageTask(ImageConfig(train=train, test=test, seed=seed), planted())
    for ids, count, left in ((task.test_ids, test, torch.tensor([40, 20, 60])), (task.train_ids, train, None)):
        own = torch.bincount(task.true(ids), minlength=3)
        assert int(own.sum()) == count and len(ids.unique()) == count
        share = torch.tensor([40, 20, 60]) * count / 120 if left is not None else None
        if share is not None:
            assert ((own - share).abs() <= 1).all()
    assert (
        torch.bincount(task.true(task.train_ids), minlength=3) - torch.tensor([2, 1, 3]) * train / 6
    ).abs().max() < 3


def test_a_test_split_of_its_own_is_kept_apart():
    data = planted(n_test=30)
    task = ImageTask(ImageConfig(), data)
    assert torch.equal(task.test_ids, torch.arange(90, 120)) and torch.equal(task.train_ids, torch.arange(90))
    fewer = ImageTask(ImageConfig(train=40, test=12), data)
    assert len(fewer.train_ids) == 40 and int(fewer.train_ids.max()) < 90
    assert len(fewer.test_ids) == 12 and int(fewer.test_ids.min()) >= 90


@pytest.mark.parametrize("distribution", ["wrong", "any"])
def test_noise_is_on_training_labels_alone(distribution):
    task = ImageTask(ImageConfig(noise=mm.LabelNoise(0.5, distribution)), planted())
    truth = task.true(task.train_ids)
    changed = (task.given(task.train_ids) != truth).sum()
    assert torch.equal(task.given(task.test_ids), task.true(task.test_ids))
    expected = round(0.5 * len(truth))
    assert changed == expected if distribution == "wrong" else 0 < changed < expected
    random = ImageTask(task.config.noise_only(), planted())
    assert torch.equal(random.train_ids, task.train_ids)
    assert abs(int((random.given(random.train_ids) == truth).sum()) / len(truth) - 1 / 3) < 0.15


def test_inputs_are_standardised_by_the_training_images_channel_by_channel():
    data = planted(channels=3)
    data.pixels[:, 2] //= 2
    task = ImageTask(ImageConfig(), data)
    inputs = task.batch(task.train_ids)[0]
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(inputs.std((0, 2, 3)), torch.ones(3), atol=1e-5, rtol=0)
    assert inputs.dtype == torch.float32


def test_the_same_config_is_the_same_task_and_survives_a_file():
    config = ImageConfig(train=30, noise=mm.LabelNoise(0.3), seed=4)
    one, two = (ImageTask(each, planted()) for each in (config, Config.from_dict(config.to_dict())))
    assert torch.equal(one.train_ids, two.train_ids) and torch.equal(one.given(one.ids), two.given(two.ids))
    other = ImageTask(ImageConfig(train=30, noise=mm.LabelNoise(0.3), seed=5), planted())
    assert not torch.equal(one.train_ids, other.train_ids) and one.digest != other.digest
    assert one.summary["n_train_noisy"] == 9


def test_a_folder_of_images_and_a_saved_data_set(tmp_path):
    draw = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 255, (5, 4, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    datasets.disable_progress_bars()
    data = image_data(str(tmp_path))
    assert data.pixels.shape == (18, 3, 5, 4) and data.n_test == 6 and data.n_classes == 2
    assert data.labels.tolist() == [0] * 6 + [1] * 6 + [0] * 3 + [1] * 3
    first = np.asarray(Image.open(tmp_path / "train" / "cat" / "0.png"))
    np.testing.assert_array_equal(data.pixels[0].permute(1, 2, 0), first)
    task = build_task(ImageConfig(str(tmp_path)))
    assert (len(task.train_ids), len(task.test_ids)) == (12, 6)


def test_refusals(tmp_path):
    for settings_, said in (
        ({"noise": mm.LabelNoise(0.1, "symmetric")}, "needs inputs that are pairs"),
        ({"train": -1}, "train must be a whole number"),
        ({"data": ""}, "name of a data set"),
    ):
        with pytest.raises(ConfigError, match=said):
            ImageConfig(**settings_)
    with pytest.raises(ConfigError, match="200 training images requested, but only 96 are available"):
        ImageTask(ImageConfig(train=200), planted())
    with pytest.raises(ConfigError, match="neither digits, mnist5k, a local folder"):
        build_task(ImageConfig(str(tmp_path / "nothing")))


def folder_of_images(path, count=3):
    for name in ("cat", "dog"):
        (path / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(np.full((5, 4), 9 * number, dtype=np.uint8)).save(path / name / f"{number}.png")
    return path


def test_an_unreadable_or_odd_file_of_a_folder_is_named(tmp_path, capfd):
    broken = folder_of_images(tmp_path / "broken")
    (broken / "dog" / "1.png").write_bytes(b"no image")
    odd = folder_of_images(tmp_path / "odd")
    Image.fromarray(np.zeros((9, 9), dtype=np.uint8)).save(odd / "dog" / "1.png")
    colour = folder_of_images(tmp_path / "colour")
    Image.fromarray(np.zeros((5, 4, 3), dtype=np.uint8)).save(colour / "dog" / "1.png")
    for path, said in ((broken, "cannot be read"), (odd, "must be equal"), (colour, "must be equal")):
        with pytest.raises(ConfigError, match=rf"1\.png.*{said}") as caught:
            image_data(str(path))
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_data_is_read_once_until_it_changes_on_disk(tmp_path, monkeypatch):
    for folder, side in (("one", 4), ("two", 5)):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        ImageData.from_arrays(np.zeros((4, side, side), np.uint8), np.arange(4) % 2).save("mine.npz")
        assert image_data("mine.npz").pixels.shape[2] == side
        assert image_data("mine.npz") is image_data("mine.npz")
    ImageData.from_arrays(np.zeros((4, 6, 6), np.uint8), np.arange(4) % 2).save("mine.npz")
    assert image_data("mine.npz").pixels.shape[2] == 6
    images = folder_of_images(tmp_path / "images")
    assert len(image_data(str(images)).labels) == 6
    Image.fromarray(np.zeros((5, 4), dtype=np.uint8)).save(images / "dog" / "9.png")
    assert len(image_data(str(images)).labels) == 7


def test_arrays_in_any_usual_form_are_the_same_data():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 3, 6, 5), dtype=np.uint8)
    labels = np.arange(9) % 3
    first = ImageData.from_arrays(pixels, labels)
    for other in (pixels.transpose(0, 2, 3, 1), pixels.astype(np.int64), pixels / 255, torch.from_numpy(pixels)):
        assert torch.equal(ImageData.from_arrays(other, labels).pixels, first.pixels)
    assert ImageData.from_arrays(pixels[:, 0], labels).pixels.shape == (9, 1, 6, 5)
    assert first.n_classes == 3 and first.digest == ImageData.from_arrays(pixels, labels).digest
    assert first.digest != ImageData.from_arrays(pixels, labels, n_test=2).digest


def test_arrays_make_a_task_and_a_file_that_a_config_names(tmp_path):
    data = planted(channels=3)
    data.save(tmp_path / "mine.npz")
    config = ImageConfig(str(tmp_path / "mine.npz"), train=30, test=20)
    read, passed = build_task(config), ImageTask(config, data)
    assert torch.equal(read.batch(read.ids)[0], passed.batch(passed.ids)[0]) and read.digest == passed.digest
    data.labels[0] = (data.labels[0] + 1) % 3
    changed = ImageTask(config, ImageData(data.pixels, data.labels, 3, 0))
    assert changed.digest != passed.digest


def test_arrays_of_images_are_what_a_network_for_images_takes():
    inputs = torch.randn(12, 1, 6, 5)
    labels = torch.arange(12) % 3
    task = mm.ArrayTask(inputs, labels, labels, torch.arange(12) < 9)
    model = build_model(mm.CNNConfig((4,)), task, 0)
    assert model(inputs).shape == (12, 3)
    with pytest.raises(ConfigError, match="reads images"):
        build_model(mm.CNNConfig((4,)), mm.ArrayTask(inputs.flatten(1), labels, labels, torch.arange(12) < 9), 0)


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (np.full((4, 3, 3), np.nan), np.arange(4), "not a number"),
        (np.full((4, 3, 3), 7.5), np.arange(4), "0 … 1"),
        (np.full((4, 3, 3), 300), np.arange(4), "0 … 255"),
        (np.zeros((4, 2, 5, 5), np.uint8), np.arange(4), "1 or 3 channels"),
        (np.zeros((4, 9), np.uint8), np.arange(4), "1 or 3 channels"),
        (np.zeros((4, 3, 3), np.uint8), np.arange(3), "one whole number"),
        (np.zeros((4, 3, 3), np.uint8), np.arange(4) - 1, "holds -1, which is no class"),
        (np.zeros((4, 3, 3), np.uint8), np.arange(4) / 2, "one whole number"),
    ],
)
def test_arrays_that_are_no_images_are_refused(images, labels, said):
    with pytest.raises(ConfigError, match=said):
        ImageData.from_arrays(images, labels)
    with pytest.raises(ConfigError, match="labels must lie"):
        ImageData.from_arrays(np.zeros((4, 3, 3), np.uint8), np.arange(4), n_classes=3)


def test_files_of_other_arrays_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no zip")
    np.savez(tmp_path / "other.npz", pixels=np.zeros(3))
    for name, said in (("text.npz", "cannot read"), ("other.npz", "no arrays"), ("none.npz", "cannot read")):
        with pytest.raises(ConfigError, match=said):
            image_data(str(tmp_path / name))


def test_a_class_without_training_images_is_refused():
    with pytest.raises(ConfigError, match="class 1 of 3 has no training image"):
        ImageTask(ImageConfig(train=2), planted(counts=(40, 4, 60)))
