"""Trainer of one network, or a stack of them, on random subsets of a training set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mechmem.core.config import check_number, check_whole
from mechmem.core.randomness import derive_seed, generator
from mechmem.errors import ConfigError, TrainingFailedError
from mechmem.math.logits import answers_of
from mechmem.models.hooks.running import block_rows, resolve_device
from mechmem.models.networks.build import Network, build_model
from mechmem.models.networks.dropout import begin_step, dropout_layers
from mechmem.models.networks.subnetworks import mask_layers
from mechmem.models.reading.forward import logits_of
from mechmem.tasks.build import build_task
from mechmem.training.config import TrainConfig
from mechmem.training.loop import couples_rows, training_step, widen_heap
from mechmem.training.minibatches import Batch, Order, TrainingSet
from mechmem.training.optimizers import Optimizers
from mechmem.training.stacking import Stack, why_not_stacked

MOST_STACKED = 32
"""Largest number of networks in a stack: more gain nothing, and an interrupt loses at most one stack."""
MOST_PARAMETERS = 2**25
"""Largest number of parameters of a stack: 128 MB in float32, plus three times as much for gradients and moments."""
FEW_PRODUCTS = 2**22
"""Product of a network's weights and a step's examples up to which a stack is faster."""

Report = Callable[[int], None]
"""Called with the number of network steps taken since the last call."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Settings that determine every subset network, given its number.

    Attributes:
        config: training config of each; its seed and `seed` together determine the networks' seeds.
        fraction: fraction of the training examples in each subset.
        seed: seed of the subsets and of the networks.
        logits: whether to keep logits on the test examples.
        device: device of the training.
        steps: number of steps, if different from the config's; stored in `config`.

    Raises:
        ConfigError: the config is not a training config, or a setting is invalid.
    """

    config: TrainConfig
    fraction: float
    seed: int
    logits: bool
    device: str
    steps: dataclasses.InitVar[int | None] = None

    def __post_init__(self, steps: int | None) -> None:
        """Validate, and leave out of the config what only decides what is recorded."""
        config = self.config
        if not isinstance(config, TrainConfig):
            raise ConfigError(f"train_subsets takes an mm.TrainConfig(task=…, model=…), got a {type(config).__name__}")
        if config.left_out:
            raise ConfigError("train_subsets draws each network's examples itself: the config's left_out must be ()")
        check_whole("seed", self.seed, 0)
        check_number("fraction of the training examples", self.fraction, above=0)
        taken = config.steps if steps is None else steps
        plain = dataclasses.replace(config, steps=taken, stop_when="", evaluations=1, checkpoints=1)
        object.__setattr__(self, "config", plain)
        object.__setattr__(self, "fraction", float(self.fraction))


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """Results of some networks.

    Attributes:
        member: which of `task.sources` each was trained on. Shape (network, source).
        predictions: its predictions on `task.ids`. Shape (network, example).
        test_logits: its logits on `task.test_ids`, if kept. Shape (network, test, class).
    """

    member: Bool[Tensor, "network source"]
    predictions: Int[Tensor, "network example"]
    test_logits: Float[Tensor, "network test class"] | None


def draw_member(sources: int, fraction: float, seed: int, number: int) -> Bool[Tensor, " source"]:
    """Draw the subset of a network: round(fraction · sources) examples, uniform over subsets of that size."""
    chosen = torch.randperm(sources, generator=generator(seed, "subset", number))[: round(fraction * sources)]
    member = torch.zeros(sources, dtype=torch.bool)
    member[chosen] = True
    return member


class SubsetTrainer:
    """Trains the networks of a plan; each is independent of which others are trained.

    Args:
        plan: the settings that determine the networks.

    Raises:
        ConfigError: a subset would be empty or complete, or a step would see too few examples for BatchNorm.
    """

    def __init__(self, plan: Plan):
        self.plan, self.task = plan, build_task(plan.config.task)
        task, n = self.task, len(self.task.sources)
        if task.units is not None:
            raise ConfigError("train_subsets draws examples one by one, and this task's are drawn by sequence")
        if not 0 < round(plan.fraction * n) < n:
            raise ConfigError(f"subsets with a fraction {plan.fraction} of {n} examples have all or none of them")
        self._device = resolve_device(plan.device)
        self._shown = TrainingSet(task, self._device)
        place = torch.full((len(task.ids),), -1)
        place[task.rows(task.sources)] = torch.arange(n)
        self._source_of = place[task.rows(task.source(task.train_ids))]
        self._evaluated = self.model(0)
        trained = len(self.places(0))
        size = Order(trained, plan.config.batch_size, 0).size
        if couples_rows(self._evaluated) and (size == 1 or trained % size == 1):
            raise ConfigError(
                f"BatchNorm needs at least 2 examples in every step; with batch size {size} a step would see 1 of the "
                f"{trained} of a subset"
            )

    def member(self, number: int) -> Bool[Tensor, " source"]:
        """Return the subset of a network."""
        return draw_member(len(self.task.sources), self.plan.fraction, self.plan.seed, number)

    def places(self, number: int) -> Int[Tensor, " place"]:
        """Return the places in `task.train_ids` that a network is trained on; fixed views go with their source."""
        return self.member(number)[self._source_of].nonzero().flatten()

    def network_seed(self, number: int) -> int:
        """Return the seed of a network's initialisation, order and dropout."""
        return derive_seed(self.plan.config.seed, f"subset network {self.plan.seed}", number)

    def model(self, number: int) -> Network:
        """Return an initialised network."""
        return build_model(self.plan.config.model, self.task, self.network_seed(number)).to(self._device)

    def one(self, number: int, report: Report) -> Answers:
        """Train one network with the same step as `train`.

        Raises:
            TrainingFailedError: the loss is not a number.
        """
        widen_heap()
        seed, model = self.network_seed(number), self.model(number)
        config = dataclasses.replace(self.plan.config, seed=seed)
        places, optimizers = self.places(number), Optimizers(config, model, model.roles)
        order = Order(len(places), config.batch_size, seed)
        held = self._held_whole([places], order)
        rows = len(places) if couples_rows(model) else block_rows(model)
        dropout, masks = dropout_layers(model), mask_layers(model)
        model.train()
        for step in range(config.steps):
            begin_step(dropout, seed, step)
            examples = self._shown.at(places[order.at(step)], step) if held is None else held[0]
            self._check(training_step(model, optimizers, examples, config, rows, masks), step, number)
            report(1)
        return self._answers([number], lambda _: model)

    def stack(self, numbers: Sequence[int], report: Report) -> Answers:
        """Train several networks at once.

        Raises:
            ConfigError: they cannot be stacked.
            TrainingFailedError: a loss is not a number.
        """
        widen_heap()
        stack = Stack(self.plan.config, [self.model(number) for number in numbers])
        places = [self.places(number) for number in numbers]
        if len({len(each) for each in places}) > 1:
            raise ConfigError("subsets of different sizes cannot be trained as a stack; use how='loop'")
        orders = [Order(len(places[0]), self.plan.config.batch_size, self.network_seed(number)) for number in numbers]
        held = self._held_whole(places, orders[0])
        whole = None if held is None else _together(held)
        for step in range(self.plan.config.steps):
            if whole is None:
                chosen = [each[order.at(step)] for each, order in zip(places, orders, strict=True)]
                inputs, given = self._examples(chosen, step)
            else:
                inputs, given = whole
            self._check(stack.step(inputs, given), step, *numbers)
            report(len(numbers))

        def unstacked(index: int) -> nn.Module:
            stack.unstack(index, self._evaluated)
            return self._evaluated

        return self._answers(numbers, unstacked)

    def _held_whole(self, places: Sequence[Int[Tensor, " place"]], order: Order) -> list[Batch] | None:
        """Return each network's examples if they are the same at every step, otherwise None."""
        if self._shown.changes or order.size < len(places[0]):
            return None
        return [self._shown.at(each, 0) for each in places]

    def _examples(self, chosen: Sequence[Int[Tensor, " place"]], step: int) -> tuple[Tensor, Tensor]:
        if self._shown.changes:
            # The augmentation of an image may depend on its place in the batch.
            return _together([self._shown.at(each, step) for each in chosen])
        found = self._shown.at(torch.cat(list(chosen)), step)
        split = "(network example) ... -> network example ..."
        return rearrange(found.inputs, split, network=len(chosen)), rearrange(found.given, split, network=len(chosen))

    def _check(self, losses: Float[Tensor, "*network"], step: int, *numbers: int) -> None:
        wrong = (~torch.isfinite(losses.reshape(-1))).nonzero().flatten()
        if len(wrong):
            index = int(wrong[0])
            raise TrainingFailedError(
                f"the loss of subset network {numbers[index]} is {float(losses.reshape(-1)[index])} at step {step + 1}"
            )

    def _answers(self, numbers: Sequence[int], model_of: Callable[[int], nn.Module]) -> Answers:
        task, predictions, logits = self.task, [], []
        tests = task.rows(task.test_ids)
        for index in range(len(numbers)):
            model = model_of(index)
            found = logits_of(model.eval(), task, task.ids, self._evaluated.roles.output)
            predictions.append(answers_of(found).int())
            logits += [found[tests]] if self.plan.logits else []
        member = torch.stack([self.member(number) for number in numbers])
        return Answers(member, torch.stack(predictions), torch.stack(logits) if logits else None)


def _together(examples: Sequence[Batch]) -> tuple[Tensor, Tensor]:
    return torch.stack([each.inputs for each in examples]), torch.stack([each.given for each in examples])


def stack_size(trainer: SubsetTrainer, how: str, workers: int) -> int | None:
    """Return the number of networks trained at once, or None if they are trained one by one ("auto" chooses).

    Raises:
        ConfigError: a stack is requested but impossible.
    """
    model, config = trainer.model(0), trainer.plan.config
    reason = "several processes train one by one" if workers > 1 else why_not_stacked(config, model)
    if how == "loop" or (how == "auto" and reason):
        return None
    if reason:
        raise ConfigError(f"networks of this config cannot be trained as a stack: {reason}; choose how='loop'")
    rows = Order(len(trainer.places(0)), config.batch_size, 0).size
    convolves = any(isinstance(module, nn.modules.conv._ConvNd) for module in model.modules())
    weights = sum(parameter.numel() for parameter in model.parameters() if parameter.ndim > 1)
    if how == "auto" and (convolves or rows * weights > FEW_PRODUCTS):
        return None
    return max(1, min(MOST_STACKED, MOST_PARAMETERS // sum(parameter.numel() for parameter in model.parameters())))
