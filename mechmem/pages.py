"""Self-contained HTML pages: one file that loads nothing, whole or not at all."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from mechmem.storage import write_text


def write_html(template: str, path: Path, **context: Any) -> None:
    """Render a template of `mechmem/templates/` into one file.

    Args:
        template: its file name.
        path: where to write.
        context: what the template shows.
    """
    loader = jinja2.PackageLoader("mechmem")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    shared = {"plotly": get_plotlyjs(), "version": importlib.metadata.version("mechmem")}
    write_text(path, environment.get_template(template).render(**shared, **context))


def embedded(figure: go.Figure) -> dict[str, Any]:
    """Return a figure as a page embeds it: JSON, height, and the least width that is readable."""
    # Plotly writes "<" as an escape, so no text of a figure can end the script element that holds it.
    json = figure.to_json()
    panels = len(list(figure.select_xaxes()))
    return {"json": json, "height": int(figure.layout.height or 450), "narrowest": max(460, 280 * panels)}
