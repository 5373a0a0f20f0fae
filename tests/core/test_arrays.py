"""Arrays of users in every form: taken where the meaning is clear, and refused by name and row where it is not."""

import numpy as np
import pandas as pd
import pytest
import torch

from mechmem.core.arrays import numbers, truth_values
from mechmem.core.labels import count_classes, labels
from mechmem.errors import ConfigError

WHOLE = [2, 0, 1, 1, 0, 2]


class Column:
    """A column of another library's table."""

    def __init__(self, values):
        self.values = values

    def to_numpy(self):
        return np.array(self.values)


FORMS = {
    "list": list,
    "tuple": tuple,
    "numpy": np.array,
    "tensor": torch.tensor,
    "Series": pd.Series,
    "shuffled Series": lambda values: pd.Series(values, index=[3, 5, 0, 1, 4, 2]),
    "filtered Series": lambda values: pd.Series([v for each in values for v in (each, 7)]).iloc[::2],
    "nullable Series": lambda values: pd.Series(values, dtype="Int64"),
    "objects": lambda values: np.array(values, dtype=object),
    "objects of numpy": lambda values: np.array([np.int16(each) for each in values], dtype=object),
    "list of tensors": lambda values: [torch.tensor(each) for each in values],
    "another library's column": Column,
    "big-endian": lambda values: np.array(values, dtype=">i4"),
    "read-only": lambda values: np.broadcast_to(np.array(values), (6,)),
    "reversed": lambda values: np.array(values[::-1])[::-1],
    **{
        kind: lambda values, kind=kind: np.array(values, dtype=kind) for kind in ("uint8", "uint16", "uint32", "uint64")
    },
    "column of a table": lambda values: pd.DataFrame({"label": values}),
    "fractional numbers": lambda values: np.array(values, dtype=float),
    "fractional objects": lambda values: np.array([float(each) for each in values], dtype=object),
    "half precision": lambda values: torch.tensor(values, dtype=torch.bfloat16),
    "one-hot": lambda values: np.eye(3)[list(values)],
    "one-hot table": lambda values: pd.get_dummies(pd.Series(values)),
}


@pytest.mark.parametrize("form", FORMS)
def test_labels_in_every_form_are_the_same_classes(form):
    found = labels(given=FORMS[form](WHOLE))
    assert found.columns["given"].tolist() == WHOLE and found.columns["given"].dtype == torch.long
    assert found.names is None and count_classes(found, found.columns, None) == 3


@pytest.mark.parametrize("form", [form for form in FORMS if not form.startswith(("one-hot", "list of"))])
def test_inputs_in_every_form_are_the_same_rows(form):
    found = numbers(FORMS[form](WHOLE), "inputs")
    assert found.flatten().tolist() == WHOLE


NAMED = {
    "list": list,
    "numpy": np.array,
    "bytes": lambda values: np.array(values, dtype="S"),
    "objects": lambda values: np.array(values, dtype=object),
    "Series": lambda values: pd.Series(values, index=[3, 5, 0, 1, 4, 2]),
    "categories": lambda values: pd.Series(values, dtype="category"),
    "table": lambda values: pd.DataFrame({"label": values}),
}


@pytest.mark.parametrize("form", NAMED)
def test_names_become_classes_in_alphabetical_order_and_are_kept(form):
    words = ["cat", "ant", "bee", "bee", "ant", "cat"]
    found = labels(given=NAMED[form](words), true=NAMED[form](["dog", *words[1:]]))
    assert found.names == ("ant", "bee", "cat", "dog")
    assert found.columns["given"].tolist() == WHOLE and found.columns["true"].tolist() == [3, *WHOLE[1:]]


def test_names_in_rows_that_do_not_count_are_no_classes():
    counted = torch.tensor([True, True, False])
    found = labels({"given": counted}, given=["b", "a", "?"], true=["b", "b", "a"])
    assert found.names == ("a", "b") and found.columns["given"][:2].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (None, "given must be a tensor, an array, a list .* got None"),
        ("abc", "given must be a tensor, .* got 'abc'"),
        (5, "given must be a tensor, .* got 5"),
        ({"a": 1}, "given must be a tensor, .* got a dict"),
        ({1, 2}, "given must be a tensor, .* got a set"),
        (object(), "given must be a tensor, .* got an object"),
        (pd.Series, "given must be a tensor, .* got the class Series"),
        (iter([1]), "given must be a tensor, .*"),
        ([0, None, 1], "given must have no missing values, but row 1 is None"),
        (["a", None], "given must have no missing values, but row 1 is None"),
        (pd.Series([0, None, 1]), r"given .* row 1 is missing \(NaN\)"),
        (pd.Series([0, None, 1], dtype="Int64"), r"given .* row 1 is missing \(NaN\)"),
        (pd.Series(["a", np.nan]), "given must have no missing values, but row 1 is nan"),
        (pd.Series(["a", pd.NA]), "given must have no missing values, but row 1 is "),
        (pd.Series(["a", pd.NaT], dtype=object), "given must have no missing values, but row 1 is "),
        (pd.Series([0, pd.NA], dtype=object), "given must have no missing values, but row 1 is "),
        (pd.Series(["a", np.zeros(2)]), "given must be numbers or names, but row 1 holds "),
        (np.ma.array([0, 1], mask=[False, True]), "given must have no missing values, but row 1 is masked"),
        (torch.tensor([0.0, torch.nan]), "row 1 is missing"),
        (["a", 1], "given must be of one kind, but row 1 holds 1, row 0 'a'"),
        ([0.0, np.inf], "given must be one whole number or boolean per example, got torch.float"),
        ([0.5, 0.5], "given must be one whole number or boolean per example, got torch.float64"),
        (np.array([0, 1j]), "given must be one whole number .*complex128"),
        (np.array([[0.5, 0.5], [1, 0]]), r"one-hot\); got torch.float64 of shape \(2, 2\), of which row 0 is neither"),
        (np.array([[1, 0], [0, 0]]), "of which row 1 is neither"),
        (np.array([["a", "b"]]), "given must be one label per example, got names of shape"),
        (np.array([0, 2**63], dtype=np.uint64), "given must be at most 9,223,372,036,854,775,807"),
        ([0, 2**70], "given must be at most 9,223,372,036,854,775,807"),
        ([0, 2**40], "given must be below 1,048,576 .*got 1,099,511,627,776 in row 1"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "given must be numbers, got datetime64"),
        (torch.zeros(2, device="meta"), "given is on the meta device"),
        (torch.zeros(2).to_sparse(), "given must be an ordinary .dense. tensor"),
        ([[0, 1], [1]], "given cannot be read as an array"),
        (np.zeros(()), "given must be a tensor, an array"),
        ([object()], "given must be numbers or names, but row 0 holds an object"),
    ],
)
def test_labels_that_are_none_are_refused_by_name_and_row(values, said):
    with pytest.raises(ConfigError, match=said) as caught:
        labels(given=values)
    assert "\n" not in str(caught.value)


def test_names_and_numbers_do_not_mix():
    with pytest.raises(ConfigError, match="given holds names of classes, but true numbers"):
        labels(given=["a", "b"], true=[0, 1])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["a", "b"], "inputs must be numbers, but row 0 holds 'a'"),
        (pd.DataFrame({"x": [1.0, 2.0], "word": ["a", "b"]}), "inputs must be numbers, but row 0 holds 'a'"),
        (np.array([[1, None]], dtype=object), "inputs must have no missing values, but row 0 is None"),
        (np.zeros((2, 2), dtype=complex), "inputs must be real numbers, got torch.complex128"),
        (torch.zeros(2, 2, device="meta"), "inputs is on the meta device"),
        (torch.zeros(0, 3), "inputs must have one row per example"),
        (torch.tensor(1.0), "inputs must have one row per example"),
        (None, "inputs must be a tensor, an array"),
    ],
)
def test_inputs_that_are_no_numbers_are_refused(values, said):
    with pytest.raises(ConfigError, match=said):
        numbers(values, "inputs")


def test_a_table_keeps_its_rows():
    square = np.arange(9.0, dtype=np.float32).reshape(3, 3)
    assert torch.equal(numbers(pd.DataFrame(square, index=[2, 0, 1]), "inputs"), torch.from_numpy(square))
    mixed = pd.DataFrame({"whole": [1, 2], "part": [0.5, 1.5], "yes": pd.array([3, 4], dtype="Int64")})
    assert numbers(mixed, "inputs").tolist() == [[1, 0.5, 3], [2, 1.5, 4]]
    for values, dtype in (([0.5, 1.5], torch.float64), ([7, 8], torch.int64)):
        told = numbers(pd.DataFrame({"yes": [True, False], "value": values}), "inputs")
        assert told.tolist() == [[1, values[0]], [0, values[1]]] and told.dtype == dtype


def test_tensors_and_arrays_are_not_copied():
    held = np.zeros((3, 2), dtype=np.float32)
    assert numbers(held, "inputs").data_ptr() == held.ctypes.data
    tensor = torch.zeros(3, 2)
    assert numbers(tensor, "inputs") is tensor and numbers([[0.1]], "inputs").dtype == torch.float32


def test_classes_without_an_example_are_not_guessed():
    for values, absent in ((range(1, 5), 0), ([0, 10, 20], 1)):
        found = labels(given=list(values))
        with pytest.raises(ConfigError, match=f"no example is of class {absent}: pass n_classes="):
            count_classes(found, found.columns, None)
        assert count_classes(found, found.columns, "add") == max(values) + 1
    unknown = labels(true=[0, -1, 1])
    assert count_classes(unknown, unknown.columns, None) == 2


def test_truth_values_are_one_per_example():
    assert truth_values(pd.Series([True, False]), "train").tolist() == [True, False]
    assert truth_values(np.array([True, False], dtype=object), "train").dtype == torch.bool
    for wrong in ([0.0, 1.0], ["yes", "no"], [[True, False]], None):
        with pytest.raises(ConfigError, match="train must be"):
            truth_values(wrong, "train")


def test_names_have_the_order_of_their_categories():
    sizes = pd.Series(["mid", "low", "mid"], dtype=pd.CategoricalDtype(["low", "mid", "high"], ordered=True))
    found = labels(given=sizes, true=["low", "high", "low"])
    assert found.names == ("low", "mid", "high")
    assert found.columns["given"].tolist() == [1, 0, 1] and found.columns["true"].tolist() == [0, 2, 0]
    assert labels(given=sizes, true=sizes.cat.remove_unused_categories()).names == ("low", "mid", "high")
    assert labels(given=pd.Series([3, 1], dtype="category")).columns["given"].tolist() == [3, 1]
    with pytest.raises(ConfigError, match="given and true hold 'huge', which is none of the categories"):
        labels(given=sizes, true=["low", "huge", "low"])
    with pytest.raises(ConfigError, match="categories in two orders, low, mid, high and high, low"):
        labels(given=sizes, true=sizes.cat.remove_unused_categories().cat.set_categories(["high", "low"]))


def test_names_that_are_numbers_are_ordered_as_such():
    assert labels(given=["10", "9", "1"]).names == ("1", "9", "10")
    with pytest.raises(ConfigError, match="given hold '-1' as a name: pass numbers, of which −1 is no class"):
        labels(given=["10", "9", "-1"])
    assert labels(given=["10", "9", "x"]).names == ("10", "9", "x")


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_tensor_is_refused():
    with pytest.raises(ConfigError, match="given must be an ordinary .dense. tensor, got a nested one"):
        labels(given=torch.nested.nested_tensor([torch.zeros(2), torch.ones(1)]))
