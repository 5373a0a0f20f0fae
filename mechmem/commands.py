"""The commands of the command line and their options, as frozen dataclasses. Imports no torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mechmem.errors import ConfigError
from mechmem.models.config import Activation, Initialization, MLPConfig
from mechmem.tasks.config import LabelNoise, ModularConfig, NoiseKind, SplitKind, is_prime
from mechmem.training.config import Loss, OptimizerName, Precision, TrainConfig

OPERATIONS = {"add": "add", "sub": "subtract", "mul": "multiply"}


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
class Train(Output):
    """Train a network on modular arithmetic with wrong labels; the same command resumes or returns.

    Attributes:
        op: the operation.
        p: the modulus.
        width: number of hidden neurons.
        activation: the nonlinearity.
        init: the initialisation.
        bias: give the readout a bias.
        tied: use one embedding for both operands.
        layers: number of hidden layers.
        dropout: share of the pre-activations set to 0 in a training step.
        batch_norm: put BatchNorm after every activation.
        train_fraction: share of the p² cells that is trained on.
        split: how they are chosen ("answers" holds whole answers out).
        label_noise: share of the training labels that is wrong.
        noise_kind: what wrong labels are drawn from.
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
        seed: seed of task and network.
        out: the run directory; by default runs/<op>-p<p>-noise<noise>-seed<seed>.
        device: where to train ("cpu", "cuda").
    """

    op: Literal["add", "sub", "mul"] = "add"
    p: int = 59
    width: int = 512
    activation: Activation = "relu"
    init: Initialization = "liu_lu_2026"
    bias: bool = False
    tied: bool = False
    layers: int = 1
    dropout: float = 0.0
    batch_norm: bool = False
    train_fraction: float = 0.8
    split: SplitKind = "random"
    label_noise: float = 0.3
    noise_kind: NoiseKind = "wrong"
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
    seed: int = 0
    out: Path | None = None
    device: str = "cpu"


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


Command = (
    Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Audit, tyro.conf.subcommand("audit")]
    | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[List, tyro.conf.subcommand("list")]
)


def train_config(command: Train) -> TrainConfig:
    """Build the config of a `train` command.

    Raises:
        ConfigError: a setting is not allowed; multiplication by a composite p among them, since a run's audit rests on
            the group that only a prime gives (`ModularConfig` takes any p).
    """
    if command.op == "mul" and command.p > 1 and not is_prime(command.p):
        raise ConfigError(f"multiplication needs a prime p (its nonzero residues form a group), got {command.p}")
    return TrainConfig(
        task=ModularConfig(
            op=OPERATIONS[command.op],  # pyright: ignore[reportArgumentType]
            p=command.p,
            train_fraction=command.train_fraction,
            split=command.split,
            noise=LabelNoise(command.label_noise, command.noise_kind),
            seed=command.seed,
        ),
        model=MLPConfig(**{name: getattr(command, name) for name in NETWORK}),
        **{name: getattr(command, name) for name in SHARED},
    )


NETWORK = ("width", "activation", "init", "bias", "tied", "layers", "dropout", "batch_norm")
"""Options that `train` and `MLPConfig` call by the same name."""

SHARED = (
    "loss", "optimizer", "lr", "weight_decay", "momentum", "steps", "batch_size", "precision", "seed", "evaluations",
    "checkpoints", "stop_when",
)  # fmt: skip
"""Options that `train` and `TrainConfig` call by the same name."""
