"""The commands of the command line and their options, as frozen dataclasses. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

from mechmem.cli.mask_options import MaskOptions, default
from mechmem.errors import ConfigError
from mechmem.models.networks.config import (
    Activation,
    Attention,
    Biases,
    Initialization,
    MLPConfig,
    ModelConfig,
    TransformerConfig,
    TransformerInitialization,
)
from mechmem.tasks.config import GroupConfig, LabelNoise, ModularConfig, NoiseKind, SplitKind, TaskConfig, is_prime
from mechmem.training.config import Loss, OptimizerName, Precision, TrainConfig

OPERATIONS = {"add": "add", "sub": "subtract", "mul": "multiply"}
COMPOSITIONS = {"add": "compose", "sub": "divide"}
MODELS: dict[str, type[ModelConfig]] = {config.kind: config for config in (MLPConfig, TransformerConfig)}


def names(*choices: Any) -> str:
    """Write the names that several choices allow, as the help writes one's."""
    return "{" + ",".join(dict.fromkeys(name for choice in choices for name in get_args(choice))) + "}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """Options of every command.

    Attributes:
        quiet: print neither progress nor tables.
        json: print the result as JSON on standard output, and no table.
    """

    quiet: bool = False
    json: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demo(Output):
    """Train two networks that fit every wrong label, and show which of them computes the rule (under two minutes).

    Attributes:
        seed: seed of tasks and networks.
        out: where runs, scorecards and report.html are written.
        device: where to train ("cpu", "cuda").
    """

    seed: int = 0
    out: Path = Path("mechmem-demo")
    device: str = "cpu"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(MaskOptions, Output):
    """Options of both commands that train.

    Attributes:
        loss: the loss.
        optimizer: the optimiser.
        lr: learning rate.
        weight_decay: weight decay.
        momentum: momentum of sgd and muon.
        steps: number of optimisation steps.
        batch_size: examples per step; 0 for the full batch.
        precision: fp32, or bf16 for matrix products.
        evaluations: number of log-spaced evaluations.
        checkpoints: number of log-spaced saved states.
        stop_when: end early, e.g. "test >= 0.99".
        clip_norm: largest norm of a step's gradient; 0 for none.
        seed: seed of task and network.
        device: where to train ("cpu", "cuda").
    """

    loss: Loss = "cross_entropy"
    optimizer: OptimizerName = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1.0
    momentum: float = 0.9
    steps: int = 3000
    batch_size: int = 0
    precision: Precision = "fp32"
    evaluations: int = 60
    checkpoints: int = 12
    stop_when: str = ""
    clip_norm: float = 0.0
    seed: int = 0
    device: str = "cpu"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(Training):
    """Train a network on modular arithmetic with wrong labels; the same command resumes or returns.

    Attributes:
        op: the operation.
        p: the modulus.
        group: a finite group in the place of residues, e.g. S5, D7 or S3xZ4; add is then a·b, and sub a·b⁻¹.
        model: the kind of network.
        activation: the nonlinearity.
        init: the initialisation, one of the network's own.
        layers: number of hidden layers, or of a transformer's blocks.
        dropout: share of the values set to 0 in a training step (mlp: of the pre-activations).
        width: mlp: number of hidden neurons.
        bias: mlp: give the readout a bias.
        tied: mlp: use one embedding for both operands.
        batch_norm: mlp: put BatchNorm after every activation.
        d_model: transformer: width of the residual stream.
        heads: transformer: number of attention heads of a block.
        d_head: transformer: width of a head.
        d_mlp: transformer: number of neurons of a block's MLP; 0 for attention only.
        attention: transformer: what a position may look at.
        tokens: transformer: 3 for a, b, "="; 2 for a, b.
        layer_norm: transformer: put LayerNorm before attention, MLP and unembedding.
        biases: transformer: which parts have biases.
        train_fraction: share of all pairs that is trained on.
        split: how they are chosen ("answers" holds whole answers out).
        label_noise: share of the training labels that is wrong.
        noise_kind: what wrong labels are drawn from.
        out: the run directory; by default runs/<op>-p<p>-noise<noise>-seed<seed>, with <group> for p<p>, and
            runs/transformer-<op>-….
    """

    op: Literal["add", "sub", "mul"] = "add"
    p: int = 59
    group: str = ""
    model: Literal["mlp", "transformer"] = "mlp"
    activation: Activation = MLPConfig.activation
    init: Annotated[
        Initialization | TransformerInitialization | None,
        default(
            f"{MLPConfig.init}, transformer {TransformerConfig.init}", names(Initialization, TransformerInitialization)
        ),
    ] = None
    layers: int = MLPConfig.layers
    dropout: float = MLPConfig.dropout
    width: Annotated[int | None, default(MLPConfig.width, "INT")] = None
    bias: bool = False
    tied: bool = False
    batch_norm: bool = False
    d_model: Annotated[int | None, default(TransformerConfig.d_model, "INT")] = None
    heads: Annotated[int | None, default(TransformerConfig.heads, "INT")] = None
    d_head: Annotated[int | None, default("d-model / heads", "INT")] = None
    d_mlp: Annotated[int | None, default("4 d-model", "INT")] = None
    attention: Annotated[Attention | None, default(TransformerConfig.attention, names(Attention))] = None
    tokens: Annotated[int | None, default(TransformerConfig.tokens, "INT")] = None
    layer_norm: bool = False
    biases: Annotated[Biases | None, default(TransformerConfig.biases, names(Biases))] = None
    train_fraction: float = 0.8
    split: SplitKind = "random"
    label_noise: float = 0.3
    noise_kind: NoiseKind = "wrong"
    out: Path | None = None

    def run_name(self) -> str:
        """Return what the run is called, unless it is given a directory."""
        kind = "" if self.model == "mlp" else f"{self.model}-"
        return f"{kind}{self.op}-{self.group or f'p{self.p}'}-noise{self.label_noise:g}-seed{self.seed}"

    def config(self) -> TrainConfig:
        """Build the config.

        Raises:
            ConfigError: a setting is not allowed; multiplication by a composite p among them, since a run's audit rests
                on the group that only a prime gives (`ModularConfig` takes any p).
        """
        return TrainConfig(task=_task_config(self), model=chosen_model(self, MODELS, self.model), **shared(self))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit(Output):
    """Print a run's scorecard; with --out, write scorecard.json and report.html.

    Attributes:
        run: the run directory.
        out: where the files are written.
        extractors: which extractors, e.g. raw frequency+quadratic; by default all that the task can carry.
        step: audit the state saved at this step; by default the last.
        device: where the network runs and its twins train ("cpu", "cuda").
    """

    run: tyro.conf.Positional[Path]
    out: Path | None = None
    extractors: tuple[str, ...] = ()
    step: int | None = None
    device: str = "cpu"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples(Output):
    """Score the training examples of a run, and say how well each score finds wrong labels, beside the plain loss.

    Attributes:
        run: the run directory.
        scores: which scores, e.g. self_influence tracin; `mechmem list` names them all. The loss is always there.
        out: a .csv file for the scores of every example.
        most: how many of the most suspect examples are listed of each score.
        device: where the network runs ("cpu", "cuda").
    """

    run: tyro.conf.Positional[Path]
    scores: tuple[str, ...] = ("margin", "learning_speed", "forgetting_events")
    out: Path | None = None
    most: int = 8
    device: str = "cpu"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reproduce(Output):
    """Check a paper's claims by runs of their own, and write the ledger; the same command goes on or re-opens.

    Attributes:
        recipe: the paper's recipe, e.g. doshi_2024; `mechmem list` names them all.
        scale: "smoke" runs all code in a minute and judges nothing; "small" gives verdicts in under an hour on two
            cores; "paper" uses the paper's own settings.
        claims: which claims, by key; by default all.
        out: where runs, measurements and ledger.html are kept; by default reproductions/<recipe>-<scale>.
        workers: number of processes, one thread each.
        device: where to train ("cpu", "cuda").
    """

    recipe: tyro.conf.Positional[str]
    scale: Literal["smoke", "small", "paper"] = "small"
    claims: tuple[str, ...] = ()
    out: Path | None = None
    workers: int = 2
    device: str = "cpu"


@dataclasses.dataclass(frozen=True, kw_only=True)
class List(Output):
    """List every plugin and recipe: what it does in a line, what it is told, and its source."""


def shared(command: Training) -> dict[str, Any]:
    """Return the options that a config of training calls by the same name; where to train is no part of it."""
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    options = {field.name for field in dataclasses.fields(Training)} & names
    return {name: getattr(command, name) for name in sorted(options)}


def chosen_model(command: Any, models: Mapping[str, type[ModelConfig]], chosen: str) -> ModelConfig:
    """Build a network's config from the options that were given and have its fields' names, and those of masks.

    Args:
        command: the command; an option that was not given is None or False.
        models: the kinds of network.
        chosen: the one that was asked for.

    Raises:
        ConfigError: an option of another kind of network was given, or a setting is not allowed.
    """
    fields = {kind: {field.name for field in dataclasses.fields(config)} - {"masks"} for kind, config in models.items()}
    options = {name: getattr(command, name, None) for name in sorted(set().union(*fields.values()))}
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    for name in given:
        if name not in fields[chosen]:
            other = next(kind for kind in fields if name in fields[kind])
            option = name.replace("_", "-")
            raise ConfigError(f"--{option} is an option of --model {other}, and not of --model {chosen}")
    return models[chosen](**given, masks=command.mask_config())


def _task_config(command: Train) -> TaskConfig:
    """Build the task's config: over a group where one is named, and over residues otherwise."""
    shared: dict[str, Any] = {
        "train_fraction": command.train_fraction,
        "split": command.split,
        "noise": LabelNoise(command.label_noise, command.noise_kind),
        "seed": command.seed,
    }
    if command.group:
        if command.op not in COMPOSITIONS or command.p != Train.p:
            wrong = "--op mul" if command.op not in COMPOSITIONS else "--p"
            raise ConfigError(f"{wrong} belongs to residues mod p, and not to --group {command.group}")
        return GroupConfig(command.group, COMPOSITIONS[command.op], **shared)  # pyright: ignore[reportArgumentType]
    if command.op == "mul" and command.p > 1 and not is_prime(command.p):
        raise ConfigError(f"multiplication needs a prime p (its nonzero residues form a group), got {command.p}")
    return ModularConfig(OPERATIONS[command.op], command.p, **shared)  # pyright: ignore[reportArgumentType]
