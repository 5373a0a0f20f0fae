"""Scatters of angles, pages of one neuron, and figures side by side."""

import numpy as np
import pandas as pd

from mechmem.plotting.bars import histogram
from mechmem.plotting.layout import counts, side_by_side
from mechmem.plotting.neuron import Wave, neuron_page
from mechmem.plotting.spectra import Angles, angle_scatter
from mechmem.plotting.style import SPLIT_STYLES

TWO = {name: SPLIT_STYLES[name] for name in ("train_clean", "test")}


def test_angles_are_drawn_by_kind_and_named_once():
    points = Angles("a", np.array([0.0, 1.0, np.nan]), np.array([0.1, 2.0, 0.0]), np.array([0, 1, 1]), np.arange(3))
    figure = angle_scatter([points, points], TWO, x_title="x (rad)", y_title="y (rad)", band=0.5)
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    assert [(t.name, t.xaxis) for t in marks] == [(n, x) for x in ("x", "x2") for n in ("test", "train, clean")]
    assert [bool(t.showlegend) for t in marks] == [True, True, False, False]
    assert marks[0].customdata.tolist() == [1], "a point without an angle is left out"
    # The band follows the diagonal, and comes back at the opposite corner.
    for x, y, inside in ((0.0, 0.4, True), (0.0, 0.6, False), (3.1, -3.1, True)):
        bands = [t for t in figure.data if t.name == "band" and t.xaxis == "x"]
        low = [np.interp(x, t.x[:2], t.y[:2]) for t in bands]
        high = [np.interp(x, t.x[:1:-1], t.y[:1:-1]) for t in bands]
        assert any(a <= y <= b for a, b in zip(low, high, strict=True)) == inside


def test_figures_side_by_side_keep_their_titles_and_name_a_series_once():
    parts = [histogram({"mine": np.arange(4.0)}, x_title=title) for title in ("left", "right")]
    figure = side_by_side(parts)
    assert [figure.layout.xaxis.title.text, figure.layout.xaxis2.title.text] == ["left", "right"]
    assert [trace.xaxis for trace in figure.data] == ["x", "x2"]
    assert [bool(trace.showlegend) for trace in figure.data] == [True, False]
    assert parts[1].data[0].showlegend is None, "the parts are left as they were"


def test_counts_start_at_one():
    figure = counts({"test": np.array([3, 0, 2])}, TWO, x_title="k", y_title="neurons")
    assert figure.data[0].x.tolist() == [1, 2, 3] and figure.data[0].y.tolist() == [3, 0, 2]


def test_a_page_of_one_vector_hides_what_is_not_there():
    empty = pd.DataFrame(columns=["split", "value", "low", "high"])
    wave = Wave("w", np.arange(5.0), np.zeros(5), np.array([0.2, 0.8]), np.zeros(0))
    options = {"title": "t", "symbols": np.arange(5), "axis": np.arange(5), "order": "", "note": "not linear"}
    figure = neuron_page([wave], None, empty, key=2, **options)
    assert [trace.type for trace in figure.data] == ["scatter", "scatter", "bar"]
    assert figure.data[2].marker.color[1] != figure.data[2].marker.color[0]
    assert figure.layout.xaxis2.visible is False and figure.layout.xaxis.visible is not False
    assert "not linear" in [note.text for note in figure.layout.annotations]
