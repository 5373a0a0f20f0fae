"""Grids: names and values into configs, and what is refused before anything starts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mechmem as mm
from mechmem.errors import ConfigError, UnknownNameError
from mechmem.sweeps.grid import MOST_CELLS, cells_of, given_cells, parsed, varied

BASE = mm.TrainConfig(mm.ModularConfig(p=7, noise=mm.LabelNoise(0.2)), mm.MLPConfig(8), steps=3)


def cells(grid):
    return cells_of(grid, lambda values: varied(BASE, values))


def test_the_last_name_varies_fastest_and_every_cell_is_its_config():
    found = cells({"label_noise": [0.0, 0.3], "width": [4, 8], "seed": range(2)})
    assert [tuple(cell.values.values()) for cell in found[:3]] == [(0.0, 4, 0), (0.0, 4, 1), (0.0, 8, 0)]
    last = found[-1].config
    assert (last.task.noise.fraction, last.model.width, last.seed, last.task.seed) == (0.3, 8, 1, 1)
    assert last.task.p == 7 and len({cell.config.digest for cell in found}) == 8


def test_a_setting_has_its_options_name_its_path_and_may_be_a_whole_config():
    assert varied(BASE, {"task.noise.fraction": 0.5}) == varied(BASE, {"label_noise": 0.5})
    assert varied(BASE, {"task.seed": 4}).seed == 0 and varied(BASE, {"seed": 4}).task.seed == 4
    (wide, deep) = cells({"model": [mm.MLPConfig(16), mm.MLPConfig(16, layers=2)]})
    assert wide.values == {"model": "mlp(width=16)"} and deep.config.model.layers == 2


def test_whole_numbers_and_numbers_of_one_value_are_one_training():
    assert varied(BASE, {"label_noise": 0}).digest == varied(BASE, {"label_noise": 0.0}).digest
    with pytest.raises(ConfigError, match="two cells are the same training: label_noise=0 and label_noise=0.0"):
        cells({"label_noise": [0, 0.0]})


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.1,0.3", [0.1, 0.3]),
        ("add, sub", ["add", "sub"]),
        ("true,false", [True, False]),
        ("3", [3]),
        ("0:2", [0, 1, 2]),
        ("0:0.3:0.1", [0.0, 0.1, 0.2, 0.3]),
        ("1:0:-0.5", [1.0, 0.5, 0.0]),
        ("1e-3,1e-2", [1e-3, 1e-2]),
        ("0:1:0.4", [0.0, 0.4, 0.8]),
    ],
)
def test_values_are_read_from_text(text, values):
    assert parsed(text) == values


@given(st.integers(-50, 50), st.integers(1, 60), st.integers(1, 9))
def test_a_range_has_both_ends_and_no_rounding(first, count, step):
    """Against whole numbers: hundredths from the first to the last."""
    text = f"{first / 100}:{(first + (count - 1) * step) / 100}:{step / 100}"
    assert parsed(text) == [(first + place * step) / 100 for place in range(count)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "a value is missing"),
        ("1,,2", "a value is missing"),
        ("0:1:0", "has no value"),
        ("0:-1", "has no value"),
        ("a:b", "a range is first:last"),
        ("1:2:3:4", "a range is first:last"),
        ("0:1:1e-9", "1,000,000,001 values"),
        ("0:1e400", "values"),
    ],
)
def test_text_without_clear_values_is_refused(text, why):
    with pytest.raises(ConfigError, match=why):
        parsed(text)


@pytest.mark.parametrize(
    ("grid", "why"),
    [
        ({"widht": [1]}, "no setting 'widht'. Did you mean 'width'"),
        ({"width": []}, "width has no value"),
        (
            {"p": [4], "noise_kind": ["bijective"]},
            "grid: p=4, noise_kind=bijective: bijective noise needs",
        ),
        ({"seed": [0, 1], "task.seed": [0, 1]}, "seed sets task.seed|task.seed sets task.seed"),
        (
            {"seed": range(MOST_CELLS), "width": range(1, 101)},
            "has 10,000,000 cells .seed 100,000 × width 100",
        ),
        ({"width": [8.5]}, "width"),
        ({"lr": [-1.0]}, "learning rate"),
    ],
    ids=str,
)
def test_a_grid_that_cannot_be_meant_is_refused_with_its_cell(grid, why):
    with pytest.raises((ConfigError, UnknownNameError), match=why):
        cells(grid)


def test_configs_are_told_apart_by_the_settings_in_which_they_differ():
    configs = [varied(BASE, {"seed": seed, "label_noise": noise}) for seed in (0, 1) for noise in (0.1, 0.2)]
    assert [cell.values for cell in given_cells(configs)][1] == {"fraction": 0.2, "seed": 0}
    both = given_cells([BASE, mm.TrainConfig(BASE.task, mm.TransformerConfig(d_model=8, heads=2), steps=3)])
    assert both[0].values["model"] == "mlp" and both[1].values["d_model"] == 8 and both[0].values["d_model"] is None
    with pytest.raises(ConfigError, match="no config"):
        given_cells([])
    with pytest.raises(ConfigError, match="two cells are the same training: the 1st and the 2nd$"):
        given_cells([BASE, BASE])
    with pytest.raises(ConfigError, match="the same training: the 2nd and the 4th, both fraction=0.2, seed=0"):
        given_cells([*configs[:3], configs[1]])


def test_numpy_values_are_those_of_python():
    found = cells({"label_noise": np.linspace(0, 0.4, 3).tolist(), "width": np.array([4, 8]).tolist()})
    assert found[0].config == varied(BASE, {"label_noise": 0.0, "width": 4})
