"""Options of a command in groups, as `--help` shows them. Imports no torch."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import tyro

from mechmem.cli.options import field_texts

C = TypeVar("C")

GROUPS = ("task", "network", "training", "measurement", "output")
"""Groups of options, in the order of the help."""

_POSITIONAL = get_args(tyro.conf.Positional[int])[1]


def grouped(command: type[Any]) -> type[Any]:
    """Return a class of the same options for the parser, which shows those of each field that is a class together.

    Positional arguments stay outside the groups. `ungrouped` turns an instance into one of the command.

    Args:
        command: a frozen dataclass, whose `groups` name the group of each option; of others it is "measurement".
    """
    texts, hints = field_texts(command), get_type_hints(command, include_extras=True)
    positional: list[Any] = []
    members: dict[str, list[Any]] = {name: [] for name in GROUPS}
    for field in dataclasses.fields(command):
        hint = hints[field.name]
        if field.name in texts:
            hint = Annotated[hint, tyro.conf.arg(help=f"{texts[field.name]}.")]
        if _POSITIONAL in getattr(hint, "__metadata__", ()):
            positional.append((field.name, hint, _same_default(field)))
        else:
            members[command.groups.get(field.name, "measurement")].append((field.name, hint, _same_default(field)))
    fields = [
        (name, Annotated[_dataclass(name, each), tyro.conf.arg(help="")], dataclasses.field())
        for name, each in members.items()
        if each
    ]
    return _dataclass(command.__name__, [*positional, *fields], command.__doc__)


def ungrouped(command: type[C], parsed: Any) -> C:
    """Return the command with the options that were parsed as `grouped(command)`."""
    groups = [getattr(parsed, name) for name in GROUPS if hasattr(parsed, name)]
    own = {field.name for field in dataclasses.fields(command)}  # pyright: ignore[reportArgumentType]
    values = [pair for each in (parsed, *groups) for pair in vars(each).items()]
    return command(**{name: value for name, value in values if name in own})


def _same_default(field: dataclasses.Field[Any]) -> Any:
    return dataclasses.field(default=field.default, default_factory=field.default_factory)  # pyright: ignore[reportCallIssue, reportArgumentType]


def _dataclass(name: str, fields: list[Any], doc: str | None = "") -> type[Any]:
    return dataclasses.make_dataclass(name, fields, namespace={"__doc__": doc}, frozen=True, kw_only=True)
