"""Frames come back from disk as they were."""

import numpy as np
import pandas as pd
import pytest

from mechmem.core.storage import load_record, save_record
from mechmem.core.tables import Table, under_each_other

FRAME = pd.DataFrame(
    {
        "step": [1, 2, 3],
        "share": [0.5, np.nan, np.inf],
        "single": np.array([1, 2, 3], dtype=np.float32),
        "held_out": [True, False, True],
        "name": ["a", "b", "c"],
        "maybe": pd.array([1, None, 3], dtype="Int64"),
        "mixed": pd.Series(["x", None, ("y", 2)], dtype=object),
        "label": pd.Series(["u", None, "w"], dtype="str"),
    }
)


def test_every_kind_of_column_survives(tmp_path):
    save_record(Table.of(FRAME), tmp_path / "t.safetensors")
    pd.testing.assert_frame_equal(load_record(tmp_path / "t.safetensors").frame(), FRAME)


def test_a_categorical_column_keeps_its_values_and_a_copy_may_be_changed():
    table = Table.of(pd.DataFrame({"kind": pd.Categorical(["b", "a"])}, index=[5, 7]))
    frame = table.frame()
    assert frame["kind"].tolist() == ["b", "a"] and frame.index.tolist() == [0, 1]
    frame.loc[0, "kind"] = "z"
    assert table.frame()["kind"].tolist() == ["b", "a"]


def test_columns_that_some_frames_lack_are_missing_there():
    joined = under_each_other([pd.DataFrame({"a": [1.0]}), pd.DataFrame({"b": ["x"]})])
    assert joined.columns.tolist() == ["a", "b"] and joined["a"].isna().tolist() == [False, True]
    assert joined["b"].isna().tolist() == [True, False]


@pytest.mark.parametrize("frame", [FRAME.iloc[:0], FRAME[[]]])
def test_empty_tables(frame, tmp_path):
    save_record(Table.of(frame), tmp_path / "t.safetensors")
    assert load_record(tmp_path / "t.safetensors").frame().columns.tolist() == frame.columns.tolist()
