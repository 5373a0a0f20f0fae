"""Files of a result for other programs."""

import builtins
import errno
import html
import itertools
import json
import os
import sys

import pandas as pd
import plotly.io
import pytest
from browser import needs_chromium
from plotly.subplots import make_subplots

import mechmem as mm
from mechmem.core.export import needs
from mechmem.core.export_checks import SUFFIXES, check_export
from mechmem.errors import ConfigError, MissingNeedError, RunDirectoryError

STARTS = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF"}


@pytest.fixture(scope="module")
def rule():
    return mm.discover_rule(mm.planted_network(7, width=60).subject)


def test_table_figure_and_page(rule, tmp_path):
    for suffix in ("csv", "json", "HTML"):
        rule.export(tmp_path / f"rule.{suffix}")
    assert pd.read_csv(tmp_path / "rule.csv")["rule"].tolist() == rule.to_frame()["rule"].tolist()
    figure = plotly.io.from_json((tmp_path / "rule.json").read_text())
    assert figure.to_dict() == rule.plot().to_dict()
    page = (tmp_path / "rule.HTML").read_text()
    assert html.escape(rule.sentence) in page and "default-src 'none'" in page and page.count("<tr>") == 49


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("suffix", STARTS)
def test_pictures(rule, suffix, tmp_path):
    path = tmp_path / f"rule.{suffix}"
    rule.export(path, width=900)
    assert path.read_bytes().startswith(STARTS[suffix]) and list(tmp_path.iterdir()) == [path]
    if suffix == "png":
        assert int.from_bytes(path.read_bytes()[16:20], "big") == 2 * 900


@pytest.mark.parametrize("name", ["rule.gif", "rule", ".svg", "rule.svg.gz"])
def test_another_suffix_is_refused(rule, name, tmp_path):
    with pytest.raises(ConfigError, match="path must end in .svg"):
        rule.export(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_refused(rule, tmp_path):
    with pytest.raises(RunDirectoryError, match="is a directory"):
        rule.export(tmp_path)
    for size in ({"width": 0}, {"height": 10**6}, {"width": "wide"}):
        with pytest.raises(ConfigError, match="width|height"):
            rule.export(tmp_path / "rule.svg", **size)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["config.json", "finished.json", "saved.json", "mine.html"])
def test_what_was_not_exported_is_not_replaced(rule, name, tiny_run, tmp_path):
    place = tmp_path / name
    found = tiny_run.run.path / name
    place.write_bytes(found.read_bytes() if found.exists() else b"<html>mine</html>")
    if name == "saved.json":
        place.unlink()
        rule.save(place)
    before = place.read_bytes()
    for refused in (check_export, rule.export):
        with pytest.raises(RunDirectoryError, match="holds something else than a result"):
            refused(place)
    assert place.read_bytes() == before and list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mine.json", '{"data": ["my survey"]}'),
        ("mine.json", '{"data": [], "layout": "wide"}'),
        ("mine.json", '{"data": [], "layout": {}, "author": "me"}'),
        ("mine.json", '{"data": [1, 2'),
        ("mine.json", '{"data":' + "[" * 100_000),
        ("mine.html", "<title>mechmem: my notes</title> my notes"),
        ("mine.html", "<meta name=generator content=mechmem><title>mechmem: my notes</title>"),
    ],
)
def test_what_looks_like_an_export_at_its_beginning_is_not_replaced(name, content, rule, tmp_path):
    place = tmp_path / name
    place.write_text(content)
    with pytest.raises(RunDirectoryError, match="holds something else than a result"):
        rule.export(place)
    assert place.read_text() == content


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_pipe_is_not_replaced(suffix, rule, tmp_path):
    place = tmp_path / f"rule.{suffix}"
    os.mkfifo(place)
    with pytest.raises(RunDirectoryError, match="path must be the path of a file, but .* is a pipe or a device"):
        rule.export(place)
    assert place.is_fifo()


@pytest.mark.parametrize("suffix", ["html", "json", "csv", "parquet"])
@pytest.mark.parametrize("size", ["width", "height"])
def test_what_is_no_picture_has_no_size(size, suffix, rule, tmp_path):
    with pytest.raises(ConfigError, match=f"{size} is that of a picture: leave it out for .{suffix}"):
        rule.export(tmp_path / f"rule.{suffix}", **{size: 500})


@pytest.mark.parametrize("suffix", ["json", "html", "csv", "parquet"])
def test_what_was_exported_and_an_empty_file_are_replaced(rule, suffix, tmp_path):
    place = tmp_path / f"rule.{suffix}"
    place.touch()
    rule.export(place)
    first = place.read_bytes()
    rule.export(place)
    assert place.read_bytes() == first


@pytest.mark.parametrize("browser", ["/no/such/file", "/"])
@pytest.mark.parametrize("suffix", STARTS)
def test_a_picture_is_refused_before_it_is_drawn_where_no_browser_is(rule, browser, suffix, tmp_path, monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", browser)
    monkeypatch.setattr(type(rule), "plot", lambda self: pytest.fail("it was drawn"))
    for refused in (check_export, rule.export):
        with pytest.raises(MissingNeedError, match="BROWSER_PATH"):
            refused(tmp_path / f"rule.{suffix}")
    assert check_export(tmp_path / "rule.csv") == tmp_path / "rule.csv" and not list(tmp_path.iterdir())


def test_older_versions_of_kaleido_tell_when_they_draw(rule, tmp_path, monkeypatch):
    import kaleido.errors

    def none(*given, **named):
        raise kaleido.errors.ChromeNotFoundError

    monkeypatch.delattr("choreographer.browsers.chromium.Chromium.find_browser", raising=False)
    monkeypatch.setattr("kaleido.calc_fig_sync", none)
    assert check_export(tmp_path / "rule.svg") == tmp_path / "rule.svg"
    with pytest.raises(MissingNeedError, match="BROWSER_PATH"):
        rule.export(tmp_path / "rule.svg")


def test_what_is_missing_or_broken_is_said(rule, tmp_path, monkeypatch):
    import kaleido.errors

    monkeypatch.setenv("BROWSER_PATH", sys.executable)

    def broken(*given, **named):
        raise kaleido.errors.BrowserFailedError("closed at once")

    monkeypatch.setattr("kaleido.calc_fig_sync", broken)
    with pytest.raises(MissingNeedError, match="closed at once"):
        rule.export(tmp_path / "rule.pdf")
    import_ = builtins.__import__

    def without(name, *given, **named):
        if name == "kaleido":
            raise ImportError(name)
        return import_(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingNeedError, match=r"mechmem\[pictures\]"):
        rule.export(tmp_path / "rule.png")
    assert not list(tmp_path.iterdir())


def test_a_notebook_gets_figure_table_and_text(rule):
    bundle = rule._repr_mimebundle_()
    assert bundle["text/plain"] == repr(rule) and "<table" in bundle["text/html"]
    figure = bundle["application/vnd.plotly.v1+json"]
    assert json.loads(json.dumps(figure)) == figure and len(figure["data"]) == 3
    assert set(SUFFIXES) == {*STARTS, "html", "json", "csv", "parquet"}


def test_a_full_disk_is_one_typed_error(rule, tmp_path, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    entry = (subject := mm.planted_network(5, width=40).subject), mm.audit(subject, ["raw"])
    monkeypatch.setattr("mechmem.core.files.os.fsync", full)
    for write in (rule.save, rule.export, lambda path: mm.write_report([entry], path)):
        with pytest.raises(RunDirectoryError, match=r"cannot write to .*rule.html: No space left"):
            write(tmp_path / "rule.html")
    assert not list(tmp_path.iterdir())


def test_only_a_result_is_saved_over(rule, tmp_path):
    path = tmp_path / "rule.safetensors"
    rule.save(path)
    rule.save(path)
    for content in (b"thesis", b""):
        path.write_bytes(content)
        with pytest.raises(RunDirectoryError, match="something else than a result of mechmem"):
            rule.save(path)
        assert path.read_bytes() == content


@pytest.mark.parametrize(("rows", "columns", "least"), [(1, 1, 460), (4, 1, 460), (1, 3, 840), (2, 3, 840)])
def test_only_panels_side_by_side_need_width(rows, columns, least):
    figure = make_subplots(rows, columns)
    for row, column in itertools.product(range(1, rows + 1), range(1, columns + 1)):
        figure.add_scatter(y=[1, 2], row=row, col=column)
    assert needs(figure) == (450, least)
