"""Settings of the documentation, and the data that its pages take from the package itself."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jinja2

import mechmem
from mechmem.core.group import Group
from mechmem.core.needs import KNOWLEDGE
from mechmem.core.plugins import KINDS, plugins
from mechmem.core.task import Task
from mechmem.recipes.trials import recipes

sys.path.insert(0, str(Path(__file__).parent))
from frontier import frontier_table  # noqa: E402
from rates import rates_table  # noqa: E402
from rooms import rooms_svg  # noqa: E402

project = "mechmem"
author = "The mechmem developers"
copyright = "2026, The mechmem developers"
release = version = importlib.metadata.version("mechmem")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "mechmem.sphinxext"]
html_theme = "furo"
html_title = f"mechmem {version}"
exclude_patterns = ["_build"]

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
        r"Choice|Distance|Each|Indices|Labels|Metric|Pool|Value|BaseEstimator|mechmem\.models\.hooks\.places\.Attachment",
    ),
]


def public_names() -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return, for every part of the package with names in `mm`: the part, its first line, its names with kinds."""
    stub = ast.parse(Path(mechmem.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    parts: dict[str, list[str]] = {}
    for node in stub.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            parts.setdefault(node.module.split(".")[0], []).extend(alias.name for alias in node.names)
    return [(part, _headline(part), [(name, _directive(name)) for name in names]) for part, names in parts.items()]


def _headline(part: str) -> str:
    return (importlib.import_module(f"mechmem.{part}").__doc__ or "").strip().splitlines()[0]


def _directive(name: str) -> str:
    value = getattr(mechmem, name)
    return "autoclass" if inspect.isclass(value) else "autofunction" if callable(value) else "autodata"


def plugins_by_kind() -> dict[str, dict[str, type]]:
    """Return every plugin by kind and name, without aliases."""
    return {
        kind: {name: cls for name, cls in sorted(plugins(kind).items()) if name == cls.name} for kind in sorted(KINDS)
    }


def supporting_types() -> list[type]:
    """Return the classes of the package that signatures and fields mention and no other section documents."""
    shown = {getattr(mechmem, name) for _, _, names in public_names() for name, _ in names}
    shown |= {cls for found in plugins_by_kind().values() for cls in found.values()}
    base = {value for value in vars(importlib.import_module("mechmem.core.plugins")).values() if inspect.isclass(value)}
    base |= {Task, Group}
    seen, waiting = set(shown), list(shown)
    while waiting:
        new = set(_mentioned(waiting.pop())) - seen
        seen |= new
        waiting += new
    return sorted(seen - shown - base, key=lambda cls: (cls.__module__, cls.__qualname__))


def _mentioned(value: object) -> Iterator[type]:
    """Yield classes of the package that a function's or a class's annotations and bases name."""
    module = sys.modules[value.__module__]
    owners = [value]
    if inspect.isclass(value):
        members = (member for name, member in vars(value).items() if name[0] != "_" or name == "__call__")
        owners += [getattr(member, "fget", member) for member in members]
        yield from (base for base in value.__mro__[1:] if base.__module__.startswith("mechmem."))
    # Annotations are strings; evaluating them would fail on names that are imported for the type checker only.
    texts = [str(text) for owner in owners for text in getattr(owner, "__annotations__", {}).values()]
    for word in re.findall(r"\w+", " ".join(texts)):
        named = getattr(module, word, None)
        if inspect.isclass(named) and named.__module__.startswith("mechmem.") and named.__name__[0] != "_":
            yield named


def command_help(*arguments: str) -> str:
    """Return the command line's output for `--help`."""
    command = [str(Path(sys.executable).with_name("mechmem")), *arguments, "--help"]
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "PYTHONIOENCODING": "utf-8"}
    shown = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True, env=environment)
    return "\n".join(line.rstrip() for line in shown.stdout.strip().splitlines())


def render(app: object, docname: str, source: list[str]) -> None:
    """Fill a page's placeholders before it is parsed."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source[0] = environment.from_string(source[0]).render(
        knowledge=KNOWLEDGE,
        public_names=public_names,
        plugins=plugins_by_kind,
        supporting_types=supporting_types,
        command_help=command_help,
        recipes=recipes,
        rooms_svg=rooms_svg,
        rates_table=rates_table,
        frontier_table=frontier_table,
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


def setup(app: object) -> None:
    """Register with Sphinx."""
    app.connect("source-read", render)
    app.connect("autodoc-process-docstring", prepare_docstring, priority=400)
    app.connect("autodoc-process-signature", prepare_signature)
