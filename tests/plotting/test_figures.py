import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mechmem.plotting
from mechmem.plotting.accuracy import dot_plot
from mechmem.plotting.bars import histogram, stacked_bars
from mechmem.plotting.lines import lines
from mechmem.plotting.matrices import Panel, grid_map, heatmaps
from mechmem.plotting.spectra import frequency_axis
from mechmem.plotting.style import SPLIT_STYLES

DEUTERANOPIA = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
PROTANOPIA = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]


def linear(color: str) -> np.ndarray:
    srgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear sRGB, white point D65."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    f = np.cbrt(np.clip(np.array(to_xyz) @ rgb / [0.9505, 1, 1.089], 0, None))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", [np.eye(3), DEUTERANOPIA, PROTANOPIA], ids=["normal", "deuteranopia", "protanopia"])
def test_split_colours_can_be_told_apart(vision):
    seen = [lab(np.clip(np.array(vision) @ linear(style.color), 0, 1)) for style in SPLIT_STYLES.values()]
    distances = [np.linalg.norm(seen[i] - seen[j]) for i in range(len(seen)) for j in range(i)]
    assert min(distances) > 15


def test_splits_differ_without_colour_too():
    assert (
        len({style.symbol for style in SPLIT_STYLES.values()})
        == len({style.dash for style in SPLIT_STYLES.values()})
        == len(SPLIT_STYLES)
    )


def test_plotting_loads_no_torch_of_its_own():
    modules = ", ".join(f"mechmem.plotting.{path.stem}" for path in Path(mechmem.plotting.__path__[0]).glob("[!_]*.py"))
    source = f"import sys; sys.modules['torch'] = None\nimport {modules}\nprint('plotly' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr


@pytest.fixture
def scores():
    rows = [
        ("raw", "test", 0.2, 0.15, 0.26),
        ("raw", "train_clean", 1.0, 0.99, 1.0),
        ("raw", "kernel ridge", 0.05, np.nan, np.nan),
        ("raw", "noise-only", np.nan, np.nan, np.nan),
        ("frequency", "test", 0.9, 0.88, 0.92),
        ("frequency", "untrained", 0.1, 0.05, np.inf),
        ("frequency", "something new", 0.3, 0.2, 0.4),
    ]
    return pd.DataFrame(rows, columns=["extractor", "series", "value", "low", "high"])


def by_name(figure):
    return {trace.name: trace for trace in figure.data}


def test_dot_plot_draws_each_value_in_its_extractors_row(scores):
    figure = dot_plot(scores)
    assert list(figure.layout.yaxis.ticktext) == ["raw", "frequency"]
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1], "the first extractor stands on top"
    test = by_name(figure)["test"]
    np.testing.assert_array_equal(test.x, [0.2, 0.9])
    np.testing.assert_array_equal(np.round(test.y), [0, 1])
    np.testing.assert_allclose(np.array(test.x) - test.error_x.arrayminus, [0.15, 0.88])
    np.testing.assert_allclose(np.array(test.x) + test.error_x.array, [0.26, 0.92])


def test_dot_plot_leaves_out_what_is_not_known(scores):
    traces = by_name(dot_plot(scores))
    assert "noise-only" not in traces
    for name in ("kernel ridge", "untrained"):
        assert not np.any(traces[name].error_x.array) and not np.any(traces[name].error_x.arrayminus)


def test_dot_plot_says_where_nothing_was_measured(scores):
    assert all(trace.mode == "markers" for trace in dot_plot(scores).data)
    scores.loc[scores["extractor"] == "frequency", "value"] = np.nan
    (note,) = (trace for trace in dot_plot(scores).data if trace.mode == "text")
    assert list(note.y) == [1] and note.text == ("n/a (reason in the table)",) and not note.showlegend


def test_dot_plot_tells_controls_from_the_network(scores):
    figure = dot_plot(scores)
    titles = {style.title for style in SPLIT_STYLES.values()}
    colors = {style.color for style in SPLIT_STYLES.values()}
    for trace in figure.data:
        own = trace.name in titles
        assert trace.legend == ("legend" if own else "legend2")
        assert trace.marker.symbol.endswith("-open") != own
        assert (trace.marker.color in colors) == own
    assert {trace.name for trace in figure.data} - titles == {"untrained", "kernel ridge", "something new"}


def test_dot_plot_gives_every_series_a_lane_inside_its_row(scores):
    figure = dot_plot(scores)
    first = sorted(float(trace.y[list(trace.text).index("raw")]) for trace in figure.data if "raw" in list(trace.text))
    height = figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
    assert min(np.diff(first)) * height / 2 >= 7.9, "marks of 8 px in neighbouring lanes do not overlap"
    assert all(abs(y - round(y)) < 0.5 for trace in figure.data for y in trace.y)


def test_dot_plot_marks_chance_only_where_it_is_known(scores):
    assert not any("chance" in trace.name for trace in dot_plot(scores).data)
    line = by_name(dot_plot(scores, chance=0.125))["chance (12.5%)"]
    assert list(line.x) == [0.125, 0.125]


def test_dot_plot_of_nothing_is_empty(scores):
    assert not dot_plot(scores.iloc[:0]).data


def test_lines_keep_step_zero_on_the_log_axis_and_leave_out_empty_splits():
    frame = pd.DataFrame(
        {
            "x": [0, 10, 2000] * 2,
            "series": ["test"] * 3 + ["train_noisy"] * 3,
            "value": [0.1, 0.2, 0.9] + [np.nan] * 3,
        }
    )
    figure = lines(frame, x_title="step", y_title="accuracy", log_x=True, chance=0.1)
    traces = by_name(figure)
    assert set(traces) == {"test", "chance (10.0%)"}
    np.testing.assert_array_equal(traces["test"].x, [0.5, 10, 2000])
    np.testing.assert_array_equal(traces["test"].y, [0.1, 0.2, 0.9])
    assert dict(zip(figure.layout.xaxis.tickvals, figure.layout.xaxis.ticktext, strict=True)) == {
        0.5: "0",
        1: "1",
        10: "10",
        100: "100",
        1000: "1,000",
    }


def test_lines_in_panels_share_a_legend_and_draw_bands():
    frame = pd.DataFrame(
        {
            "panel": ["low first"] * 2 + ["high first"] * 2,
            "x": [0.0, 1.0] * 2,
            "series": ["mine"] * 4,
            "value": [1.0, 0.5, 1.0, 0.2],
            "low": [0.9, 0.4, np.nan, np.nan],
            "high": [1.0, 0.6, np.nan, np.nan],
        }
    )
    figure = lines(frame, x_title="x", y_title="y")
    assert [note.text for note in figure.layout.annotations] == ["low first", "high first"]
    drawn = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert [trace.showlegend for trace in drawn] == [True, False]
    (band,) = (trace for trace in figure.data if trace.fill == "toself")
    np.testing.assert_array_equal(band.y, [1.0, 0.6, 0.4, 0.9])
    assert not lines(frame.iloc[:0], x_title="x", y_title="y").data


def test_histograms_share_their_bins_and_leave_out_what_is_not_finite():
    figure = histogram({"a": np.array([0.0, 1.0, 1.0, np.nan]), "b": np.array([0.5])}, x_title="IPR", bins=2)
    assert [trace.name for trace in figure.data] == ["a", "b"]
    np.testing.assert_array_equal(figure.data[0].y, [1, 1, 2, 2])
    np.testing.assert_array_equal(figure.data[1].y, [0, 0, 1, 1])
    assert histogram({"none": np.zeros(0)}, x_title="x").data[0].y.sum() == 0


def test_heatmaps_share_one_scale():
    z = np.array([[-3.5, -1.0], [np.nan, -2.0]])
    panels = [Panel("a", z, np.arange(2), np.arange(2)), Panel("b", z + 1, np.arange(2), np.arange(2))]
    figure = heatmaps(panels, x_title="x", y_title="y", z_title="z", hover="%{z}", log=True)
    assert [trace.coloraxis for trace in figure.data] == ["coloraxis", "coloraxis"]
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-3.5, 0.0)
    assert list(figure.layout.coloraxis.colorbar.tickvals) == [-3, -2, -1, 0]
    assert np.isnan(figure.data[0].z[1, 0]) and figure.data[1].z[0, 1] == 0
    assert [note.text for note in figure.layout.annotations] == ["a", "b"]
    plain = heatmaps(panels, x_title="x", y_title="y", z_title="z", hover="%{z}")
    assert plain.layout.coloraxis.cmin == 0


def test_stacked_bars_stack_parts_and_mark_the_total():
    frame = pd.DataFrame(
        [("test", "up", 3.0, 2.0, 4.0), ("test", "down", -1.0, -2.0, 0.0), ("test", "total", 2.0, 1.0, 2.5)],
        columns=["bar", "part", "value", "low", "high"],
    )
    figure = stacked_bars(frame, {"up": "#000000", "down": "#ffffff"}, y_title="logits")
    assert figure.layout.barmode == "relative"
    assert [trace.name for trace in figure.data] == ["up", "down", "total"]
    total = figure.data[2]
    assert (total.y[0], total.y[0] - total.error_y.arrayminus[0], total.y[0] + total.error_y.array[0]) == (2, 1, 2.5)


def test_grid_map_paints_each_cell_in_its_category():
    code = np.array([[0, 1, 3], [2, -1, 3]])
    marked = np.array([[False, False, False], [True, False, False]])
    colors = {"right": "#111111", "memorized": "#222222", "wrong": "#333333", "unknown": "#444444"}
    details = np.array([[["p"], ["q"], ["-"]], [["r"], ["s"], ["-"]]])
    figure = grid_map(code, colors, marked, details, mark_title="held out", hover="%{customdata[0]}")
    heat, *legend, dots = figure.data
    assert np.isnan(heat.z[1, 1]) and heat.customdata[1][0][0] == "r"
    for cell, wanted in (((0, 0), "#111111"), ((0, 1), "#222222"), ((1, 0), "#333333"), ((0, 2), "#444444")):
        share = (heat.z[cell] - heat.zmin) / (heat.zmax - heat.zmin)
        painted = [color for at, color in heat.colorscale if at <= share][-1]
        assert painted == wanted
    assert [trace.name for trace in legend] == ["right (1)", "memorized (1)", "wrong (1)", "unknown (2)"]
    none = grid_map(np.minimum(code, 1), colors, marked, details, mark_title="held out", hover="")
    assert [trace.name for trace in none.data[1:-1]] == ["right (1)", "memorized (4)"]
    assert (list(dots.x), list(dots.y)) == ([0], [1]) and dots.name == "held out (1)"
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1], "a runs down, as in a matrix"


def test_a_band_goes_with_its_line_when_the_legend_is_clicked():
    frame = pd.DataFrame(
        {"x": [0, 1], "series": "train_clean", "value": [0.2, 0.4], "low": [0.1, 0.3], "high": [0.3, 0.5]}
    )
    band, line = lines(frame, x_title="x", y_title="y").data
    assert band.fill == "toself" and band.legendgroup == line.legendgroup == "train, clean"


@pytest.mark.parametrize(("count", "step"), [(5, 1), (12, 1), (13, 2), (29, 5), (56, 5), (5000, 50)])
def test_frequencies_have_whole_ticks_or_names(count, step):
    axis = frequency_axis([str(k) for k in range(1, count + 1)])
    assert axis == {"tick0": 0, "dtick": step, "title_text": "frequency k"}
    named = frequency_axis(["[3]", "[2,1]"])
    assert named == {"tickvals": [1, 2], "ticktext": ["[3]", "[2,1]"], "title_text": "representation"}
