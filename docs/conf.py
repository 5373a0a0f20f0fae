"""Settings of the documentation, and the data that its pages take from the package itself."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import jinja2

from mechmem.core.export_checks import check_drawing
from mechmem.core.needs import KNOWLEDGE
from mechmem.errors import MissingNeedError
from mechmem.recipes.ledger import ours
from mechmem.recipes.trials import recipes
from mechmem.scorecard import glossary

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import inventory  # noqa: E402
import ledgers  # noqa: E402
from frontier import frontier_table  # noqa: E402
from label_errors import attributions_table, fitted_table, label_errors_table  # noqa: E402
from rates import rates_table  # noqa: E402
from rooms import rooms_svg  # noqa: E402
from scaling import beyond_table, growth_table  # noqa: E402

project = "mechmem"
author = "The mechmem developers"
copyright = "2026, The mechmem developers"
release = version = importlib.metadata.version("mechmem")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "mechmem.sphinxext",
]
html_theme = "furo"
html_title = f"mechmem {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
exclude_patterns = ["_build", "reference/macros.md", "gallery/**.ipynb", "gallery/**.py"]

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "",
    "within_subsection_order": "order.place",
    "image_scrapers": ("mechmem.sphinxext.gallery",),
    "capture_repr": ("_repr_html_",),
    # Their figures, tables and pictures are the scraper's.
    "ignore_repr_types": r"mechmem\.(?!recipes)|plotly",
    "reset_modules": (),
    "abort_on_example_error": True,
    "run_stale_examples": True,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 10**6,
    "download_all_examples": False,
}
# Where there is no Chromium, figures are drawn in the reader's browser only.
try:
    check_drawing()
except MissingNeedError:
    suppress_warnings = ["mechmem.picture"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Single backticks in docstrings are code.
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"

nitpicky = True
# Names of other packages are shown, not linked: the build needs no network.
nitpick_ignore_regex = [
    (r"py:.*", r"(torch|nn|pd|pandas|go|plotly|np|numpy|jaxtyping|pathlib|collections|typing)\..*"),
    (r"py:class", r"Tensor|ndarray|Float|Int|Bool|Shaped|Path|'[\w* ]*'|mechmem\.[\w.]+\.T"),
    # Aliases of literals, and a class that users do not construct: shown by name, and explained in the text.
    (
        r"py:class",
        r"Choice|Distance|Each|Ids|Indices|Inputs|Labels|Metric|Pool|Value|BaseEstimator|mechmem\.models\.hooks\.places\.Attachment",
    ),
]


def command_help(*arguments: str) -> str:
    """Return the command line's output for `--help`."""
    command = [str(Path(sys.executable).with_name("mechmem")), *arguments, "--help"]
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "PYTHONIOENCODING": "utf-8"}
    shown = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True, env=environment)
    return "\n".join(line.rstrip() for line in shown.stdout.strip().splitlines())


def render(app: object, docname: str, source: list[str]) -> None:
    """Fill a page's placeholders before it is parsed."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["ours"] = ours
    source[0] = environment.from_string(source[0]).render(
        knowledge=KNOWLEDGE,
        rooms=inventory.rooms,
        kinds=inventory.kinds,
        knowledge_in_rows=glossary.KNOWLEDGE_IN_ROWS,
        told=glossary.TOLD,
        splits=glossary.SPLITS,
        controls=glossary.CONTROLS,
        random_choices=glossary.RANDOM_CHOICES,
        held_out=glossary.HELD_OUT,
        statistics=glossary.STATISTICS,
        verdicts=glossary.VERDICTS,
        command_help=command_help,
        recipes=recipes,
        ledgers=ledgers.ledgers,
        ledger_summary=ledgers.summary,
        rooms_svg=rooms_svg,
        rates_table=rates_table,
        attributions_table=attributions_table,
        fitted_table=fitted_table,
        frontier_table=frontier_table,
        growth_table=growth_table,
        beyond_table=beyond_table,
        label_errors_table=label_errors_table,
    )


def prepare_docstring(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Add the markup that plain docstrings leave out; runs before napoleon."""
    if what == "property" and lines:
        # Napoleon takes the text before a colon in a property's first line for its type.
        lines[0] = f": {lines[0]}"
    # A bar is an absolute value there, and a substitution here; between backticks it is itself.
    lines[:] = ["`".join(p if odd % 2 else p.replace("|", r"\|") for odd, p in enumerate(x.split("`"))) for x in lines]
    for i in range(len(lines) - 1, 1, -1):
        before = next((line for line in reversed(lines[: i - 1]) if line.strip()), "")
        if lines[i].startswith("    ") and not lines[i - 1].strip() and not before.startswith(" "):
            lines[i:i] = [".. code-block:: python", ""]


def prepare_signature(
    app: object, what: str, name: str, obj: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Write a default made by a factory so that it parses."""
    return (signature and signature.replace("<factory>", "...")), returns


def write_ledgers(app: object, exception: Exception | None) -> None:
    """Write the pages of the ledgers beside the others."""
    if exception is None:
        ledgers.pages(Path(app.outdir) / "ledgers")


def setup(app: object) -> None:
    """Register with Sphinx."""
    app.connect("build-finished", write_ledgers)
    app.connect("source-read", render)
    app.connect("autodoc-process-docstring", prepare_docstring, priority=400)
    app.connect("autodoc-process-signature", prepare_signature)
