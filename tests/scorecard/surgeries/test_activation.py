import pytest
import torch

import mechmem as mm
from mechmem.errors import MissingNeedError, RoleError
from mechmem.models.networks.mlp import HookedMLP
from mechmem.models.networks.nonlinearities import NONLINEARITIES
from mechmem.scorecard.surgeries.activation import ActivationSwap


@pytest.mark.parametrize("before", NONLINEARITIES)
@pytest.mark.parametrize("after", NONLINEARITIES)
def test_a_swapped_network_is_the_network_built_that_way(before, after):
    task = mm.ModularTask(mm.ModularConfig(p=5))
    built = [HookedMLP(mm.MLPConfig(width=6, activation=name), 5) for name in (before, after)]
    subject = mm.Subject(built[0], task, built[0].roles)
    swapped = ActivationSwap(after)(subject)
    pairs = task.batch(task.ids)[0]
    assert torch.equal(swapped.model(pairs), built[1](pairs))
    assert type(subject.model.activation) is NONLINEARITIES[before]


def test_points_still_fire_after_the_swap(planted):
    swapped = ActivationSwap("relu")(planted.subject)
    found = mm.activations(swapped)
    torch.testing.assert_close(found["hook_hidden"], found["hook_pre"].relu())


def test_a_network_without_the_role_is_refused(planted):
    with pytest.raises(MissingNeedError, match="'activation' needs role:activation"):
        ActivationSwap("relu")(mm.Subject(planted.subject.model, planted.subject.task))


def test_a_role_that_names_no_module_is_refused(planted):
    with pytest.raises(RoleError, match="no submodule 'activaton'. Did you mean 'activation'"):
        mm.Subject(planted.subject.model, planted.subject.task, mm.Roles(activation="activaton"))


def test_every_activation_of_a_deeper_network_is_swapped(planted):
    layers = [torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 7)]
    subject = mm.Subject(torch.nn.Sequential(*layers), planted.subject.task, mm.Roles(activation=("1", "3")))
    swapped = ActivationSwap("quadratic")(subject).model
    assert type(swapped[1]) is type(swapped[3]) is NONLINEARITIES["quadratic"]
    assert type(subject.model[1]) is torch.nn.ReLU
