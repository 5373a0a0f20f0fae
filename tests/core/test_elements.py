import dataclasses
import types
from collections import OrderedDict, UserDict, defaultdict, namedtuple

import pytest
import torch

from mechmem.core.elements import pick, put, tensors
from mechmem.errors import UnknownNameError

Pair = namedtuple("Pair", ["left", "right"])


@dataclasses.dataclass
class Returned:
    logits: torch.Tensor
    cache: object = None


ONE, TWO, NEW = torch.tensor(1.0), torch.tensor(2.0), torch.tensor(9.0)

VALUES = {
    "tuple": ((ONE, TWO), "1"),
    "list": ([ONE, TWO], "1"),
    "dict": ({"a": ONE, "b": TWO}, "b"),
    "a dict of numbers": ({0: ONE, 1: TWO}, "1"),
    "ordered": (OrderedDict(a=ONE, b=TWO), "b"),
    "with a default": (defaultdict(list, a=ONE, b=TWO), "b"),
    "named": (Pair(ONE, TWO), "1"),
    "dataclass": (Returned(ONE, TWO), "cache"),
    "nested": (Returned(ONE, ({"k": [ONE, TWO]},)), "cache.0.k.1"),
    "itself": (TWO, ""),
}


@pytest.mark.parametrize("value, path", VALUES.values(), ids=VALUES)
def test_an_element_is_read_and_replaced_in_a_copy_of_the_same_type(value, path):
    assert pick(value, path) is TWO
    copied = put(value, path, NEW)
    assert type(copied) is type(value) and pick(copied, path) is NEW and pick(value, path) is TWO
    found = tensors(value)
    assert found[path] is TWO
    assert {key: NEW if key == path else tensor for key, tensor in found.items()} == tensors(copied)


def test_a_huggingface_output_stays_in_step_with_itself():
    from transformers.modeling_outputs import BaseModelOutput

    value = BaseModelOutput(last_hidden_state=ONE, hidden_states=(ONE, TWO))
    copied = put(value, "last_hidden_state", NEW)
    assert copied.last_hidden_state is NEW and copied["last_hidden_state"] is NEW and copied[0] is NEW
    assert value.last_hidden_state is ONE
    assert list(tensors(copied)) == ["last_hidden_state", "hidden_states.0", "hidden_states.1"]


@pytest.mark.parametrize("path", ["2", "left", "0.x", "1."])
def test_an_element_that_is_not_there_is_named(path):
    with pytest.raises(UnknownNameError, match="no element"):
        pick((ONE, TWO), path)
    with pytest.raises(UnknownNameError, match="no element"):
        put((ONE, TWO), path, NEW)


def test_text_and_numbers_hold_no_tensor():
    assert tensors(["text", 3, None, {"a": "b"}]) == {}


class Tagged(Pair):
    """A named tuple with attributes of its own."""


class Stack(list):
    """A list with attributes of its own."""


@dataclasses.dataclass
class WithoutInit:
    logits: torch.Tensor
    scale: float = dataclasses.field(default=1.0, init=False)
    unset: float = dataclasses.field(init=False)


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlots:
    logits: torch.Tensor
    scale: float = dataclasses.field(default=1.0, init=False)


@dataclasses.dataclass
class WithInitVar:
    logits: torch.Tensor
    factor: dataclasses.InitVar[float]

    def __post_init__(self, factor):
        self.scale = factor


def described(made, **attributes):
    for name, value in attributes.items():
        object.__setattr__(made, name, value)
    return made


ATTRIBUTED = {
    "a field without init": described(WithoutInit(TWO), scale=3.0),
    "frozen with slots": described(FrozenSlots(TWO), scale=3.0),
    "made from an InitVar": WithInitVar(TWO, 3.0),
    "an attribute that is no field": described(Returned(TWO), scale=3.0),
    "a dictionary": described(UserDict(logits=TWO), scale=3.0),
    "a named tuple": described(Tagged(TWO, ONE), scale=3.0),
    "a list": described(Stack([TWO, ONE]), scale=3.0),
}


@pytest.mark.parametrize("value", ATTRIBUTED.values(), ids=ATTRIBUTED)
def test_a_copy_keeps_every_attribute(value):
    path = next(iter(tensors(value)))
    copied = put(value, path, NEW)
    assert type(copied) is type(value) and copied.scale == 3.0
    assert pick(copied, path) is NEW and pick(value, path) is TWO


KEYS = {
    "with dots": ({"layer1.0.relu": ONE, "layer4.1": TWO}, "layer4.1"),
    "one the start of another": ({"layer4": {"0": ONE}, "layer4.1": TWO}, "layer4.1"),
    "below a key with dots": ({"a.b": {"c.d": (ONE, TWO)}}, "a.b.c.d.1"),
    "the same path twice": ({"a.b": TWO, "a": {"b": ONE}}, "a.b"),
    "a slash and a space": ({"a/b c": TWO, "a": ONE}, "a/b c"),
    "a number and its text": ({1: ONE, "1": TWO}, "1"),
    "read only": (types.MappingProxyType({"a.b": TWO}), "a.b"),
}


@pytest.mark.parametrize("value, path", KEYS.values(), ids=KEYS)
def test_a_key_is_named_whatever_it_holds(value, path):
    assert pick(value, path) is TWO and tensors(value)[path] is TWO
    copied = put(value, path, NEW)
    assert pick(copied, path) is NEW and pick(value, path) is TWO
    assert tensors(copied).keys() == tensors(value).keys()


def test_the_nearest_key_with_dots_is_suggested():
    with pytest.raises(UnknownNameError, match=r"no element 'layer4.2'. Did you mean 'layer4.1'\?"):
        pick({"layer1.0": ONE, "layer4.1": TWO}, "layer4.2")
