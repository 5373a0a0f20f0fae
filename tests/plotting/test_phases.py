"""Phase diagrams and lines over a setting: everything in sight, and legible."""

import itertools

import pandas as pd
import pytest

from mechmem.errors import ConfigError
from mechmem.plotting.phases import lines_over, phase_diagrams


def grid(settings, value=0.5):
    cells = pd.DataFrame([dict(zip(settings, each, strict=True)) for each in itertools.product(*settings.values())])
    return cells, cells.assign(value=value)


def diagrams(settings, panels=(), value=0.5):
    x, y = list(settings)[:2]
    return phase_diagrams(*grid(settings, value), x, y, panels, title="t", bounds=None)


def over(settings, series="", panels=()):
    return lines_over(*grid(settings), next(iter(settings)), series, panels, title="t", bounds=(0, 1))


NOISE = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def test_cells_without_a_value_are_shown_as_well():
    figure = diagrams({"noise": NOISE, "decay": [1, 2]}, value=float("nan"))
    assert tuple(figure.layout.xaxis.range) == (-0.5, 9.5) and tuple(figure.layout.yaxis.range) == (-0.5, 1.5)
    assert figure.layout.plot_bgcolor == "#dcdcdc"


@pytest.mark.parametrize(("widths", "shown"), [([1], 10), ([1, 2], 5), ([1, 2, 3], 5)])
def test_there_are_as_many_labels_as_a_panel_has_room_for(widths, shown):
    figure = diagrams({"noise": NOISE, "decay": [1, 2], "width": widths}, ["width"] if len(widths) > 1 else [])
    assert len(figure.layout.xaxis.ticktext) == shown and figure.layout.xaxis.tickangle == 0


def test_long_titles_and_words_are_broken_into_lines():
    settings = {
        "noise": NOISE,
        "decay": [1, 2],
        "activation": ["relu", "reverse_relu", "gelu"],
        "init": ["a", "b", "c"],
    }
    titles = [each.text for each in diagrams(settings, ["activation", "init"]).layout.annotations]
    assert titles[0] == "activation relu, init a" and titles[3] == "activation reverse_relu,<br>init a"
    model = ["mlp(width=16)", "mlp(width=16, layers=2)", "transformer(d_model=64, heads=2)"]
    figure = over({"model": model})
    assert figure.layout.xaxis.ticktext[2] == "transformer(d_model=64,<br>heads=2)"
    assert tuple(figure.layout.xaxis.range) == (-0.5, 2.5)


def test_an_axis_over_decades_is_logarithmic_with_the_values_as_labels():
    axis = over({"lr": [1e-4, 1e-3, 1e-2]}).layout.xaxis
    assert axis.type == "log" and list(axis.tickvals) == [1e-4, 1e-3, 1e-2] and axis.ticktext[0] == "0.0001"
    assert over({"decay": [0.0, 1e-3, 1.0]}).layout.xaxis.type is None
    assert over({"noise": [0.1, 0.9]}).layout.xaxis.type is None


def test_intervals_are_named_only_where_there_are_some():
    assert over({"noise": NOISE}).layout.yaxis.title.text == "t"
    repeated = over({"noise": NOISE, "seed": [0, 1]})
    assert repeated.layout.yaxis.title.text == "t<br>(mean, 95 % interval)"


def test_a_cell_has_the_word_of_most_seeds():
    cells, _ = grid({"noise": [0.1, 0.2], "decay": [1, 2], "seed": [0, 1, 2]})
    words = ["b", "a", "b", "a", "a", "a", "b", "a", None, "b", "b", None]
    figure = phase_diagrams(cells, cells.assign(value=words), "noise", "decay", [], title="t", bounds=None)
    heat, *legend = figure.data
    # With as many of one as of the other, the first in alphabetical order.
    assert heat.z.tolist() == [[1, 0], [0, 1]] and heat.customdata[1][1][2] == "b (2 of 2)"
    shown = dict(zip(*zip(*figure.layout.coloraxis.colorscale, strict=True), strict=True))
    assert [trace.name for trace in legend] == ["a", "b"]
    assert [trace.marker.color for trace in legend] == [shown[0], shown[1]]


def test_more_words_than_colours_are_refused():
    cells, rows = grid({"noise": list(range(8)), "decay": [1, 2]})
    rows["value"] = [f"word {noise}" for noise in rows["noise"]]
    with pytest.raises(ConfigError, match="8 different words cannot be told apart by colour, 7 can"):
        phase_diagrams(cells, rows, "noise", "decay", [], title="t", bounds=None)
