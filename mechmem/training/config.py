"""Config of a training run. Imports no torch."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal, get_args

from mechmem.core.config import LATER, Config, check_choice, check_different, check_kind, check_number, check_whole
from mechmem.errors import ConfigError
from mechmem.models.networks.config import MLPConfig, ModelConfig
from mechmem.models.networks.mask_config import TurnOver
from mechmem.tasks.config import ModularConfig, TaskConfig
from mechmem.training.stopping import stop_condition

Loss = Literal["cross_entropy", "mse"]
OptimizerName = Literal["adam", "adamw", "sgd", "muon"]
Precision = Literal["fp32", "bf16"]

MOST_STEPS, MOST_SAVED = 10**9, 10**6
"""Most steps of a run, and most evaluations and checkpoints."""


@dataclasses.dataclass(frozen=True)
class TrainConfig(Config):
    """Everything that a run's result depends on, apart from the machine and its number of threads.

    Attributes:
        task: the task.
        model: the network.
        loss: "cross_entropy", or "mse" on one-hot targets (mean over examples and classes).
        optimizer: "adam", "adamw", "sgd", or "muon" (Muon for the matrices, AdamW for everything else).
        lr: learning rate.
        weight_decay: weight decay; decoupled for adamw and muon, added to the gradient for adam and sgd.
        betas: decay rates of Adam's moments.
        momentum: momentum of sgd and muon.
        steps: number of optimisation steps.
        batch_size: examples per step, or sequences if the task has such; 0 for the full batch. With BatchNorm every
            step needs at least two examples.
        precision: "fp32", or "bf16" for matrix products in bfloat16 (weights, sums and the optimiser stay float32);
            faster only on processors with instructions for it, and many times slower on others.
        seed: seed of the initialisation, the order of minibatches and dropout.
        evaluations: number of evaluations after step 0, log-spaced.
        checkpoints: number of saved states after step 0, log-spaced.
        stop_when: condition that ends training early at an evaluation: "test >= 0.99" (or another split, or <=);
            "settled", if after half of the steps no split's accuracy has moved by more than 0.002 over the last third
            of the steps taken and the last five evaluations; "" for none. A network that memorizes first and would
            generalize after a longer plateau is "settled" before: to date such a rise, take all steps.
        clip_norm: largest norm of a step's gradient, to which longer ones are scaled down; 0 for none. It couples the
            examples of a batch, and is not allowed with turn-over dropout.
        left_out: ids of training examples that no step uses. All others keep their place in the order, so that runs
            with and without these examples are otherwise alike. Evaluations still count them.
    """

    kind: ClassVar[str] = "train"
    task: TaskConfig = dataclasses.field(default_factory=ModularConfig)
    model: ModelConfig = dataclasses.field(default_factory=MLPConfig)
    loss: Loss = "cross_entropy"
    optimizer: OptimizerName = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    steps: int = 4000
    batch_size: int = 0
    precision: Precision = "fp32"
    seed: int = 0
    evaluations: int = 60
    checkpoints: int = 12
    stop_when: str = ""
    clip_norm: float = dataclasses.field(default=0.0, kw_only=True, metadata=LATER)
    left_out: tuple[int, ...] = dataclasses.field(default=(), kw_only=True, metadata=LATER)

    def __post_init__(self) -> None:
        check_kind("task", self.task, TaskConfig)
        check_kind("model", self.model, ModelConfig)
        check_choice("loss", self.loss, get_args(Loss))
        check_choice("optimizer", self.optimizer, get_args(OptimizerName))
        check_choice("precision", self.precision, get_args(Precision))
        check_number("learning rate", self.lr, above=0)
        check_number("weight decay", self.weight_decay, least=0)
        if len(self.betas) != 2:
            raise ConfigError(f"betas must be two numbers, got {self.betas}")
        for setting, value in (("betas", self.betas[0]), ("betas", self.betas[1]), ("momentum", self.momentum)):
            check_number(setting, value, least=0)
            if value >= 1:
                raise ConfigError(f"{setting} must be below 1, got {value}")
        check_whole("steps", self.steps, 1, MOST_STEPS)
        check_whole("batch size", self.batch_size, 0)
        check_whole("seed", self.seed, 0)
        check_whole("evaluations", self.evaluations, 1, MOST_SAVED)
        check_whole("checkpoints", self.checkpoints, 1, MOST_SAVED)
        check_number("clip norm", self.clip_norm, least=0)
        if self.clip_norm and isinstance(self.model.masks, TurnOver):
            raise ConfigError(
                "clip_norm couples the examples of a batch: with turn-over dropout each would affect the others' units"
            )
        if not isinstance(self.left_out, tuple) or any(type(each) is not int or each < 0 for each in self.left_out):
            raise ConfigError(f"left_out must be a tuple of example ids, got {self.left_out!r}")
        check_different("left_out", self.left_out)
        stop_condition(self.stop_when)


def log_schedule(steps: int, count: int) -> list[int]:
    """Return 0, then up to `count` log-spaced steps in 1 … `steps`, always including the last."""
    spaced = {round(steps ** (i / max(count - 1, 1))) for i in range(count)} if count > 1 else set()
    return sorted({0, steps} | {step for step in spaced if 1 <= step <= steps})


def chosen_steps(name: str, steps: int, wanted: int | Iterable[int]) -> frozenset[int]:
    """Return the steps at which something is done: so many, or those that are given.

    Raises:
        ConfigError: there are too many, one is not in 0 … `steps`, or they are a generator that was used before.
    """
    if not isinstance(wanted, Iterable):
        check_whole(name, int(wanted), 1, MOST_SAVED)
        return frozenset(log_schedule(steps, int(wanted)))
    chosen = list(itertools.islice(wanted, MOST_SAVED + 1))
    if len(chosen) > MOST_SAVED:
        raise ConfigError(f"{name} must be at most {MOST_SAVED:,} steps, got more")
    if not chosen and isinstance(wanted, Iterator):
        raise ConfigError(f"{name} must be steps, got a generator that yields none (any more): pass a list")
    for step in chosen:
        check_whole(f"a step of {name}", step, 0, steps)
    return frozenset(map(int, chosen))
