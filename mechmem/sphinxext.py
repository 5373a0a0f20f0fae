"""Sphinx extension: a directive that puts the figure of a saved result into a page, and figures in sphinx-gallery.

    extensions = ["mechmem.sphinxext"]
    sphinx_gallery_conf = {"image_scrapers": ("mechmem.sphinxext.gallery",), "ignore_repr_types": "mechmem|plotly"}

Nothing is trained, and nothing is loaded from elsewhere: the site gets one copy of plotly.js.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import importlib.resources
import inspect
import os
import shutil
from pathlib import Path
from typing import Any, ClassVar

import plotly.graph_objects as go
import plotly.io
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from mechmem.analyses.analyse import analyse
from mechmem.core.export import embedded, needs, one_browser, picture, table, title
from mechmem.core.files import hash_of
from mechmem.core.results import Result, load_result
from mechmem.errors import ConfigError, MechmemError, MissingNeedError, unknown_name
from mechmem.plotting.style import layout_of
from mechmem.sweeps.table import load_sweep
from mechmem.training.load import load

STYLE = """\
figure.mechmem-figure { margin: 1.5rem 0; }
.mechmem-figure .mechmem-scroll { background: #fff; }
.mechmem-figure details { font-size: .85em; }
.mechmem-figure details > div { overflow-x: auto; }
"""
SUFFIXES = {"html": "svg", "latex": "pdf"}
"""Format of the static picture by the builder's format; png for any other."""

COLUMN, THREE_PANELS = 690, 840
"""Pixels: width of a column of text, and what three panels would like to have."""

logger = logging.getLogger(__name__)


class Plot(nodes.General, nodes.Element):
    """An interactive figure; its child is the picture for readers without JavaScript, if there is one."""


class MechmemFigure(SphinxDirective):
    """The figure of a saved result, with its table folded under it.

        ```{mechmem-figure} results/spectrum.safetensors
        :alt: Energy of the logits' modes: one bright diagonal

        The rule lies on one diagonal.
        ```

    The argument is a file that a result's `save` wrote, relative to the page; or a run directory, with `analysis` for
    what is measured of it; or the directory of a sweep; or a plotly figure as JSON, which has no table. The content is
    the caption. A picture of the same name beside the file (`spectrum.svg`, and `spectrum.pdf` for LaTeX) is what
    readers without JavaScript see; where there is none, Chromium draws one.

    Options: `alt`, text in place of the figure; `name`, for references; `analysis`, with a run directory; `plot`, the
    arguments of the result's method `plot`, e.g. `x=label_noise color=structure:verdict` of a sweep; `no-table`.
    """

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {  # pyright: ignore[reportIncompatibleVariableOverride]
        "alt": directives.unchanged,
        "name": directives.unchanged,
        "analysis": directives.unchanged,
        "plot": directives.unchanged,
        "no-table": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        """Return the figure."""
        relative, absolute = self.env.relfn2path(self.arguments[0])
        path = Path(absolute)
        if not path.exists():
            raise self.error(f"mechmem-figure: there is no {relative}")
        try:
            result = None if path.suffix == ".json" else self._result(path)
            drawn = read_figure(path) if result is None else self._plot(result)
        except MechmemError as error:
            raise self.error(f"mechmem-figure: {error}") from error
        for each in [path] if path.is_file() else sorted(path.glob("*.json*")):
            self.env.note_dependency(str(each))
        alt = self.options.get("alt") or (named(result) if result else path.stem.replace("_", " "))
        figure = nodes.figure(classes=["mechmem-figure"])
        # Up to three panels fit into a column; more of them are scrolled to.
        least = needs(drawn)[1]
        plot = Plot(place=embedded(drawn, alt, COLUMN if least <= THREE_PANELS else least))
        static = self._picture(path, drawn)
        if static is not None:
            plot += nodes.image(uri=os.path.relpath(static, Path(self.env.doc2path(self.env.docname)).parent), alt=alt)
        figure += plot
        if self.content:
            caption = nodes.caption(self.block_text, "")
            parsed = self.parse_content_to_nodes()
            for node in parsed:
                caption += node.children if isinstance(node, nodes.paragraph) else [node]
            figure += caption
        if result is not None and "no-table" not in self.options:
            folded = f"<details><summary>Table</summary><div>{table(result.to_frame(), title(result))}</div></details>"
            figure += nodes.raw("", folded, format="html")
        self.set_source_info(figure)
        self.add_name(figure)
        return [figure]

    def _result(self, path: Path) -> Result:
        analysis = self.options.get("analysis")
        if (path / "sweep.json").exists():
            return load_sweep(path)
        if path.is_dir() and not analysis:
            raise self.error(f"mechmem-figure: {path.name} is a directory; name an :analysis: of the run in it")
        return analyse(load(path), analysis) if path.is_dir() and analysis else load_result(path)

    def _plot(self, result: Result) -> Any:
        words = self.options.get("plot", "").split()
        if wrong := [word for word in words if "=" not in word]:
            raise self.error(f"mechmem-figure: plot takes name=value, e.g. color=structure:verdict, got {wrong[0]!r}")
        arguments = dict(word.split("=", 1) for word in words)
        known = inspect.signature(result.plot).parameters
        if other := next((name for name in arguments if name not in known), None):
            raise unknown_name("argument of plot", other, known)
        return result.plot(**arguments)

    def _picture(self, path: Path, drawn: Any) -> Path | None:
        """Return the static picture: the one beside the file, or one that is drawn now and kept with the doctrees."""
        suffix = SUFFIXES.get(self.env.app.builder.format, "png")
        beside = path.with_suffix(f".{suffix}")
        if beside.is_file() and "plot" not in self.options:  # it may be drawn in several ways
            self.env.note_dependency(str(beside))
            return beside
        kept = Path(self.env.app.doctreedir) / "mechmem" / f"{hash_of(drawn.to_json())}.{suffix}"
        if not kept.exists():
            try:
                content = picture(drawn, suffix)
            except MissingNeedError as error:
                where = (self.env.docname, self.lineno)
                logger.warning("no picture: %s", error, location=where, type="mechmem", subtype="picture")
                return None
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(content)
        return kept


def named(result: Result) -> str:
    """Return what stands for a figure where it cannot be seen: the result's sentence, or what it is."""
    return getattr(result, "sentence", "") or title(result)


def read_figure(path: Path) -> Any:
    """Read a plotly figure.

    Raises:
        ConfigError: the file holds none.
    """
    try:
        return plotly.io.from_json(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path.name} holds no plotly figure: {error}") from error


def gallery(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Put what a block of an example ends with on its page, as the directive does: sphinx-gallery's image scraper.

    The block's last line is an expression, whose value is a result or a plotly figure; the picture is the thumbnail's.

    Args:
        block: sphinx-gallery's (type, source, line).
        block_vars: variables of the example after the block, and where its pictures go.
        gallery_conf: sphinx-gallery's settings.
    """
    ending = ast.parse(block[1]).body[-1:]
    shown = block_vars["example_globals"].get("___") if ending and isinstance(ending[0], ast.Expr) else None
    if not isinstance(shown, Result | go.Figure):
        return ""
    figure = shown if isinstance(shown, go.Figure) else shown.plot()
    paths = block_vars["image_path_iterator"]
    try:
        drawn = picture(figure, "svg")
    except MissingNeedError:
        drawn = None  # the directive says why
    # The next place is taken only for a picture that is there: sphinx-gallery asks for the file of each.
    place = Path(paths.next() if drawn else paths.image_path.format(block[2])).with_suffix("")
    place.parent.mkdir(parents=True, exist_ok=True)
    if drawn:
        place.with_suffix(".svg").write_bytes(drawn)
    if isinstance(shown, Result):
        data, alt = place.with_suffix(".safetensors"), named(shown)
        shown.save(data)
    else:
        data, alt = place.with_suffix(".json"), layout_of(figure).title.text or "Figure"
        data.write_text(str(figure.to_json()), encoding="utf-8")
    page = Path(block_vars["target_file"]).parent
    return f"\n.. mechmem-figure:: {os.path.relpath(data, page)}\n   :alt: {' '.join(alt.split())}\n\n"


def visit_plot(self: Any, node: Plot) -> None:
    """Write the interactive figure, and begin what is shown without JavaScript."""
    self.body.append(f"{node['place']}<noscript>")


def depart_plot(self: Any, node: Plot) -> None:
    """End it."""
    self.body.append("</noscript>")


def pass_plot(self: Any, node: Plot) -> None:
    """Leave the figure to its picture."""


def add_scripts(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Load plotly.js on the pages with a figure, and on no other."""
    if doctree is not None and doctree.next_node(Plot) is not None:
        for name in ("plotly.min.js", "mechmem.js"):
            app.add_js_file(name)
        app.add_css_file("mechmem.css")


def copy_scripts(app: Sphinx) -> None:
    """Put one copy of what the figures need into the site."""
    if app.builder.format == "html":
        static = Path(app.outdir) / "_static"
        static.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", static)
        ours = importlib.resources.files("mechmem") / "templates"
        (static / "mechmem.js").write_text((ours / "draw.js").read_text(encoding="utf-8"), encoding="utf-8")
        style = (ours / "draw.css").read_text(encoding="utf-8") + STYLE
        (static / "mechmem.css").write_text(style, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    passed = (pass_plot, pass_plot)
    app.add_node(Plot, html=(visit_plot, depart_plot), latex=passed, text=passed, man=passed, texinfo=passed)
    app.add_directive("mechmem-figure", MechmemFigure)
    app.connect("html-page-context", add_scripts)
    app.connect("builder-inited", copy_scripts)
    # Before sphinx-gallery, whose examples are run when the builder is ready.
    browser = contextlib.ExitStack()
    app.connect("builder-inited", lambda app: browser.enter_context(one_browser()), priority=100)
    app.connect("build-finished", lambda app, error: browser.close())
    return {"version": importlib.metadata.version("mechmem"), "parallel_read_safe": True, "parallel_write_safe": True}
