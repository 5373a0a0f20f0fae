"""Files of images that change after a network was trained on them: nothing else is trained or pooled with it."""

import numpy as np
import pytest

import mechmem as mm
from mechmem.core.alike import check_alike
from mechmem.errors import ConfigError, RunDirectoryError


@pytest.fixture
def written(tmp_path):
    """Writes the file, with the images in one of two orders, and returns the config of a training on it."""
    draw = np.random.default_rng(0)
    labels = np.arange(60) % 3
    pixels = draw.integers(0, 80, (60, 6, 6)).astype(np.uint8)
    pixels[np.arange(60), labels] = 255
    images = {"as it was": pixels, "in another order": pixels[draw.permutation(60)]}

    def write(order, seed=0):
        mm.ImageData.from_arrays(images[order], labels, n_test=20).save(tmp_path / "data.npz")
        task = mm.ImageConfig(str(tmp_path / "data.npz"), noise=mm.LabelNoise(0.2), seed=seed)
        return mm.TrainConfig(task, mm.ImageMLPConfig((8,)), batch_size=10, steps=8, evaluations=2, seed=seed)

    return write


def test_twins_are_trained_on_the_data_of_their_network(written, tmp_path):
    network = mm.train(written("as it was"), out=tmp_path / "run", progress=False)
    written("in another order")
    for train in (
        lambda: network.retrainer.twin("untrained"),
        lambda: network.retrainer.twin("noise_only"),
        lambda: network.retrainer.retrained(seed=3),
        lambda: mm.leave_one_out(network, network.task.train_ids[:2], progress=False),
    ):
        with pytest.raises(RunDirectoryError, match="data have changed since"):
            train()
    written("as it was")
    assert mm.load(tmp_path / "run").retrainer.twin("noise_only") is not None


def test_a_sweep_does_not_go_on_with_other_data(written, tmp_path):
    settings = {"out": tmp_path / "s", "engine": "inline", "progress": False}
    before = mm.sweep(written("as it was"), {"seed": [0]}, **settings).to_frame()
    changed = written("in another order")
    with pytest.raises(RunDirectoryError, match="data have changed since"):
        mm.sweep(changed, {"seed": [0, 1]}, **settings)
    assert len(list((tmp_path / "s" / "runs").iterdir())) == 1
    after = mm.sweep(written("as it was"), {"seed": [0, 1]}, **settings).to_frame()
    assert after.loc[after["seed"] == 0, "value"].tolist() == before["value"].tolist()


def test_networks_of_other_data_are_not_pooled(written, tmp_path):
    one = mm.train(written("as it was"), progress=False)
    alike = mm.train(written("as it was", seed=1), progress=False)
    check_alike([one, alike], "subject")
    other = mm.train(written("in another order", seed=1), progress=False)
    with pytest.raises(ConfigError, match="the files that they were read from"):
        mm.audit([one, other], ["raw"])
