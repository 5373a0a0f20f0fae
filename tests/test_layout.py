"""What the repository promises about its own shape."""

import ast
import importlib
import importlib.metadata
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mechmem.plugins import KINDS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mechmem"
MODULES = sorted(PACKAGE.rglob("*.py"))
PLUGIN_FILES = [path for kind in KINDS for path in sorted((PACKAGE / kind).glob("*.py")) if path.stem != "__init__"]

ABSOLUTE_PATH = re.compile(r"(?<![\w.])(?:/(?:home|Users|root|work)/\w|[A-Z]:\\\\\w)")
REGISTRY_HOST = re.compile(
    r"\b(?:pypi|pythonhosted|anaconda|npmjs|docker|huggingface)\.(?:org|com|io|co)\b|\bdownload\.pytorch"
)
MAKE_COMMAND = re.compile(r"(?:^|`|&& |= ?\S+ )make ([a-z]+)", re.MULTILINE)


def short(path):
    return path.relative_to(ROOT).as_posix()


def tracked_files():
    """Everything that git carries; without git, everything outside hidden and generated folders."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        folders = [ROOT / name for name in (".ci", "docs", "examples", "mechmem", "tests")]
        paths = [*ROOT.iterdir(), *(path for folder in folders for path in folder.rglob("*"))]
    return [path for path in paths if path.is_file() and not {"__pycache__", "_build"} & set(path.parts)]


def text_of(path):
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_no_file_grows_past_one_idea(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 300, f"{short(path)} has {lines} lines; past 300 it is two ideas"


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_module_says_what_it_is_and_prints_nothing(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{short(path)} has no docstring"
    printed = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not printed, f"{short(path)} prints in lines {printed}"


@pytest.mark.parametrize("path", PLUGIN_FILES, ids=short)
def test_one_plugin_per_file(path):
    kind = path.parent.name
    module = importlib.import_module(f"mechmem.{kind}.{path.stem}")
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, KINDS[kind]) and value.__module__ == module.__name__
    ]
    assert len(found) == 1, f"{short(path)} holds {len(found)} plugins"
    (plugin,) = found
    assert not plugin.__name__.startswith("_")
    assert "name" in vars(plugin) and re.fullmatch(r"[a-z][a-z0-9_]*", plugin.name)
    assert "cites" in vars(plugin) and plugin.cites.strip()


def test_plugin_folders_hold_nothing_but_files():
    for kind in KINDS:
        folders = [path.name for path in (PACKAGE / kind).iterdir() if path.is_dir() and path.name != "__pycache__"]
        assert not folders, f"a plugin is found as a file of mechmem/{kind}, not in folders {folders}"


def test_types_are_shipped():
    assert (PACKAGE / "py.typed").exists()
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    assert {"py.typed", "*.pyi"} <= set(shipped["mechmem"])


def test_commands_of_the_readme_and_guides_are_targets():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    named = {page: set(MAKE_COMMAND.findall(page.read_text(encoding="utf-8"))) for page in pages}
    assert {"demo", "test"} <= named[ROOT / "README.md"]
    for page, commands in named.items():
        assert commands <= targets, f"{short(page)} names make targets that do not exist: {commands - targets}"


def test_no_file_names_a_machine_or_a_registry():
    files = tracked_files()
    assert PACKAGE / "__init__.py" in files
    found = [
        f"{short(path)}: {match.group()}"
        for path in files
        for pattern in (ABSOLUTE_PATH, REGISTRY_HOST)
        for match in pattern.finditer(text_of(path))
    ]
    assert not found


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (ABSOLUTE_PATH, "open('/" + "home/me/data')"),
        (ABSOLUTE_PATH, "see /" + "work/things"),
        (REGISTRY_HOST, "--index-url https://" + "pypi" + ".org/simple"),
        (REGISTRY_HOST, "https://" + "download." + "pytorch" + ".org/whl/cpu"),
    ],
)
def test_such_names_would_be_found(pattern, text):
    assert pattern.search(text)
    assert not pattern.search("net/work/of mine, a make target, pytorch and its install page")


@pytest.mark.parametrize("use", ["", "mechmem.TrainConfig(task=mechmem.ModularConfig())"])
def test_import_and_configs_load_nothing_heavy(use):
    heavy = "[name for name in ('torch', 'transformer_lens', 'pandas') if name in sys.modules]"
    code = f"import sys\nimport mechmem\n{use}\nprint({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert not done.stderr


def test_versions_agree():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert importlib.metadata.version("mechmem") == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_public_name_can_be_imported():
    import mechmem

    for name in mechmem.__all__:
        assert getattr(mechmem, name).__doc__, f"mechmem.{name} has no docstring"
