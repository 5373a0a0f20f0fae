"""Figures of many units: which of them are grids, what is drawn as points, and in which order."""

import numpy as np
import pandas as pd
import pytest

from mechmem.plotting.unit_grids import grid_of, unit_maps
from mechmem.plotting.units import effects_figure, sorted_points

KEYS = ["point", "position", "head", "channel", "neuron"]


def sites(rows, unit="head"):
    frame = pd.DataFrame(rows, columns=KEYS)
    frame = frame.astype({name: "Int64" for name in KEYS[1:]})
    return frame.assign(unit=unit, name=[str(number) for number in range(len(frame))])


HEADS = [(point, None, head, None, None) for point in ("a", "b") for head in range(3)]


@pytest.mark.parametrize(
    ("rows", "names", "axes", "shape"),
    [
        (HEADS, ("a", "b"), ("layer", "head"), (2, 3)),
        (
            [("a", p, h, None, None) for p in range(4) for h in range(2)],
            ("head 0", "head 1"),
            ("head", "position"),
            (2, 4),
        ),
        ([(x, p, None, None, None) for x in "ab" for p in (0, 2)], ("a", "b"), ("layer", "position"), (2, 2)),
        (
            [(x, p, h, None, None) for x in "ab" for p in range(2) for h in range(2)],
            ("a[head 0]", "a[head 1]", "b[head 0]", "b[head 1]"),
            ("layer and head", "position"),
            (4, 2),
        ),
    ],
)
def test_units_that_fill_every_cell_are_a_grid(rows, names, axes, shape):
    frame = sites(rows)
    shuffled = frame.sample(frac=1, random_state=0).reset_index(drop=True)
    for each in (frame, shuffled):
        grid = grid_of(each)
        assert grid.axes == axes and (len(grid.rows), len(grid.columns)) == shape and set(grid.rows) == set(names)
        at = {(grid.rows[r], grid.columns[c]): n for r, c, n in zip(grid.row, grid.column, each["name"], strict=True)}
        assert len(at) == len(each)
    assert grid_of(frame).rows == names
    assert grid_of(shuffled).columns == grid_of(frame).columns


@pytest.mark.parametrize(
    "rows",
    [
        HEADS[:-1],
        HEADS + HEADS[:1],
        HEADS[:3],
        [*HEADS, ("c", None, None, None, None)],
        [("a", p, None, None, n) for p in range(2) for n in range(3)],
        [(x, None, None, c, None) for x in "ab" for c in range(3)],
        [("a", None, None, None, None)],
    ],
)
def test_other_units_are_none(rows):
    assert grid_of(sites(rows)) is None


def with_values(frame, series, values):
    parts = [
        frame.assign(series=name, value=each, low=each - 1, high=each + 1)
        for name, each in zip(series, values, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def test_maps_hold_each_value_in_its_cell_on_one_scale():
    values = np.array([[0.1, -0.2, 0.3, 0, np.nan, 0.5], [1, 2, 3, -4, 5, 6]])
    frame = with_values(sites(HEADS), ("one", "two"), values)
    figure = unit_maps(frame, titles={"one": "first", "two": "second"}, z_title="effect")
    for trace, each in zip(figure.data, values, strict=True):
        np.testing.assert_allclose(trace.z, each.reshape(2, 3), rtol=1e-6)
    assert figure.data[1].customdata[1][0] == "3: -4.000 [-5.000, -3.000]"
    assert figure.data[0].text[1][1] == "–" and figure.data[0].text[0][0] == "0.10"
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-6, 6)
    assert [a.text for a in figure.layout.annotations] == ["first", "second"]
    assert figure.layout.yaxis.autorange == "reversed" and list(figure.layout.yaxis.ticktext) == ["a", "b"]


@pytest.mark.parametrize(
    ("unit", "title", "ranked"),
    [
        ("neuron", "neuron, sorted within each series (1 = largest)", True),
        ("position", "position", False),
        ("", "edit, in the order given", False),
    ],
)
def test_points_are_ranked_where_units_have_no_order_of_their_own(unit, title, ranked):
    values = np.random.default_rng(0).normal(size=50)
    column = {"position": KEYS.index("position")}.get(unit, KEYS.index("neuron"))
    rows = [[number if place == column else None for place in range(5)] for number in range(50)]
    frame = with_values(sites(rows, unit).assign(point="a"), ("one", "two"), (values, -values))
    figure = sorted_points(frame, {"one": 0.5, "two": np.nan}, y_title="y", intervals=True)
    for trace, each in zip(figure.data, (values, -values), strict=True):
        np.testing.assert_allclose(trace.y, np.sort(each)[::-1] if ranked else each)
        assert trace.mode == "markers"
        np.testing.assert_allclose(trace.error_y.array, 1)
        assert dict(zip(trace.text, trace.y, strict=True)) == dict(zip(frame["name"], each, strict=False))
    assert figure.layout.xaxis.title.text == title and figure.data[0].x[0] == (0 if unit == "position" else 1)
    assert [line.y0 for line in figure.layout.shapes] == [0.5]


def test_effects_are_a_row_each_points_or_a_grid():
    few, many = (sites([("a", None, None, None, n) for n in range(count)], "neuron") for count in (40, 41))
    drawn = [effects_figure(with_values(each, ("one",), [np.arange(len(each)) / 9])) for each in (few, many)]
    assert drawn[0].data[0].error_x.array is not None and drawn[1].data[0].error_y.array is not None
    grid = effects_figure(with_values(sites(HEADS), ("one",), [np.arange(6) / 9]), "a note")
    assert grid.data[0].type == "heatmap" and grid.layout.annotations[-1].text == "a note"
    assert grid.layout.height == drawn_height(sites(HEADS)) + 20


def drawn_height(frame):
    return effects_figure(with_values(frame, ("one",), [np.arange(len(frame)) / 9])).layout.height
