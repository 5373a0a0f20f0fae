import dataclasses
import json
import math
import os
import warnings

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechmem.core import storage
from mechmem.core.stats import Estimate
from mechmem.errors import RunDirectoryError, UncheckedWarning


@storage.record
@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """A record for these tests."""

    values: object
    name: str = "sample"


def round_trip(value, tmp_path):
    storage.save_record(Sample(value), tmp_path / "r.safetensors")
    loaded = storage.load_record(tmp_path / "r.safetensors")
    assert isinstance(loaded, Sample)
    return loaded.values


leaves = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=6) | st.floats(allow_nan=False)
values = st.recursive(
    leaves
    | st.frozensets(st.text(max_size=4), max_size=3)
    | st.builds(Estimate, st.floats(0, 1), *[st.floats(0, 1)] * 2, st.integers(0, 9)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(values)
def test_plain_values_come_back_as_they_were(value):
    tensors = {}
    body = json.loads(json.dumps(storage.encode(value, tensors), allow_nan=False))
    again = storage.decode(body, tensors)
    assert again == value and type(again) is type(value)


def test_a_mapping_that_looks_like_a_tag_is_still_a_mapping(tmp_path):
    tricky = {"$tensor": "t0", "$record": "Sample", "$float": "nan"}
    assert round_trip(tricky, tmp_path) == tricky


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.uint8, torch.int32]
)
def test_tensors_come_back_to_the_bit(dtype, tmp_path, draw):
    tensor = (torch.randn(3, 4, generator=draw) * 3).to(dtype)
    found = round_trip([tensor, tensor.T, tensor[:, ::2]], tmp_path)
    for before, after in zip([tensor, tensor.T, tensor[:, ::2]], found, strict=True):
        assert after.dtype == dtype and torch.equal(before, after)


def test_special_numbers(tmp_path):
    found = round_trip((math.inf, -math.inf, math.nan, -0.0, 1e-310), tmp_path)
    assert found[:2] == (math.inf, -math.inf) and math.isnan(found[2])
    assert math.copysign(1, found[3]) == -1 and found[4] == 1e-310
    tensor = torch.tensor([math.nan, -0.0, math.inf])
    assert torch.equal(round_trip(tensor, tmp_path).view(torch.int32), tensor.view(torch.int32))


def test_numpy_arrays_come_back_as_tensors_read_only_ones_too(tmp_path):
    array = np.arange(6.0).reshape(2, 3)
    array.flags.writeable = False
    assert torch.equal(round_trip(array, tmp_path), torch.arange(6.0, dtype=torch.float64).reshape(2, 3))


def test_only_records_are_stored(tmp_path):
    @dataclasses.dataclass
    class Unmarked:
        x: int = 0

    with pytest.raises(TypeError, match="Unmarked is not a record"):
        round_trip(Unmarked(), tmp_path)
    with pytest.raises(TypeError, match="cannot store a set"):
        round_trip({1, 2}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_record_name_is_taken_once():
    with pytest.raises(TypeError, match="'Estimate' is taken by mechmem.core.stats"):
        storage.record(type("Estimate", (), {}))


def test_missing_files(tmp_path):
    for read in (storage.read_tensors, storage.load_record):
        with pytest.raises(RunDirectoryError, match="cannot read"):
            read(tmp_path / "none")


def test_no_tensors_at_all_are_read_back(tmp_path):
    # The state of an optimiser before its first step, for one.
    storage.write_tensors(tmp_path / "none.safetensors", {})
    assert storage.read_tensors(tmp_path / "none.safetensors") == {}
    assert round_trip("no tensor in here", tmp_path) == "no tensor in here"


@pytest.mark.parametrize("keep", [0, 5, 40, -4])
def test_truncated_tensors(keep, tmp_path):
    path = tmp_path / "x.safetensors"
    storage.write_tensors(path, {"x": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RunDirectoryError, match="cannot read"):
        storage.read_tensors(path)


@pytest.mark.parametrize(
    "body, message",
    [
        (None, "holds no mechmem result"),
        ("{", "damaged"),
        ('{"$record": "os.system", "fields": {}}', "unknown record 'os.system'"),
        ('{"$record": "Sample", "fields": {"nonsense": 1}}', "damaged"),
        ('{"$record": "Sample", "fields": {"values": {"$tensor": "t9"}}}', "damaged"),
        ('{"$record": "Sample"}', "damaged"),
    ],
)
def test_a_file_that_holds_something_else(body, message, tmp_path):
    path = tmp_path / "x.safetensors"
    metadata = None if body is None else {"mechmem": body}
    safetensors.torch.save_file({"x": torch.zeros(1)}, path, metadata=metadata)
    with pytest.raises(RunDirectoryError, match=message):
        storage.load_record(path)


def test_no_flipped_bit_gives_other_figures(tmp_path, draw):
    path = tmp_path / "x.safetensors"
    value = (torch.randn(5, generator=draw), torch.tensor([True, False]), {"a": 1.5, "b": (2, None)})
    storage.save_record(Sample(value), path)
    data, expected = path.read_bytes(), storage.encode(value, {})
    silent = 0
    # Not those of the header's length, without which nothing can be read.
    for bit in range(64, 8 * len(data), 17):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(damaged))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = storage.load_record(path).values
        except (RunDirectoryError, UncheckedWarning):
            continue
        silent += 1
        assert storage.encode(found, {}) == expected
        assert torch.equal(found[0].view(torch.int32), value[0].view(torch.int32)) and torch.equal(found[1], value[1])
    assert silent < 6  # spaces that fill up the header, and nothing else


@pytest.mark.parametrize(
    "body", ["[" * 100_000, '{"a":' * 100_000, "[]", "3", '{"$record": "Sample", "fields": ' + "[" * 900]
)
def test_what_is_nested_without_end_is_refused(body, tmp_path):
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file({"x": torch.zeros(1)}, path, metadata={"mechmem": body})
    for read in (storage.load_record, storage.read_tensors):
        with pytest.raises(RunDirectoryError, match="damaged"):
            read(path)


@pytest.mark.parametrize("header", [10**12, 10**7])
def test_a_header_of_any_size_is_refused(header, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(header.to_bytes(8, "little") + b"{" * 100)
    with pytest.raises(RunDirectoryError, match="cannot read"):
        storage.load_record(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.safetensors")
    for read in (storage.load_record, storage.read_tensors, storage.read_about):
        with pytest.raises(RunDirectoryError, match="not a regular file"):
            read(tmp_path / "x.safetensors")


def test_files_of_the_same_content_are_the_same(tmp_path):
    for name in ("one", "two"):
        storage.write_tensors(tmp_path / name, {"x": torch.ones(1).expand(3), "y": torch.zeros(0)}, {"b": 1, "a": 2})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
