"""Whatever is measured of layers, the network runs as often for five of them as for one."""

import collections
import dataclasses

import pytest
import torch
from held_layers import Twins
from torch import nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.core.plugins import plugins
from mechmem.layers.analysis import LayerAnalysis

LAYERS, SIDE = 5, 5


class Counting(HookedRootModule):
    """Five layers of numbers, the third with rows and columns; counts its calls, and how often it saw each input."""

    def __init__(self, seed):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.maps = nn.ParameterList(torch.randn(SIDE**2, SIDE**2, generator=draw) / SIDE for _ in range(LAYERS))
        self.points = nn.ModuleList(HookPoint() for _ in range(LAYERS))
        self.roles = mm.Roles(hidden=tuple(f"points.{number}" for number in range(LAYERS)))
        self.calls, self.seen = 0, collections.Counter()
        self.setup()

    def forward(self, x):
        self.calls += 1
        self.seen.update(row.numpy().tobytes() for row in x)
        x = x.flatten(1)
        for number, (weight, point) in enumerate(zip(self.maps, self.points, strict=True)):
            x = (x @ weight).tanh()
            x = point(x.unflatten(1, (1, SIDE, SIDE))).flatten(1) if number == 2 else point(x)
        return x[:, :3]


def counting(augmentation):
    """Return a subject and its networks: itself, before training, with true labels."""
    n, models = 400, [Counting(seed) for seed in range(3)]
    pixels = torch.randint(256, (n, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    data = mm.ImageData(pixels, torch.arange(n) % 3, 3, 0)
    config = mm.ImageConfig(train=150, test=100, noise=mm.LabelNoise(0.3), augmentation=augmentation)
    twins = Twins(untrained=models[1], clean_labels=models[2])
    return mm.Subject(models[0], mm.ImageTask(config, data), models[0].roles, retrainer=twins), models


def of_layers():
    """Return every analysis of layers, and every score of examples that reads some."""
    analyses = [cls for cls in plugins("analyses").values() if issubclass(cls, LayerAnalysis)]
    scores = plugins("example_scores").values()
    return analyses + [cls for cls in scores if "points" in {field.name for field in dataclasses.fields(cls)}]


def run(cls, points):
    augmented = "augmentation" in cls.needs
    subject, models = counting(mm.Augmentation(flip=True) if augmented else mm.Augmentation())
    result = cls(points=points)(subject)
    return result, [(model.calls, model.seen) for model in models]


@pytest.mark.parametrize("cls", of_layers(), ids=lambda cls: f"{cls.__module__.split('.')[1]}: {cls.name}")
def test_five_layers_take_no_more_passes_than_one(cls):
    _, one = run(cls, "hidden.4")
    for points in ("", "points.*", "inputs hidden.0 hidden.1 hidden.2 hidden.3 hidden.4"):
        _, many = run(cls, points)
        assert many == one
    assert one[0][0] > 0
    # Augmented views of a small image may be alike.
    assert "augmentation" in cls.needs or all(set(seen.values()) <= {1} for _, seen in one)


def test_there_are_such_plugins():
    names = {cls.name for cls in of_layers()}
    assert {"class_manifolds", "feature_norms", "layer_similarity", "prediction_depth", "view_invariance"} <= names
