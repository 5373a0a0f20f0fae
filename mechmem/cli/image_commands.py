"""The command that trains networks on images. Imports no torch."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from mechmem.cli.commands import Training, chosen_model, shared
from mechmem.cli.mask_options import default
from mechmem.models.networks.config import ModelConfig
from mechmem.models.networks.image_config import CNNConfig, ImageMLPConfig, ResNetConfig
from mechmem.tasks.config import LabelNoise
from mechmem.tasks.image_config import Augmentation, ImageConfig, ViewLabels
from mechmem.training.config import OptimizerName, TrainConfig

MODELS: dict[str, type[ModelConfig]] = {"mlp": ImageMLPConfig, "cnn": CNNConfig, "resnet": ResNetConfig}


def _numbers(values: tuple[int, ...]) -> Any:
    return default(" ".join(map(str, values)), "INT…")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainImages(Training):
    """Train a network on images with wrong labels; the same command resumes or returns.

    Attributes:
        data: digits, mnist5k, a HuggingFace data set by name, a folder of images by class, or an .npz file.
        train: number of training images; 0 for all.
        test: number of test images; 0 for all, or a fifth where the data has no test split.
        label_noise: share of the training labels that is replaced; 1 with --noise-kind any for random labels.
        noise_kind: whether a replaced label is always wrong, or any class.
        model: the kind of network.
        widths: mlp: neurons of each hidden layer.
        channels: cnn: channels of each convolution.
        batch_norm: cnn: put BatchNorm after every convolution.
        width: resnet: channels of the first stage.
        blocks: resnet: blocks of each stage.
        projector: width of a projector before the readout; 0 for none.
        unbiased: leave biases out, as turn-over dropout wants it.
        degrees: augmentation: rotation by at most so many degrees.
        translate: augmentation: shift by at most this share of the side.
        zoom: augmentation: scaling by at most this share.
        shear: augmentation: shear by at most so many degrees.
        crop: augmentation: a part of at least this share of the area, enlarged.
        flip: augmentation: mirror half of the images.
        jitter: augmentation: change of brightness, contrast and colours.
        grayscale: augmentation: probability of losing the colours.
        randaugment: augmentation: magnitude of RandAugment, up to 29.
        mixup: augmentation: mix inputs, λ ~ Beta(mixup, mixup).
        real: augmentation: other images of the class in the place of changed ones; needs --views.
        views: augmentation: so many fixed views per image; 0 for a new one at every step.
        view_labels: whether the views of an image share its label or draw their own.
        optimizer: the optimiser.
        weight_decay: weight decay.
        batch_size: examples per step; 0 for the full batch.
        out: the run directory; by default runs/<data>-<model>-noise<noise>-seed<seed>.
    """

    data: tyro.conf.Positional[str]
    train: int = 0
    test: int = 0
    label_noise: float = 0.4
    noise_kind: Literal["wrong", "any"] = "wrong"
    model: Literal["mlp", "cnn", "resnet"] = "mlp"
    widths: Annotated[tuple[int, ...] | None, _numbers(ImageMLPConfig.widths)] = None
    channels: Annotated[tuple[int, ...] | None, _numbers(CNNConfig.channels)] = None
    batch_norm: bool = False
    width: Annotated[int | None, default(ResNetConfig.width, "INT")] = None
    blocks: Annotated[tuple[int, ...] | None, _numbers(ResNetConfig.blocks)] = None
    projector: int = 0
    unbiased: bool = False
    degrees: float = 0.0
    translate: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    crop: float = 1.0
    flip: bool = False
    jitter: float = 0.0
    grayscale: float = 0.0
    randaugment: int = 0
    mixup: float = 0.0
    real: bool = False
    views: int = 0
    view_labels: ViewLabels = "same"
    optimizer: OptimizerName = "adam"
    weight_decay: float = 0.0
    batch_size: int = 128
    out: Path | None = None

    def run_name(self) -> str:
        """Return what the run is called, unless it is given a directory."""
        data = re.sub(r"[^\w.-]+", "-", Path(self.data).stem) or "images"
        return f"{data}-{self.model}-noise{self.label_noise:g}-seed{self.seed}"

    def config(self) -> TrainConfig:
        """Build the config.

        Raises:
            ConfigError: a setting is not allowed.
        """
        changes = {field.name for field in dataclasses.fields(Augmentation)} - {"labels", "seed"}
        augmentation = Augmentation(
            **{name: getattr(self, name) for name in changes}, labels=self.view_labels, seed=self.seed
        )
        task = ImageConfig(
            data=self.data,
            train=self.train,
            test=self.test,
            noise=LabelNoise(self.label_noise, self.noise_kind),
            augmentation=augmentation,
            seed=self.seed,
        )
        model = chosen_model(self, MODELS, self.model)
        if self.unbiased:
            model = dataclasses.replace(model, biases=False)  # pyright: ignore[reportCallIssue]
        return TrainConfig(task=task, model=model, **shared(self))
