"""What the repository promises about its own shape."""

import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mechmem.core.plugins import HOMES, KINDS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mechmem"
MODULES = sorted(PACKAGE.rglob("*.py"))


def modules_of(folder):
    return [path for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]


PLUGIN_FOLDERS = [(kind, ROOT.joinpath(*home.split("."))) for kind, homes in HOMES.items() for home in homes]
PLUGIN_FILES = [(kind, path) for kind, folder in PLUGIN_FOLDERS for path in modules_of(folder)]

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


def test_no_file_grows_past_one_idea():
    lines = {short(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert not {name: count for name, count in lines.items() if count > 300}, "past 300 lines a file is two ideas"


def test_git_ignores_no_module():
    pattern = ["--others", "--ignored", "--exclude-standard", "--", "mechmem/*.py", "tests/*.py"]
    ignored = subprocess.run(["git", "ls-files", *pattern], cwd=ROOT, capture_output=True, text=True).stdout
    assert not ignored, "a checkout lacks these modules"


def test_every_module_says_what_it_is_and_prints_nothing():
    silent, printed = [], []
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not ast.get_docstring(tree):
            silent.append(short(path))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
        printed += [f"{short(path)}:{call.lineno}" for call in calls if call.func.id == "print"]
    assert not silent, f"without a docstring: {silent}"
    assert not printed, f"prints: {printed}"


def test_one_plugin_per_file():
    wrong = []
    for kind, path in PLUGIN_FILES:
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        found = [
            value
            for value in vars(module).values()
            if inspect.isclass(value) and issubclass(value, KINDS[kind]) and value.__module__ == module.__name__
        ]
        if len(found) != 1:
            wrong.append(f"{short(path)} holds {len(found)} plugins")
            continue
        (plugin,) = found
        if plugin.__name__.startswith("_") or not re.fullmatch(r"[a-z][a-z0-9_]*", vars(plugin).get("name", "")):
            wrong.append(f"{short(path)}: its plugin has no name of its own")
        if not vars(plugin).get("cites", "").strip():
            wrong.append(f"{short(path)}: its plugin names no source")
    assert PLUGIN_FILES and not wrong


def test_plugin_folders_hold_nothing_but_files():
    for kind, home in PLUGIN_FOLDERS:
        folders = [path.name for path in home.iterdir() if path.is_dir() and path.name != "__pycache__"]
        assert not folders, f"a plugin ({kind}) is found as a file of {short(home)}, not in folders {folders}"


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


def test_public_names_are_listed_at_their_own_address_and_by_room():
    import mechmem

    rows = re.findall(r"^from \.([\w.]+) import (\w+) as", (PACKAGE / "__init__.pyi").read_text(encoding="utf-8"), re.M)
    for module, name in rows:
        assert getattr(mechmem, name).__module__ == f"mechmem.{module}", f"{name} is not defined in {module}"
    rooms = [module.split(".")[0] for module, _ in rows]
    assert len(list(itertools.groupby(rooms))) == len(set(rooms)), "the names of a room stand together"


ROOMS = {
    "core", "math", "plotting", "tasks", "models", "training", "interventions", "layers",
    "scorecard", "neurons", "examples", "sequences", "analyses", "pages", "sweeps", "recipes", "cli", "loggers",
}  # fmt: skip


def test_nothing_stands_outside_the_rooms():
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "errors.py", "sphinxext.py"}
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == ROOMS | {"templates"}


def test_a_name_has_one_address():
    packages = [path for path in PACKAGE.rglob("__init__.py") if "papers" not in path.parts and path.parent != PACKAGE]
    for path in packages:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert len(tree.body) == 1, f"{short(path)} holds more than its docstring"


def test_a_small_file_is_a_plugin_or_part_of_something():
    leaves = {"core/needs.py", "core/randomness.py", "math/blocks.py", "tasks/build.py"}
    plugins = {path for _, path in PLUGIN_FILES} | set(modules_of(PACKAGE / "sweeps" / "engines"))
    modules = [path for path in MODULES if path.name != "__init__.py" and "papers" not in path.parts]
    small = [
        path.relative_to(PACKAGE).as_posix()
        for path in modules
        if path not in plugins and len(path.read_text(encoding="utf-8").splitlines()) < 40
    ]
    assert set(small) <= leaves


def test_the_paths_that_contributors_are_pointed_to_exist():
    pages = (ROOT / "CONTRIBUTING.md", ROOT / "README.md", ROOT / "docs" / "architecture.md")
    named = {path for page in pages for path in re.findall(r"`([a-z_]+/[\w/.]*)`", page.read_text(encoding="utf-8"))}
    assert "tasks/splits.py" in named and "docs/plugins.md" in named
    written = ("runs/", "demo-report/")  # what commands write
    missing = [
        path
        for path in named
        if not path.startswith(written) and not ((ROOT / path).exists() or (PACKAGE / path).exists())
    ]
    assert not missing


def test_the_picture_of_the_rooms_shows_each_room_once():
    spec = importlib.util.spec_from_file_location("rooms", ROOT / "docs" / "rooms.py")
    rooms = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rooms)
    assert {room for layer in rooms.layers() for room in layer} == ROOMS | {"errors", "sphinxext"}
    drawing = rooms.rooms_svg()
    for room in ROOMS:
        assert drawing.count(f">{room}</text>") == 1
