"""Copies of training examples in the test set: planted among rows of every kind, found, refused or left out."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

import mechmem as mm
from mechmem.errors import ConfigError, UnknownNameError
from mechmem.tasks.build import build_task
from mechmem.tasks.copies import copies, without_copies
from mechmem.tasks.image_data import ImageData

N, TRAIN = 12, 8
KINDS = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool", "complex64"]


def rows(dtype, shape=(3, 5)):
    """Rows that differ; of truth values and small numbers, so that a hash has little to go by."""
    count = np.prod(shape)
    bits = (torch.arange(N)[:, None] >> torch.arange(count) % 4) & 1
    return bits.reshape(N, *shape).to(getattr(torch, dtype))


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("shape", [(3, 5), (4,), (1,), (2, 2, 7)])
def test_planted_copies_are_found_and_no_others(dtype, shape):
    shape = shape if dtype == "int64" or np.prod(shape) >= 4 else (4,)
    held = torch.arange(N)[:, None].expand(N, 1) if shape == (1,) else rows(dtype, shape)
    planted = held.clone()
    planted[9], planted[11] = held[2], held[7]
    found, of = copies(planted, torch.arange(TRAIN, N), torch.arange(TRAIN))
    assert found.tolist() == [False, True, False, True]
    assert of[found].tolist() == [2, 7]


def test_rows_that_differ_in_signs_alone_are_told_apart():
    signs = 1.0 - 2 * rows("float32")
    assert not copies(signs, torch.arange(TRAIN, N), torch.arange(TRAIN))[0].any()
    zeros = torch.stack([torch.zeros(4), -torch.zeros(4)])
    assert copies(zeros, torch.tensor([1]), torch.tensor([0]))[0].tolist() == [True]


def test_copies_of_many_rows_against_a_set(draw):
    values = torch.randint(0, 30, (20000, 3), generator=draw)
    seen = {tuple(row) for row in values[:12000].tolist()}
    found, of = copies(values, torch.arange(12000, 20000), torch.arange(12000))
    assert found.tolist() == [tuple(row) in seen for row in values[12000:].tolist()]
    assert torch.equal(values[12000:][found], values[of[found]])


def made(copied=(), **changes):
    """A task of 12 rows, 8 of them for training; `copied` maps a held-out row to the training row it repeats."""
    inputs = torch.arange(N * 6.0).reshape(N, 6)
    for held_out, row in copied:
        inputs[held_out] = inputs[row]
    labels = torch.arange(N) % 3
    return mm.ArrayTask(inputs, labels, labels, torch.arange(N) < TRAIN, **changes)


def test_copies_are_refused_unless_they_are_dropped():
    said = r'2 of 4 held-out examples have the input row of .*example 9 that of 2\).*copies="drop"'
    with pytest.raises(ConfigError, match=said):
        made([(9, 2), (11, 7)])
    task = made([(9, 2), (11, 7)], copies="drop")
    assert task.test_ids.tolist() == [8, 10] and task.ids.tolist() == [*range(9), 10]
    assert task.summary["dropped_copies"] == 2 and "(2 copies of training examples left out)" in repr(task)
    assert task.batch(task.test_ids)[0][:, 0].tolist() == [48, 60]
    assert task.digest != made([(9, 2)], copies="drop").digest
    with pytest.raises(UnknownNameError, match="no example id 9"):
        task.rows(torch.tensor([9]))


def test_a_task_without_copies_is_the_same_task_under_both_rules():
    task = made(copies="drop")
    assert task.digest == made().digest and task.summary == made().summary and "dropped_copies" not in task.summary
    with pytest.raises(UnknownNameError, match="rule for copies 'keep'"):
        made(copies="keep")


def test_nothing_is_left_to_test_on():
    with pytest.raises(ConfigError, match="the test set is empty: every held-out example is a copy"):
        made([(held_out, 0) for held_out in range(TRAIN, N)], copies="drop")


def test_copies_among_the_training_rows_or_among_the_held_out_ones_are_none():
    task = made([(1, 0), (9, 8)])
    assert task.test_ids.tolist() == [8, 9, 10, 11] and not task.dropped_copies


def test_a_pair_that_is_held_out_and_trained_is_a_copy_whatever_its_input_row(draw):
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    pairs = torch.cat([pairs, pairs[:1]])
    arrays = torch.randn(26, 4, generator=draw), pairs.sum(1) % 5, pairs.sum(1) % 5, torch.arange(26) < 20
    with pytest.raises(ConfigError, match=r"1 of 6 .* the pair of .*example 25 that of 0"):
        mm.ArrayTask(*arrays, operands=pairs, operation="add")
    task = mm.ArrayTask(*arrays, operands=pairs, operation="add", copies="drop")
    assert task.cell(0, 0) == 0 and len(task.operands) == len(task.ids) == 25
    assert torch.equal(task.operands[task.rows(task.test_ids)], pairs[task.test_ids])


def images(count=40):
    """Images of which the last four repeat the first four."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 5, 4), dtype=np.uint8)
    pixels[-4:] = pixels[:4]
    return pixels, np.arange(count) % 2


def test_images_equal_to_training_images_are_refused_or_dropped():
    data = ImageData.from_arrays(*images(), n_test=10)
    with pytest.raises(ConfigError, match=r"4 of 10 held-out examples have the pixels of a training example"):
        mm.ImageTask(mm.ImageConfig("mine"), data)
    config = mm.ImageConfig("mine", copies="drop")
    task = mm.ImageTask(config, data)
    assert task.test_ids.tolist() == list(range(30, 36)) and task.summary["dropped_copies"] == 4
    assert set(task.ids.tolist()) == set(range(36)) and config.digest != mm.ImageConfig("mine").digest
    recorded = mm.ImageTask(mm.ImageConfig("mine"), data, recorded=True)
    assert len(recorded.test_ids) == 10 and recorded.summary["held_out_copies"] == 4
    assert "(4 are copies of training examples)" in repr(recorded)


def test_real_views_are_training_images_too():
    pixels, labels = images(60)
    pixels[-10:] = pixels[20:30]
    data = ImageData.from_arrays(pixels, labels, n_test=10)
    augmentation = mm.Augmentation(real=True, views=1)
    config = mm.ImageConfig("mine", train=10, augmentation=augmentation, copies="drop")
    task = mm.ImageTask(config, data)
    used = {*task.sources.tolist(), *task._others.flatten().tolist()}
    assert task.dropped_copies == len(used & set(range(20, 30))) > 0


def test_files_and_folders_of_images_are_looked_through(tmp_path):
    pixels, labels = images()
    ImageData.from_arrays(pixels, labels, n_test=10).save(tmp_path / "mine.npz")
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        folder = tmp_path / "folder" / ("train" if number < 30 else "test") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:02}.png")
    for name in ("mine.npz", "folder"):
        config = mm.ImageConfig(str(tmp_path / name))
        with pytest.raises(ConfigError, match="4 of 10 held-out examples"):
            build_task(config)
        assert build_task(dataclasses.replace(config, copies="drop")).dropped_copies == 4


def test_a_run_recorded_with_copies_still_opens(tmp_path, monkeypatch):
    ImageData.from_arrays(*images(), n_test=10).save(tmp_path / "mine.npz")
    task = mm.ImageConfig(str(tmp_path / "mine.npz"))
    config = mm.TrainConfig(task=task, model=mm.ImageMLPConfig(widths=(4,)), steps=1)
    with monkeypatch.context() as earlier:
        earlier.setattr("mechmem.tasks.images.without_copies", lambda *each, keep: without_copies(*each, keep=True))
        before = mm.train(config, out=tmp_path / "run", progress=False)
    with pytest.raises(ConfigError, match="4 of 10"):
        mm.train(config, progress=False)
    for again in (mm.load(tmp_path / "run"), mm.train(config, out=tmp_path / "run", progress=False)):
        assert again.task.held_out_copies == 4 and again.task.digest == before.task.digest


def test_the_data_that_ships_has_no_copies():
    task = build_task(mm.ImageConfig())
    assert not task.dropped_copies and not task.held_out_copies and mm.ImageConfig().digest == "7f2697fb341aedd9"
