"""Networks for images: shapes at every point, plain PyTorch beside them, and what their roles read."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mechmem as mm
from mechmem.core.config import Config
from mechmem.core.randomness import derive_seed
from mechmem.errors import ConfigError
from mechmem.models.networks.build import build_model
from mechmem.models.networks.image_config import CNNConfig, ImageMLPConfig, ResNetConfig
from mechmem.models.networks.images import HookedImageNetwork
from mechmem.models.reading.linear_readout import linear_readout
from mechmem.tasks.build import build_task
from mechmem.tasks.image_config import ImageConfig

CONFIGS = {
    "mlp": ImageMLPConfig((12, 7)),
    "mlp with a projector": ImageMLPConfig((12,), projector=6),
    "cnn": CNNConfig((4, 6)),
    "cnn with BatchNorm and a projector": CNNConfig((4, 6, 8, 5), batch_norm=True, projector=9),
    "resnet": ResNetConfig(3, (1, 2)),
}


@pytest.fixture(scope="module")
def task():
    return build_task(ImageConfig(train=100, test=40, noise=mm.LabelNoise(0.2)))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_point_fires_and_the_readout_reads_the_last(name, task):
    model = build_model(CONFIGS[name], task, 0)
    subject = mm.Subject(model, task, model.roles)
    found = mm.activations(subject, "*", ids=task.test_ids)
    assert set(found) == set(model.hook_dict)
    assert set(model.roles.hidden) <= set(found) and found["hook_logits"].shape == (40, 10)
    last = found[model.roles.hidden[-1]]
    bias = 0 if model.roles.bias is None else model.roles.bias.read(model)
    rebuilt = last @ model.roles.readout.read(model) + bias
    torch.testing.assert_close(rebuilt.detach(), found["hook_logits"], atol=1e-5, rtol=1e-5)
    assert linear_readout(subject).hidden.shape[1] == last.shape[1]


def test_the_mlp_is_pytorch_s():
    config = ImageMLPConfig((12, 7))
    model = HookedImageNetwork(config, (2, 3, 4), 5, seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(3, "init"))
        layers = [nn.Linear(24, 12), nn.Linear(12, 7), nn.Linear(7, 5)]
    plain = nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    images = torch.randn(6, 2, 3, 4)
    torch.testing.assert_close(model(images), plain(images))


def test_the_cnn_pools_while_there_is_something_to_pool():
    model = HookedImageNetwork(CNNConfig((3, 4, 5, 6)), (1, 8, 8), 2).eval()
    with torch.no_grad():
        _, cache = model.run_with_cache(torch.randn(2, 1, 8, 8))
    shapes = [tuple(cache[f"layers.{number}.hook_hidden"].shape[1:]) for number in range(4)]
    assert shapes == [(3, 4, 4), (4, 2, 2), (5, 1, 1), (6, 1, 1)]


def test_the_resnet_has_the_shapes_and_the_size_of_resnet18():
    model = HookedImageNetwork(ResNetConfig(), (3, 32, 32), 10).eval()
    # The count of the CIFAR ResNet18 that everybody uses.
    assert sum(p.numel() for p in model.parameters()) == 11_173_962
    with torch.no_grad():
        _, cache = model.run_with_cache(torch.randn(1, 3, 32, 32))
    ends = [tuple(cache[f"layers.{number}.hook_hidden"].shape[1:]) for number in (0, 2, 4, 6, 8)]
    assert ends == [(64, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


def test_a_residual_block_adds_what_came_in():
    block = HookedImageNetwork(ResNetConfig(3, (1,)), (2, 4, 4), 2).double().eval().layers[1]
    held = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    conv1 = F.conv2d(held, block.conv1.weight, padding=1) / (1 + 1e-5) ** 0.5
    conv2 = F.conv2d(conv1.relu(), block.conv2.weight, padding=1) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(block(held), (conv2 + held).relu())


def test_the_seed_is_the_initialisation_and_leaves_pytorch_s_own_state_alone(task):
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    one, same, other = (build_model(CONFIGS["cnn"], task, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    for a, b, c in zip(one.parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.parametrize("name", ["mlp", "cnn with BatchNorm and a projector"])
def test_it_trains_resumes_and_opens(name, task, tmp_path):
    model = CONFIGS[name]
    config = mm.TrainConfig(
        task.config, model, loss="mse", lr=0.01, batch_size=25, steps=60, evaluations=3, checkpoints=2
    )
    subject = mm.train(config, out=tmp_path / "run", progress=False)
    history = subject.run.history()
    assert history["train_loss"].iloc[-1] < 0.7 * history["train_loss"].iloc[0]
    opened = mm.load(tmp_path / "run")
    images = task.batch(task.test_ids)[0]
    assert torch.equal(opened.model(images), subject.model(images))
    assert Config.from_dict(config.to_dict()) == config
    assert mm.audit(subject, ["raw", "masc@hidden.0"]).row("raw").controls["noise_only"].estimate is not None


def test_refusals(task):
    for wrong, said in (
        (lambda: ImageMLPConfig(()), "at least one number"),
        (lambda: CNNConfig((0,)), "channels must be a whole number of at least 1"),
        (lambda: ResNetConfig(projector=-1), "projector must be a whole number"),
        (lambda: ImageMLPConfig((10**6,)), "at most 16384"),
        (lambda: build_model(mm.MLPConfig(), task, 0), "'mlp' reads pairs of symbols"),
        (lambda: build_model(CNNConfig(), build_task(mm.ModularConfig(p=5)), 0), "'cnn' reads images"),
    ):
        with pytest.raises(ConfigError, match=said):
            wrong()


def test_products_are_those_of_the_layers():
    mlp, cnn, resnet = ImageMLPConfig((100, 50)), CNNConfig((8, 16)), ResNetConfig(64)
    assert mlp.products(10) == 784 * 100 + 100 * 50
    assert cnn.products(10) == 9 * (8 * 28**2 + 8 * 16 * 14**2)
    # Four stages of four convolutions that cost alike, but for the first of each that halves the image.
    alike = 9 * 64 * 64 * 28**2
    stages = alike * 4 + sum(9 * (64 * 2**s) ** 2 * (28 // 2**s) ** 2 * 3.5 for s in (1, 2, 3))
    assert resnet.products(10) == 9 * 64 * 28**2 + stages
