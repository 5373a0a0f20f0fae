"""Rows of small pictures with captions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from mechmem.plotting.style import FAINT, INK, SPLIT_STYLES, styled

GAP = 0.12
"""Space between two pictures, as a fraction of a picture's side."""

_WIDTH, _TITLE, _LINE = 700, 26, 15
"""Pixels of the assumed width, of a row's title, and of a caption line."""


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """One picture of a gallery.

    Attributes:
        pixels: grey or red, green and blue values on any common scale. Shape (channel, row, column).
        caption: caption of one or two lines.
        marked: whether the caption has the colour of wrong labels.
    """

    pixels: Float[np.ndarray, "channel row column"]
    caption: str
    marked: bool = False


def training_picture(pixels: Float[np.ndarray, "channel row column"], given: int, true: int, value: str) -> Picture:
    """Return the picture of a training example, with its labels and a value as the caption.

    Args:
        pixels: the image.
        given: its given label.
        true: its true label, or −1 if unknown; the example is marked if it differs from the given label.
        value: last line of the caption.
    """
    wrong = true not in (-1, given)
    return Picture(pixels, f"given {given}" + (f",<br>is {true}" if wrong else "") + f"<br>{value}", wrong)


def gallery(rows: Mapping[str, Sequence[Picture]]) -> go.Figure:
    """Draw rows of pictures, each row under its title; all pictures share one size and one scale of brightness.

    Args:
        rows: the pictures by title, from the top.
    """
    every = [picture.pixels for pictures in rows.values() for picture in pictures]
    low, high = min(float(each.min()) for each in every), max(float(each.max()) for each in every)
    across = max(len(pictures) for pictures in rows.values())
    pixel = across * (1 + GAP) / _WIDTH
    under = max(picture.caption.count("<br>") + 1 for pictures in rows.values() for picture in pictures)
    # Titles and captions have a fixed size, independent of that of the pictures.
    head, foot = _TITLE * pixel, (_LINE * under + 14) * pixel
    tall = head + 1 + foot
    figure = styled(go.Figure(), round(len(rows) * tall / pixel) + 40)
    for number, (title, pictures) in enumerate(rows.items()):
        top = number * tall + head
        heading = {"showarrow": False, "xanchor": "left", "yanchor": "bottom", "font": {"size": 13, "color": INK}}
        figure.add_annotation(x=0, y=top, text=f"<b>{title}</b>", **heading)
        for place, picture in enumerate(pictures):
            _draw(figure, picture, place * (1 + GAP), top, low, high)
    figure.update_layout(margin={"l": 16, "r": 16, "t": 24, "b": 16})
    hidden = {"visible": False, "constrain": "domain"}
    figure.update_xaxes(range=[0, across * (1 + GAP)], **hidden)
    return figure.update_yaxes(range=[len(rows) * tall, 0], scaleanchor="x", **hidden)


def _draw(figure: go.Figure, picture: Picture, left: float, top: float, low: float, high: float) -> None:
    pixels = 255 * (picture.pixels - low) / max(high - low, 1e-12)
    channels, height, width = pixels.shape
    shown = np.moveaxis(pixels if channels == 3 else np.repeat(pixels[:1], 3, 0), 0, -1)
    grid = {"x0": left + 0.5 / width, "dx": 1 / width, "y0": top + 0.5 / height, "dy": 1 / height}
    figure.add_image(z=shown.round().astype(np.uint8), hoverinfo="skip", **grid)
    color = SPLIT_STYLES["train_noisy"].color if picture.marked else FAINT
    under = {"showarrow": False, "yanchor": "top", "font": {"size": 12, "color": color}}
    figure.add_annotation(x=left + 0.5, y=top + 1, text=picture.caption, **under)
