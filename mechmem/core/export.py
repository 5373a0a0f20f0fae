"""Files for other programs and readers: figures as pictures or pages, tables as CSV, and pages in general."""

from __future__ import annotations

import contextlib
import html
import importlib.metadata
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechmem.core.config import check_whole
from mechmem.core.export_checks import NO_BROWSER, PICTURES, TABLES, check_drawing, check_export
from mechmem.core.files import whole_file, write_text
from mechmem.errors import ConfigError, MissingNeedError

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from mechmem.core.results import Result

WIDTH = 700
"""Pixels: the width of a column of text in most documentation."""
SIZES = 100, 10_000
"""Least and greatest width and height of a picture."""
SHARPNESS = 2
"""Dots of a PNG per pixel of the figure."""
MOST_ROWS = 1000
"""Rows of the table on a page; a CSV file has all."""


ESCAPED = str.maketrans({sign: rf"\{sign}" for sign in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\^{}"})
"""Signs that LaTeX reads as commands; pandas escapes cells, and not captions."""


def export(
    result: Result,
    path: str | Path,
    width: int | None = None,
    height: int | None = None,
    figure: go.Figure | None = None,
) -> None:
    """Write a result's figure or table to a file, whole or not at all (see `Result.export`).

    Args:
        result: the result.
        path: the file.
        width: of a picture, in pixels.
        height: of a picture, in pixels.
        figure: the figure, if it is not the result's `plot()`.
    """
    place = check_export(path)
    suffix = place.suffix[1:].lower()
    for name, size in (("width", width), ("height", height)):
        if size is not None:
            check_whole(name, size, *SIZES)
            if suffix not in PICTURES:
                raise ConfigError(f"{name} is that of a picture: leave it out for .{suffix}")
    if suffix in TABLES:
        frame = result.to_frame()
        with whole_file(place) as temporary:
            frame.to_csv(temporary, index=False) if suffix == "csv" else frame.to_parquet(temporary, index=False)
        return
    figure = result.plot() if figure is None else figure
    if suffix in PICTURES:
        drawn = picture(figure, suffix, width, height)
        with whole_file(place) as temporary:
            temporary.write_bytes(drawn)
    elif suffix == "json":
        write_text(place, f"{figure.to_json()}\n")
    else:
        sentence = getattr(result, "sentence", "")
        shared = {"title": title(result), "sentence": sentence, "table": table(result.to_frame(), title(result))}
        write_html("result.html", place, figure=embedded(figure, shared["title"]), **shared)


def title(result: Result) -> str:
    """Return what a result is in words: "Logit spectrum" for a `LogitSpectrumResult`."""
    name = type(result).__name__.removesuffix("Result")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


def table(frame: pd.DataFrame, caption: str, most: int = MOST_ROWS, digits: int | None = None) -> str:
    """Return a table as HTML: columns and rows with headers, and a caption.

    Args:
        frame: the table; its first column names the rows.
        caption: its caption; the number of rows is added where not all are shown.
        most: most rows; of more, the first and the last are shown.
        digits: significant digits of numbers; by default six decimals.
    """
    rounded = None if digits is None else lambda value: f"{value:.{digits}g}"
    # pandas writes a missing value of its own types as <NA>, whatever `na_rep` says.
    nullable = [name for name, kind in frame.dtypes.items() if hasattr(kind, "na_value")]
    frame = frame.astype(dict.fromkeys(nullable, object)).fillna(dict.fromkeys(nullable, ""))
    text = frame.to_html(index=False, max_rows=most, na_rep="", border=0, float_format=rounded)
    if len(frame) > most:
        caption += f" ({len(frame):,} rows, of which the first and the last {most // 2:,} are shown)"
    text = re.sub(r">\s+<", "><", text).replace("<th>", '<th scope="col">')
    text = re.sub(r"<tr><td>(.*?)</td>", r'<tr><th scope="row">\1</th>', text)
    return text.replace("<thead>", f"<caption>{html.escape(caption)}</caption><thead>", 1)


def latex(frame: pd.DataFrame, caption: str, label: str) -> str:
    """Return a table for LaTeX, with the rules of the package booktabs; text is escaped.

    Greek letters and signs such as ≥ are written as they are, which LuaLaTeX and XeLaTeX read.

    Args:
        frame: the table.
        caption: its caption, "" for none.
        label: its label, "" for none.
    """
    columns = "l" + "r" * (len(frame.columns) - 1)
    escaped = caption.translate(ESCAPED) or None
    return frame.to_latex(
        index=False, escape=True, na_rep="–", column_format=columns, caption=escaped, label=label or None
    )


def picture(figure: go.Figure, suffix: str, width: int | None = None, height: int | None = None) -> bytes:
    """Draw a figure with the Chromium of this machine. Nothing is loaded from elsewhere.

    Args:
        figure: the figure.
        suffix: "svg", "png" or "pdf".
        width: in pixels; by default the figure's own, or what is readable.
        height: in pixels; by default the figure's own.

    Raises:
        MissingNeedError: kaleido or Chromium is missing, or does not run.
    """
    if not _browser["open"]:
        check_drawing()
    import kaleido
    from kaleido.errors import ChromeNotFoundError

    usual, least = needs(figure)
    layout: Any = figure.layout
    size = {
        "width": width or layout.width or max(WIDTH, least),
        "height": height or usual,
        "scale": SHARPNESS if suffix == "png" else 1,
    }
    for chatty in ("kaleido", "choreographer"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        # A browser that is kept has its options. Without Chromium it would be waited for forever: so the first picture
        # of many is drawn by one of its own.
        options = {} if _browser["open"] else {"kopts": {"mathjax": False}}
        drawn = kaleido.calc_fig_sync(figure.to_dict(), opts={"format": suffix, **size}, **options)
        if _browser["kept"] and not _browser["open"]:
            kaleido.start_sync_server(mathjax=False, silence_warnings=True)
            _browser["open"] = True
    except ChromeNotFoundError as error:
        raise MissingNeedError(NO_BROWSER) from error
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MissingNeedError(f"Chromium could not draw the picture ({reason[:200]}); export .html instead") from error
    assert isinstance(drawn, bytes)
    return drawn


_browser = {"kept": False, "open": False}


@contextlib.contextmanager
def one_browser() -> Iterator[None]:
    """Keep Chromium open between pictures: each after the first takes a fraction of a second instead of seconds."""
    _browser["kept"] = True
    try:
        yield
    finally:
        if _browser["open"]:
            import kaleido

            kaleido.stop_sync_server(silence_warnings=True)
        _browser.update(kept=False, open=False)


def write_html(template: str, path: Path, **context: Any) -> None:
    """Render a template of `mechmem/templates/` into one file.

    Args:
        template: its file name.
        path: where to write.
        context: what the template shows.
    """
    import jinja2
    from plotly.offline import get_plotlyjs

    loader = jinja2.PackageLoader("mechmem")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    shared = {"plotly": get_plotlyjs(), "version": importlib.metadata.version("mechmem")}
    write_text(path, environment.get_template(template).render(**shared, **context))


def needs(figure: go.Figure) -> tuple[int, int]:
    """Return a figure's height, and the least width at which it is readable, in pixels."""
    beside = {tuple(axis.domain or (0, 1))[0] for axis in figure.select_xaxes()}
    layout: Any = figure.layout
    return int(layout.height or 450), max(460, 280 * len(beside))


def embedded(figure: go.Figure, label: str, narrowest: int | None = None) -> str:
    """Return the HTML of a figure's place on a page with `draw.js` and `draw.css`.

    Args:
        figure: the figure.
        label: what it shows, for who cannot see it; the name of the file that it is saved as comes from it.
        narrowest: the least width in pixels; what is narrower is scrolled in.
    """
    height, least = needs(figure)
    name = re.sub(r"\W+", "-", label.lower()).strip("-")[:60].rstrip("-") or "figure"
    # Plotly writes "<" as an escape, so no text of a figure can end the script element that holds it.
    return (
        f'<div class="mechmem-scroll" tabindex="0"><div class="mechmem-plot" role="img" '
        f'aria-label="{html.escape(label)}" data-name="{name}" '
        f'data-height="{height}" data-narrowest="{narrowest or least}">'
        f'<script type="application/json">{figure.to_json()}</script></div></div>'
    )
