"""Options stand in groups in the help, under the names that they have without."""

import dataclasses
import io
import re

import pytest

from mechmem.cli import main as cli
from mechmem.cli.grouping import GROUPS, grouped, ungrouped
from mechmem.cli.main import main
from mechmem.cli.running import COMMANDS

CLASSES = {name: command for name, (command, _) in COMMANDS.items()}


def boxes(printed):
    """The options of each box of the help, and the placeholders of positional arguments."""
    found = {}
    for line in printed.splitlines():
        if match := re.match(r"╭─ (.*?) ─", line):
            title = match[1]
            found[title] = []
        elif match := re.match(r"│ (--[\w-]+|\[*PATH|\[*STR|INT|\[?\{)", line):
            found[title].append(match[1])
    return found


@pytest.fixture
def helped(monkeypatch):
    """Returns what a command's help prints on a terminal."""

    def read(name, columns=80):
        terminal = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr("sys.stdout", terminal)
        assert main([name, "--help"]) == 0
        terminal.seek(0)
        return terminal.read()

    return read


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_in_one_group_and_keeps_its_name(name, helped):
    found = boxes(helped(name))
    positional = found.pop("positional arguments", [])
    assert found.pop("options") == []
    assert list(found) == [f"{each} options" for each in GROUPS if f"{each} options" in found]
    named = [option for box in found.values() for option in box]
    flags = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(CLASSES[name])]
    assert set(named) <= set(flags)
    assert len(named) == len(set(named)) == len(flags) - len(positional)
    assert {"--quiet", "--json"} <= set(found["output options"])


def test_the_options_of_training_are_where_a_reader_looks_for_them(helped):
    found = boxes(helped("train"))
    for group, options in {
        "task": {"--p", "--label-noise", "--group", "--seed"},
        "network": {"--model", "--width", "--masks", "--keep"},
        "training": {"--lr", "--weight-decay", "--steps", "--device"},
        "output": {"--out", "--json"},
    }.items():
        assert options <= set(found[f"{group} options"])


def test_a_measurement_has_what_is_measured_apart_from_what_is_written(helped):
    found = boxes(helped("ablate"))
    assert found["measurement options"] == ["--by", "--order", "--points", "--at", "--units", "--value", "--seed"]
    assert set(found["network options"]) == {"--step", "--device"}
    assert set(found["output options"]) == {"--quiet", "--json", "--out"}


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("name", ["train", "patch", "reproduce"])
def test_the_boxes_fit_the_terminal(name, columns, helped):
    lines = [line for line in helped(name, columns).splitlines() if line.startswith(("│", "╭", "╰"))]
    assert {len(line) for line in lines} == {columns}


@pytest.mark.parametrize("name", COMMANDS)
def test_groups_name_options_and_no_others(name):
    """So that an option that is renamed does not leave its group silently."""
    own = [field.name for field in dataclasses.fields(CLASSES[name])]
    assert not set(own) & set(GROUPS), "an option of a group's name would be lost"
    assert set(CLASSES[name].groups.values()) <= set(GROUPS)


def test_a_parsed_command_is_the_flat_one(monkeypatch):
    seen = []
    monkeypatch.setitem(cli.COMMANDS, "ablate", (CLASSES["ablate"], seen.append))
    assert main(["ablate", "runs/a", "--by", "ipr", "--order", "low", "--out", "x.csv", "--step", "3", "--json"]) == 0
    expected = CLASSES["ablate"](run=seen[0].run, by="ipr", order=("low",), out=seen[0].out, step=3, json=True)
    assert seen == [expected] and str(seen[0].run) == "runs/a" and str(seen[0].out) == "x.csv"


def test_defaults_survive_the_groups():
    for name in ("train", "demo", "list"):
        command = CLASSES[name]
        parsed = grouped(command)
        inner = {field.name: field.type.__origin__() for field in dataclasses.fields(parsed) if field.name in GROUPS}
        assert ungrouped(command, parsed(**inner)) == command()
