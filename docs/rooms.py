"""The picture of the rooms: an SVG of the import layers in pyproject.toml and the first line of each room.

python docs/rooms.py > rooms.svg
"""

from __future__ import annotations

import ast
import html
import sys
import textwrap
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDTH, LEFT, GAP, LINE, LETTER = 700, 34, 7, 14, 6.4
"""Pixels; LETTER is the average width of a letter of the small text."""


def layers() -> list[list[str]]:
    """Return the rooms of each import layer, top first, from the linter's config."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = [each for each in settings["tool"]["importlinter"]["contracts"] if each["containers"] == ["mechmem"]]
    return [[room.strip() for room in layer.split("|")] for layer in contract["layers"]]


def question(room: str) -> str:
    """Return the first line of a room's (or a module's) docstring, without the full stop."""
    package = ROOT / "mechmem" / room / "__init__.py"
    path = package if package.exists() else ROOT / "mechmem" / f"{room}.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.splitlines()[0].rstrip(".")


def rooms_svg() -> str:
    """Draw one row of boxes per layer; a box is a room with its name and purpose."""
    title = "The rooms of mechmem in their import layers, from the command line at the top to errors at the bottom"
    boxes, top = [], GAP
    for rooms in layers():
        width = (WIDTH - LEFT - GAP * (len(rooms) - 1) - 1) / len(rooms)
        texts = [textwrap.wrap(question(room), int((width - 20) / LETTER)) for room in rooms]
        height = 30 + LINE * max(len(lines) for lines in texts)
        for column, (room, lines) in enumerate(zip(rooms, texts, strict=True)):
            boxes += _box(room, lines, LEFT + column * (width + GAP), top, width, height)
        top += height + GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="100%" role="img" '
            f'aria-label="{title}" font-family="system-ui, sans-serif" fill="currentColor" '
            f'style="max-width: {WIDTH}px">',
            f'<path d="M18 {GAP + 6} V{top - GAP - 6} m-6 -9 l6 9 l6 -9" fill="none" stroke="currentColor"/>',
            f'<text transform="translate(12 {top / 2:.0f}) rotate(-90)" font-size="12" text-anchor="middle">'
            "imports only downwards</text>",
            *boxes,
            "</svg>",
        ]
    )


def _box(room: str, lines: list[str], left: float, top: float, width: float, height: float) -> list[str]:
    x, frame = f"{left + 10:.0f}", f'x="{left:.1f}" y="{top}" width="{width:.1f}" height="{height}"'
    return [
        f'<rect {frame} rx="6" fill="none" stroke="currentColor"/>',
        f'<text x="{x}" y="{top + 18}" font-size="13" font-weight="bold">{html.escape(room)}</text>',
        *(
            f'<text x="{x}" y="{top + 34 + LINE * row}" font-size="12" opacity="0.85">{html.escape(line)}</text>'
            for row, line in enumerate(lines)
        ),
    ]


if __name__ == "__main__":
    sys.stdout.write(rooms_svg() + "\n")
