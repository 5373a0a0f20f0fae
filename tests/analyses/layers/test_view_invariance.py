"""Layers that are planted to see all of a view, or none of what sets it apart."""

import pytest
import torch
from torch import nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.analyses.layers.view_invariance import ViewInvariance
from mechmem.errors import MissingNeedError

FLIPPED = mm.Augmentation(flip=True)


class Folded(HookedRootModule):
    """Layers: the pixels; what mirroring leaves alone; a constant."""

    def __init__(self):
        super().__init__()
        self.readout = nn.Linear(1, 2)
        self.hook_pixels, self.hook_folded, self.hook_constant = HookPoint(), HookPoint(), HookPoint()
        self.roles = mm.Roles(hidden=("hook_pixels", "hook_folded", "hook_constant"))
        self.setup()

    def forward(self, x):
        x = self.hook_pixels(x)
        folded = self.hook_folded(x + x.flip(3))
        constant = self.hook_constant(0 * folded.flatten(1)[:, :1] + 1)
        return self.readout(constant)


def task(augmentation, n=40):
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (n, 1, 9, 9), generator=draw).to(torch.uint8)
    return mm.ImageTask(
        mm.ImageConfig(train=20, test=15, augmentation=augmentation), mm.ImageData(pixels, torch.arange(n) % 2, 2, 0)
    )


@pytest.fixture(scope="module")
def result():
    model = Folded()
    return ViewInvariance(points="inputs hook_pixels hook_folded hook_constant", views=6)(
        mm.Subject(model, task(FLIPPED), model.roles)
    )


def test_what_mirroring_leaves_alone_is_invariant(result):
    frame = result.to_frame().set_index(["layer", "part"])
    for part, n in (("train", 20), ("test", 15)):
        folded, pixels = frame.loc[("hook_folded", part)], frame.loc[("hook_pixels", part)]
        assert folded["invariance"] == pytest.approx(1) and folded["same"] == pytest.approx(1) and folded["n"] == n
        assert 0.2 < pixels["invariance"] < 0.8 and pixels["low"] < pixels["invariance"] < pixels["high"]
        assert pixels["invariance"] == pytest.approx(frame.loc[("inputs", part), "invariance"])
    assert "untrained" not in set(result.to_frame()["network"]) and "no untrained twin" in result.note


def test_alike_for_all_images_is_not_invariant_but_undefined(result):
    frame = result.to_frame().set_index("layer").loc["hook_constant"]
    assert frame["invariance"].isna().all() and (frame["different"] == 1).all()


def test_fewer_images_and_a_run(tmp_path):
    config = mm.TrainConfig(
        mm.ImageConfig(train=40, test=30, augmentation=mm.Augmentation(degrees=20, views=2)),
        mm.CNNConfig((3, 4)),
        steps=3,
        batch_size=20,
    )
    subject = mm.train(config, out=tmp_path / "run", progress=False)
    found = mm.analyse(subject, "view_invariance", views=3, limit=7)
    assert found.same.shape == (2, 3, 14) and set(found.to_frame()["network"]) == {"trained", "untrained"}
    again = mm.analyse(subject, "view_invariance", views=3, limit=7)
    assert torch.equal(found.same, again.same)
    figure = found.plot()
    assert {trace.name for trace in figure.data if trace.mode == "lines+markers"} == {
        "training images",
        "test images",
        "test images, untrained network",
    }


def test_a_task_without_augmentation_is_refused():
    model = Folded()
    with pytest.raises(MissingNeedError, match="needs augmentation"):
        ViewInvariance()(mm.Subject(model, task(mm.Augmentation()), model.roles))
