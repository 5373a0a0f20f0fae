"""Networks whose modules return no tensor, keys with dots, or results with attributes of their own."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import mechmem as mm
from mechmem.errors import ActivationError, UnknownNameError

X = torch.randn(60, 8, generator=torch.Generator().manual_seed(1))
ROWS = torch.arange(60)
TASK = mm.ArrayTask(X, ROWS % 3, ROWS % 3, ROWS < 40)

PARAMETRIZATIONS = {
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
}


@pytest.mark.parametrize("parametrize", PARAMETRIZATIONS.values(), ids=PARAMETRIZATIONS)
def test_a_parametrized_weight_blocks_no_point(parametrize):
    torch.manual_seed(0)
    network = nn.Sequential(parametrize(nn.Linear(8, 16)), nn.ReLU(), nn.Linear(16, 3))
    hooked = mm.attach(network, inputs=True)
    with torch.no_grad():
        network.eval()
        hidden = torch.relu(network[0](X))
    assert torch.equal(hooked.run_with_cache(X)[1]["0.hook_in"], X)
    held = mm.activations(hooked, "*", task=TASK)
    torch.testing.assert_close(held["2.hook_in"], hidden[:40])
    with pytest.raises(ActivationError, match="did not fire"):
        held["0.parametrizations.weight.hook_in"]


class Returning(nn.Module):
    """A module that returns what it is made with, whatever it is given."""

    def __init__(self, returned):
        super().__init__()
        self.returned = returned

    def forward(self, x):
        return self.returned


class Around(nn.Module):
    """A layer beside a module whose result is not used."""

    def __init__(self, returned):
        super().__init__()
        self.note, self.o = Returning(returned), nn.Linear(8, 3)

    def forward(self, x):
        self.note(x)
        return self.o(x)


@pytest.mark.parametrize("returned", [None, 3, "text", {}, [None, 2], object()], ids=lambda value: type(value).__name__)
def test_a_module_that_returns_no_tensor_is_an_error_only_if_named(returned):
    network = Around(returned)
    for points in ((), ("*",), ("no*", "o"), (Returning, "o")):
        hooked = mm.attach(network, *points)
        assert torch.equal(hooked.run_with_cache(X)[1]["o.hook_out"], network.o(X))
        with pytest.raises(ActivationError, match="'note.hook_out' did not fire"):
            hooked.run_with_hooks(X, fwd_hooks=[("note.hook_out", lambda value, hook: value)])
        hooked.detach()
    for named in ("note", "note.hook_out", "note:0"):
        with pytest.raises(ActivationError, match="note.hook_out.*finds no tensor"):
            mm.attach(network, named)(X)
        for hook in (*network.note._forward_hooks,):
            network.note._forward_hooks.pop(hook)


class Features(nn.Module):
    def __init__(self):
        super().__init__()
        self.l, self.o = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        hidden = torch.relu(self.l(x))
        return {"layer1.0.relu": hidden, "layer4.1": self.o(hidden), 7: hidden + 1, "a/b c": hidden + 2}


def test_keys_with_dots_are_points_and_logits():
    network = Features()
    output = mm.Output(element="layer4.1")
    card = mm.audit(mm.Subject(network, TASK, mm.Roles(output=output)), ["raw"]).to_frame()
    assert card.test[0] == (network(X[40:])["layer4.1"].argmax(1) == ROWS[40:] % 3).double().mean()
    hooked = mm.attach(network, ":layer1.0.relu", ":7", ":a/b c", "hook_out.layer4.1", "o")
    held = mm.activations(hooked, "hook_out.*", task=TASK)
    hidden = torch.relu(network.l(X[:40])).detach()
    expected = {"layer1.0.relu": hidden, "7": hidden + 1, "a/b c": hidden + 2, "layer4.1": network.o(hidden).detach()}
    assert {name.removeprefix("hook_out."): value.tolist() for name, value in held.items()} == {
        name: value.tolist() for name, value in expected.items()
    }
    edit = mm.Edit("hook_out.layer4.1", 5.0, neurons=[1])
    found = mm.intervene(hooked, edit, TASK, roles=mm.Roles(output=output), ids=TASK.train_ids).logits[0]
    assert torch.equal(found[:, 1], torch.full((40,), 5.0)) and torch.equal(
        found[:, 0], held["hook_out.layer4.1"][:, 0]
    )


@dataclasses.dataclass
class Scaled:
    h: torch.Tensor
    scale: float = dataclasses.field(default=1.0, init=False)


class Scaling(nn.Module):
    """A network whose inner module sets a field that its result's constructor does not take."""

    def __init__(self):
        super().__init__()
        self.inner, self.o = Around(None), nn.Linear(3, 3)
        self.inner.forward = self.scaled

    def scaled(self, x):
        made = Scaled(self.inner.o(x))
        made.scale = 3.0
        return made

    def forward(self, x):
        found = self.inner(x)
        return self.o(found.h) * found.scale


def test_looking_at_an_element_keeps_the_attributes_beside_it():
    network = Scaling()
    plain = network(X)
    looked, cache = mm.attach(network, "inner:h", "o").run_with_cache(X)
    assert torch.equal(looked, plain) and torch.equal(cache["inner.hook_out.h"], network.inner.o(X))


class TwiceNamed(nn.Module):
    def __init__(self):
        super().__init__()
        self.once = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
        self.again, self.o = self.once, nn.Linear(8, 3)

    def forward(self, x):
        return self.o(self.again(self.once(x)))


@pytest.mark.parametrize("asked", ["again.hook_out", "again.hook_out#0", "again.0.hook_in", "again.*", "*again.0*"])
def test_a_later_name_is_answered_with_the_first(asked):
    hooked = mm.attach(TwiceNamed(), inputs=True)
    runs = [
        lambda: mm.activations(hooked, asked, task=TASK),
        lambda: hooked.run_with_cache(X, names_filter=asked),
        lambda: hooked.run_with_hooks(X, fwd_hooks=[(asked, lambda value, hook: value)]),
        lambda: mm.intervene(hooked, mm.Edit(asked), TASK),
    ]
    for run in runs:
        with pytest.raises(UnknownNameError, match=r"'again(.0)?' is the same module as 'once(.0)?'"):
            run()


def test_what_was_read_is_found_under_a_later_name():
    hooked = mm.attach(TwiceNamed(), inputs=True)
    held, (_, cache) = mm.activations(hooked, "*", task=TASK), hooked.run_with_cache(X)
    assert held["again.0.hook_out#1"] is held["once.0.hook_out#1"]
    with pytest.raises(ActivationError, match="ask for one of once.hook_in#0, once.hook_in#1"):
        held["again.hook_in"]
    with pytest.raises(ActivationError, match="'again' is the same module as 'once'"):
        cache["again.hook_out"]
