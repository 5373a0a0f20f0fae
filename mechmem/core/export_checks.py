"""Where results may be exported to, and whether pictures can be drawn: checked before the work that they come from."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from mechmem.core.files import parse_json, read_bytes
from mechmem.core.paths import check_place
from mechmem.errors import ConfigError, MissingNeedError, RunDirectoryError

PICTURES = ("svg", "png", "pdf")
TABLES = ("csv", "parquet")
SUFFIXES = (*PICTURES, "html", "json", *TABLES)
"""What a result can be exported as."""
PAGES = (".html", ".htm")
"""Suffixes of a page."""
PARTS_OF_FIGURE = {"data", "layout", "frames"}
_HEAD = re.compile(
    """<meta http-equiv="Content-Security-Policy" content="default-src 'none';[^>]*>\\s*<title>mechmem: """
)

NO_BROWSER = (
    "pictures need Chromium or Chrome, and none was found; install it (apt install chromium), name it in BROWSER_PATH, "
    "or export .html"
)
"""Why no picture can be drawn, and what to do."""


def check_export(path: str | Path, name: str = "path") -> Path:
    """Return where a result can be exported to.

    Raises:
        ConfigError: the suffix is none of `SUFFIXES`.
        RunDirectoryError: it is a directory, cannot be written, or is a page or JSON that `export` did not write, such
            as the config of a run.
        MissingNeedError: it is a picture, and kaleido or Chromium is missing.
    """
    place = check_place(path, name, file=True)
    suffix = place.suffix[1:].lower()
    if suffix not in SUFFIXES:
        allowed = ", ".join(f".{suffix}" for suffix in SUFFIXES)
        raise ConfigError(f"{name} must end in {allowed}, got {place.name!r}")
    if suffix in WRITTEN_BY:
        _check_ours(place, path, name, "a result of mechmem", WRITTEN_BY[suffix])
    if suffix in PICTURES:
        check_drawing()
    return place


def check_page(path: str | Path, name: str, kind: str) -> Path:
    """Return where a page of HTML can be written.

    Args:
        path: the place of the page.
        name: the argument, for errors.
        kind: what may be there already, e.g. "a report of mechmem".

    Raises:
        ConfigError: the suffix is none of `PAGES`.
        RunDirectoryError: it is a directory, cannot be written, or holds something that mechmem did not write.
    """
    place = check_place(path, name, file=True)
    if place.suffix.lower() not in PAGES:
        raise ConfigError(f"{name} must end in {' or '.join(PAGES)}, got {place.name!r}")
    _check_ours(place, path, name, kind, is_page)
    return place


def _check_ours(place: Path, path: str | Path, name: str, kind: str, is_ours: Callable[[Path], bool]) -> None:
    # An empty file, such as a temporary one, holds nothing that could be lost.
    if place.is_file() and place.stat().st_size and not is_ours(place):
        raise RunDirectoryError(f"{name}: {path} holds something else than {kind}; choose another name")


def is_page(path: Path) -> bool:
    """Return whether mechmem wrote a page of HTML: its policy stands right before its title, which nobody types."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return _HEAD.search(file.read(2000)) is not None


def is_figure(path: Path) -> bool:
    """Return whether a file holds a figure of plotly as JSON, unlike that of a run, a scorecard or another program."""
    with path.open("rb") as file:
        if re.match(rb'\s*{\s*"data"\s*:\s*\[', file.read(100)) is None:
            return False
    try:
        figure = parse_json(read_bytes(path, path.stat().st_size))
    except ValueError:
        return False
    return isinstance(figure, dict) and isinstance(figure.get("layout"), dict) and not figure.keys() - PARTS_OF_FIGURE


WRITTEN_BY = {"html": is_page, "json": is_figure}
"""Whether `export` wrote a file, by its suffix, where its content tells."""


def check_drawing() -> None:
    """Refuse to draw pictures where something for it is missing.

    Raises:
        MissingNeedError: kaleido or Chromium is missing.
    """
    try:
        import kaleido  # noqa: F401
        from choreographer.browsers.chromium import Chromium  # by which kaleido draws
    except ImportError as error:
        raise MissingNeedError("pictures need kaleido: pip install 'mechmem[pictures]' (or export .html)") from error
    # Older versions of kaleido find a browser only when they draw.
    find = getattr(Chromium, "find_browser", None)
    if find is not None and not Path(find(skip_local=False) or "").is_file():
        raise MissingNeedError(NO_BROWSER)
