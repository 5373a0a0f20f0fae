import dataclasses
from collections import OrderedDict, defaultdict, namedtuple

import pytest
import torch

from mechmem.core.roles import pick, put, tensors
from mechmem.errors import UnknownNameError

Pair = namedtuple("Pair", ["left", "right"])


@dataclasses.dataclass
class Output:
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
    "dataclass": (Output(ONE, TWO), "cache"),
    "nested": (Output(ONE, ({"k": [ONE, TWO]},)), "cache.0.k.1"),
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
