"""Logits of a network, and what is not taken for logits."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mechmem as mm
from mechmem.errors import ConfigError, MechmemError
from mechmem.models.reading.forward import logits_of

TASK = mm.ArrayTask(torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), [0, 1, 2, 0] * 5, None, [1, 0] * 10)


def network(*last):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), *last)


class Answers(nn.Module):
    """Returns a 1 for the largest logit, and zeros."""

    def forward(self, logits):
        return F.one_hot(logits.argmax(1), 3).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_probabilities_are_refused(dtype):
    inputs = TASK.inputs.to(dtype)
    task = mm.ArrayTask(inputs, TASK.given(TASK.ids), None, torch.arange(20) % 2 == 0)
    with pytest.raises(ConfigError, match="the model returns probabilities"):
        logits_of(network(nn.Softmax(1)).to(dtype), task, task.ids)


@pytest.mark.parametrize("last", [(), (nn.LogSoftmax(1),), (nn.Sigmoid(),), (nn.Softmax(1), Answers())])
def test_everything_else_is_taken(last):
    assert logits_of(network(*last), TASK, TASK.ids).shape == (20, 3)


def test_a_few_examples_may_sum_to_1_by_chance():
    assert logits_of(network(nn.Softmax(1)), TASK, TASK.ids[:2]).shape == (2, 3)


@pytest.mark.parametrize(
    "measured",
    [
        lambda subject: mm.audit(subject, ["raw"]),
        lambda subject: mm.ablate(subject, at="0.hook_out", order="random", points=2),
        lambda subject: mm.patch(subject, ids=[0, 1], donor_ids=[2, 3], at="0.hook_out"),
        lambda subject: mm.example_scores(subject, ["loss"]).reasons["loss"],
    ],
)
def test_what_is_measured_of_probabilities_is_refused(measured):
    inputs = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    task = mm.ArrayTask(inputs, torch.arange(40) % 3, None, torch.arange(40) % 2 == 0)
    with pytest.raises(MechmemError, match="the model returns probabilities"):
        raise MechmemError(measured(mm.Subject(mm.attach(network(nn.Softmax(1))), task)))
