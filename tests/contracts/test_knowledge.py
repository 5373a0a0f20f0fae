"""Declared knowledge of extractors: breaking what one does not declare must leave its predictions unchanged."""

import dataclasses

import pytest
import torch
from torch import nn

from mechmem.core.needs import KNOWLEDGE
from mechmem.core.plugins import plugins
from mechmem.core.roles import Roles
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.models.networks.masks import ExampleTiedDropout, TurnOverDropout
from mechmem.models.networks.planted import planted_network
from mechmem.scorecard.extractor import extractor
from mechmem.tasks.arrays import ArrayTask

P = 13


def every_extractor() -> list[str]:
    """Every surgery and readout, under each of its names, and chains of them."""
    names = {name for kind in ("surgeries", "readouts") for name in plugins(kind)} - {"activation", "logits"}
    return sorted(names) + ["raw", "frequency+quadratic", "frequency+additive_free", "frequency+energy_ranked"]


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A network with a rule, memorized cells and a good deal of noise in its weights, so that predictions vary."""
    planted = planted_network(P, memorized_fraction=0.3, train_fraction=0.6, width=48, dtype=torch.float64)
    task = arrays(planted.subject.task)
    model = planted.subject.copy_model()
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype)
    return Subject(model, task, planted.subject.roles)


def mixing(width: int) -> nn.Linear:
    """A linear layer of PyTorch's between the neurons and the readout."""
    layer = nn.Linear(width, width, dtype=torch.float64)
    draw = torch.Generator().manual_seed(9)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(width) + 0.2 * torch.randn(width, width, generator=draw, dtype=torch.float64))
        layer.bias.copy_(0.1 * torch.randn(width, generator=draw, dtype=torch.float64))
    return layer


LAYERS = {"turn_over": TurnOverDropout, "example_tied": ExampleTiedDropout, "linear_layers": mixing}


def with_layer(name: str, subject: Subject) -> Subject:
    """The subject, with the layer of example masks or the linear layer that the extractor needs."""
    wanted = [LAYERS[need] for part in extractor(name).parts for need in part.wants() if need in LAYERS]
    if not wanted:
        return subject
    model = subject.copy_model()
    model.mask = wanted[0](model.config.width)
    return subject.with_model(model)


class Misnamed(ArrayTask):
    """Arrays under the name of an operation that need not be theirs."""

    def _check_answers(self, operation):
        pass


def arrays(task: Task, **changed) -> ArrayTask:
    """The task as plain arrays on the grid, with some of them changed."""
    train = torch.zeros(len(task.ids), dtype=torch.bool)
    train[task.train_ids] = True
    values = {
        "inputs": task.operands,
        "given": task.given(task.ids),
        "true": task.true(task.ids),
        "train": train,
        "operation": task.operation,
        "n_classes": task.n_classes,
    }
    return Misnamed(**{**values, **changed})


def scores(name: str, subject: Subject) -> torch.Tensor:
    """Scores of training and test examples, each asked for at once, in the order of the task's ids."""
    predictor, task = extractor(name)(subject), subject.task
    out = torch.zeros(len(task.ids), task.n_classes, dtype=torch.float64)
    out[task.train_ids] = predictor(task.train_ids).double()
    out[task.test_ids] = predictor(task.test_ids).double()
    return out


def relabel_inputs(subject: Subject, left: torch.Tensor, right: torch.Tensor) -> tuple[Subject, torch.Tensor]:
    """Call symbol a `left[a]` in the first operand and b `right[b]` in the second; return where each cell went."""
    task, role = subject.task, subject.roles.input_embedding
    moved = left[task.operands[:, 0]] * P + right[task.operands[:, 1]]
    model = subject.copy_model()
    weights = role.read(model).clone()
    weights[0, left], weights[1, right] = role.read(model)[0].clone(), role.read(model)[1].clone()
    role.write(model, weights)
    train = torch.zeros(len(moved), dtype=torch.bool)
    train[moved[task.train_ids]] = True
    given, true = torch.empty_like(moved), torch.empty_like(moved)
    given[moved], true[moved] = task.given(task.ids), task.true(task.ids)
    return Subject(model, arrays(task, given=given, true=true, train=train), subject.roles), moved


def permuted(seed: int) -> torch.Tensor:
    return torch.randperm(P, generator=torch.Generator().manual_seed(seed))


class Shuffled(nn.Module):
    """The network behind another naming of the cells that respects nothing of their being pairs."""

    def __init__(self, inner: nn.Module, back: torch.Tensor):
        super().__init__()
        self.inner = inner
        self.back = back

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        cell = self.back[pairs[:, 0] * P + pairs[:, 1]]
        return self.inner(torch.stack([cell // P, cell % P], 1))


def break_input_group(subject):
    changed, moved = relabel_inputs(subject, permuted(1), permuted(2))
    return changed, lambda table: table[moved]


def break_slopes(subject):
    identity = torch.arange(P)
    changed, moved = relabel_inputs(subject, identity, identity * 2 % P)
    return changed, lambda table: table[moved]


def break_output_group(subject):
    names = permuted(3)
    model = subject.copy_model()
    weights = subject.roles.readout.read(model).clone()
    weights[:, names] = subject.roles.readout.read(model).clone()
    subject.roles.readout.write(model, weights)
    task = subject.task
    changed = arrays(task, given=names[task.given(task.ids)], true=names[task.true(task.ids)])
    return Subject(model, changed, subject.roles), lambda table: table[:, names]


def break_pairs(subject):
    task = subject.task
    moved = torch.randperm(P * P, generator=torch.Generator().manual_seed(4))
    back = torch.argsort(moved)
    train = torch.zeros(P * P, dtype=torch.bool)
    train[moved[task.train_ids]] = True
    changed = arrays(task, given=task.given(back), true=task.true(back), train=train)
    # The input embedding has no meaning behind a shuffle of the cells; everything else keeps its role.
    roles = Roles(
        readout=dataclasses.replace(subject.roles.readout, parameter="inner.W_out"),
        activation="inner.activation",
        hidden=("inner.hook_hidden",),
    )
    return Subject(Shuffled(subject.copy_model(), back), changed, roles), lambda table: table[moved]


def break_operation(subject):
    return dataclasses.replace(subject, task=arrays(subject.task, operation="subtract")), lambda table: table


def break_given_labels(subject):
    given = torch.randint(P, (P * P,), generator=torch.Generator().manual_seed(6))
    return dataclasses.replace(subject, task=arrays(subject.task, given=given)), lambda table: table


def break_true_train_labels(subject):
    task = subject.task
    true = task.true(task.ids).clone()
    true[task.train_ids] = torch.randint(P, (len(task.train_ids),), generator=torch.Generator().manual_seed(7))
    return dataclasses.replace(subject, task=arrays(task, true=true)), lambda table: table


def break_test_labels(subject):
    task = subject.task
    true = task.true(task.ids).clone()
    true[task.test_ids] = torch.randint(P, (len(task.test_ids),), generator=torch.Generator().manual_seed(8))
    return dataclasses.replace(subject, task=arrays(task, true=true)), lambda table: table


class Unreadable:
    """A run that must not be looked at."""

    def __getattr__(self, name):
        raise AssertionError(f"the run's {name} was read without declaring 'checkpoints'")


def break_checkpoints(subject):
    return dataclasses.replace(subject, run=Unreadable()), lambda table: table


BREAKS = {
    "input_group": break_input_group,
    "output_group": break_output_group,
    "slopes": break_slopes,
    "pairs": break_pairs,
    "operation": break_operation,
    "given_labels": break_given_labels,
    "true_train_labels": break_true_train_labels,
    "noise_mask": break_given_labels,
    "test_labels": break_test_labels,
    "checkpoints": break_checkpoints,
}
ALSO_EXCUSED_BY = {
    # A permutation of the symbols breaks the group and the slopes along with it; new labels change what is wrong.
    "slopes": {"operation"},
    "given_labels": {"noise_mask"},
    "noise_mask": {"given_labels"},
    "true_train_labels": {"noise_mask"},
}


MOVES_IDS = {"input_group", "slopes", "pairs"}
"""Breaks that give cells other ids; masks go by the id, so that these change which subnetwork is asked."""


def changes(name: str, token: str, subject: Subject) -> bool:
    """Whether breaking what `token` stands for changes what the extractor predicts."""
    subject = with_layer(name, subject)
    broken, undo = BREAKS[token](subject)
    return not torch.allclose(undo(scores(name, broken)), scores(name, subject), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("token", BREAKS)
@pytest.mark.parametrize("name", every_extractor())
def test_undeclared_knowledge_is_not_used(name, token, subject):
    knows = extractor(name).knows
    if token in knows or ALSO_EXCUSED_BY.get(token, set()) & knows:
        pytest.skip(f"{name} declares {token}")
    if token in MOVES_IDS and any("turn_over" in part.wants() for part in extractor(name).parts):
        pytest.skip(f"{name} goes by the id of each example")
    assert not changes(name, token, subject)


@pytest.mark.parametrize("name", every_extractor())
def test_other_test_inputs_are_read_only_where_declared(name, subject):
    predictor, ids = extractor(name)(with_layer(name, subject)), subject.task.test_ids
    alone = predictor(ids[::3])
    if "test_inputs" not in extractor(name).knows:
        assert torch.allclose(alone, predictor(ids)[::3], rtol=1e-6, atol=1e-8)


def test_every_token_has_a_test():
    assert set(BREAKS) | {"test_inputs"} == set(KNOWLEDGE)


@pytest.mark.parametrize(
    ("name", "token"),
    [
        ("frequency", "input_group"),
        ("frequency", "output_group"),
        ("frequency", "slopes"),
        ("energy_ranked", "input_group"),
        ("diagonal", "slopes"),
        ("diagonal", "operation"),
    ],
)
def test_the_tests_can_fail(name, token, subject):
    assert changes(name, token, subject)


def test_reading_other_test_inputs_shows(subject):
    predictor, ids = extractor("additive_free")(subject), subject.task.test_ids
    assert not torch.allclose(predictor(ids[::3]), predictor(ids)[::3], rtol=1e-6, atol=1e-8)


def test_reading_labels_would_show(subject):
    """A predictor that repeats the given labels is caught by the same comparison."""
    broken, _ = break_given_labels(subject)
    assert not torch.equal(broken.task.given(broken.task.train_ids), subject.task.given(subject.task.train_ids))
