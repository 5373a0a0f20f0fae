"""Every field of every config can be set from the command line, by an option whose help is the config's."""

import dataclasses

import pytest
import tyro

from mechmem.cli import commands
from mechmem.cli.commands import Train, TrainImages
from mechmem.cli.grouping import grouped, ungrouped
from mechmem.cli.options import field_texts
from mechmem.core.config import Config
from mechmem.models.networks.config import MLPConfig, TransformerConfig
from mechmem.models.networks.image_config import CNNConfig, ImageMLPConfig, ResNetConfig
from mechmem.models.networks.mask_config import ExampleTied, TurnOver
from mechmem.tasks.config import GroupConfig, LabelNoise, ModularConfig
from mechmem.tasks.image_config import Augmentation, ImageConfig
from mechmem.training.config import TrainConfig

CONFIGS = {
    Train: {
        ModularConfig: "",
        GroupConfig: "--group S5",
        LabelNoise: "",
        MLPConfig: "",
        TransformerConfig: "--model transformer",
        TurnOver: "--masks turn_over",
        ExampleTied: "--masks example_tied",
        TrainConfig: "",
    },
    TrainImages: {
        ImageConfig: "",
        LabelNoise: "",
        Augmentation: "",
        ImageMLPConfig: "",
        CNNConfig: "--model cnn",
        ResNetConfig: "--model resnet",
        TurnOver: "--masks turn_over",
        ExampleTied: "--masks example_tied",
        TrainConfig: "",
    },
}
"""The configs that a command builds, and the options that ask for them."""

NAMES = {
    (LabelNoise, "fraction"): "label-noise",
    (LabelNoise, "distribution"): "noise-kind",
    (Augmentation, "labels"): "view-labels",
    **{(kind, "layers"): "mask-layers" for kind in (TurnOver, ExampleTied)},
    **{(kind, "seed"): "mask-seed" for kind in (TurnOver, ExampleTied)},
    **{(kind, "stream"): "bare-stream" for kind in (TurnOver, ExampleTied)},
    (ExampleTied, "shared"): "shared-units",
    (ExampleTied, "memory"): "memory-units",
    **{(kind, "biases"): "unbiased" for kind in (ImageMLPConfig, CNNConfig, ResNetConfig)},
}
"""Options that have another name than their field's."""

VALUES = {
    "op": "subtract", "group": "S4", "split": "stratified", "distribution": "any", "activation": "gelu",
    "init": "pytorch", "d_model": "64", "heads": "8", "d_head": "5", "d_mlp": "5", "attention": "bidirectional",
    "tokens": "2", "biases": "all", "loss": "mse", "optimizer": "sgd", "precision": "bf16", "betas": "0.25 0.5",
    "stop_when": "test >= 0.5", "data": "mnist5k", "labels": "independent",
    "copies": "drop",
}  # fmt: skip
"""Values other than the default, where a number would not do."""

TOGETHER = {"real": "--views 2", "views": "--flip", "labels": "--views 2 --flip"}
"""Options without which another one is refused."""

CASES = [
    pytest.param(command, config, field, id=f"{command.__name__}-{config.__name__}-{field.name}")
    for command, configs in CONFIGS.items()
    for config in configs
    for field in dataclasses.fields(config)
    if field.name not in ("task", "model", "masks", "noise", "augmentation")
]


def parsed(command, options):
    """The config that a command with these options asks for."""
    data = ["digits"] if command is TrainImages and "mnist5k" not in options else []
    settings = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
    return ungrouped(command, tyro.cli(grouped(command), args=[*data, *options], config=settings)).config()


def part(config, kind):
    """The part of a config that is of this kind."""
    if type(config) is kind:
        return config
    inner = (getattr(config, field.name) for field in dataclasses.fields(config))
    found = (part(each, kind) for each in inner if isinstance(each, Config))
    return next((each for each in found if each is not None), None)


def value_of(field):
    """A value as it is written, other than a field's default; none for a flag."""
    if field.name in VALUES and not isinstance(field.default, bool):
        return VALUES[field.name].split(" ") if field.name == "betas" else [VALUES[field.name]]
    if isinstance(field.default, bool):
        return []
    if isinstance(field.default, tuple):
        return ["1", "0"] if field.name in ("layers", "left_out") else ["3", "2"]
    return ["0.25"] if isinstance(field.default, float) else [str(field.default + 1)]


@pytest.mark.parametrize(("command", "config", "field"), CASES)
def test_every_field_can_be_set(command, config, field):
    chosen = CONFIGS[command][config].split()
    written = value_of(field)
    if field.name in ("group", "data"):
        chosen, options = [], [f"--{field.name}"] * (field.name == "group") + written
    else:
        options = [f"--{NAMES.get((config, field.name), field.name.replace('_', '-'))}", *written]
    options += TOGETHER.get(field.name, "").split()
    before = part(parsed(command, chosen), config)
    after = part(parsed(command, [*chosen, *options]), config)
    found = getattr(after, field.name)
    if config is GroupConfig and field.name == "op":
        assert found == "divide"
    elif isinstance(field.default, bool):
        assert found is (not field.default)
    else:
        assert " ".join(map(str, found if isinstance(found, tuple) else [found])) == " ".join(written)
    assert before is None or getattr(before, field.name) != found


def test_the_parts_of_a_command_build_every_config():
    """So that a config that a command comes to build is among those whose fields are tried above."""
    built = {
        config
        for part in vars(commands).values()
        if isinstance(part, commands.Part)
        for config in part.kinds.values()
        if config is not None
    }
    assert built == {config for configs in CONFIGS.values() for config in configs}


@pytest.mark.parametrize("config", dict.fromkeys(config for configs in CONFIGS.values() for config in configs))
def test_every_field_has_a_text(config):
    assert set(field_texts(config)) >= {field.name for field in dataclasses.fields(config)}


def test_short_and_long_names_of_operations_name_the_same_run():
    for long, short in (("subtract", "sub"), ("multiply", "mul")):
        runs = [Train(op=name, p=7) for name in (long, short)]
        assert runs[0].config() == runs[1].config() and runs[0].config().task.op == long
        assert {each.run_name(each.config()) for each in runs} == {f"{short}-p7-noise0.3-seed0"}
    assert (
        Train(op="compose", group="S3").config() == Train(op="add", group="S3").config() == Train(group="S3").config()
    )
