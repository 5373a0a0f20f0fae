"""Inputs of another type of number than a network's parameters."""

import pytest
import torch
from torch import nn

import mechmem as mm
from mechmem.errors import ConfigError
from mechmem.models.networks.build import build_model

MADE = {
    "a linear network": lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3)),
    "mechmem's own": lambda: build_model(mm.ImageMLPConfig(widths=(4,)), task(torch.float32), 0),
}


def task(dtype):
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(30, 1, 4, 4, generator=draw)
    return mm.ArrayTask((images * 50).to(dtype), torch.arange(30) % 3, torch.arange(30) % 3, torch.arange(30) < 20)


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("measure", ["audit", "activations"])
def test_inputs_of_another_type_are_refused_by_name(made, measure):
    network = MADE[made]()
    attached = mm.attach(network) if measure == "activations" and made == "a linear network" else network
    subject = mm.Subject(attached, task(torch.float64))
    with pytest.raises(ConfigError, match=r"inputs are float64 and the network's parameters float32.*model\.double"):
        mm.audit(subject, ["raw"]) if measure == "audit" else mm.activations(subject, "*")


def test_whole_numbers_for_a_network_of_real_numbers_are_refused_by_name():
    with pytest.raises(ConfigError, match="inputs are uint8 and the network's parameters float32"):
        mm.audit(mm.Subject(MADE["a linear network"](), task(torch.uint8)), ["raw"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.uint8])
def test_a_network_that_converts_its_inputs_is_measured(dtype):
    class Converting(nn.Sequential):
        def forward(self, images):
            return super().forward(images.float())

    network = Converting(nn.Flatten(), nn.Linear(16, 3))
    assert mm.audit(mm.Subject(network, task(dtype)), ["raw"]).rows[0].splits["test"].estimate is not None
