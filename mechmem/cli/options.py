"""Options from fields of configs, which give their types, defaults and help. Imports no torch."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
import re
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

from mechmem.core.config import Config
from mechmem.errors import ConfigError

C = TypeVar("C")


@dataclasses.dataclass(frozen=True)
class Option:
    """A field of a config as an option of the command line.

    Attributes:
        types: its types.
        text: its description in the config's docstring.
        default: the command's default if it has one, else the config's.
    """

    types: tuple[Any, ...]
    text: str
    default: Any


@dataclasses.dataclass(frozen=True)
class Part:
    """A config, or several kinds of one, built from options.

    An option that is not given is None, False or empty, so that an option of another kind can be refused. A flag sets a
    field to the opposite of its default. Fields that hold configs are not options: other parts build them.

    Attributes:
        kinds: the configs by the word that chooses them; None for no config.
        choice: the option that chooses among several.
        names: names of options by field, if they differ from the config's `option_names`; fields of one name in several
            parts share an option.
        help: help of options that negate their field, whose own text does not apply.
        defaults: the command's defaults by field, if they differ from the config's.
        group: the group of its options in the help.
    """

    kinds: Mapping[str, type[Config] | None]
    choice: str = ""
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    help: Mapping[str, str] = dataclasses.field(default_factory=dict)
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    group: str = "training"

    def options(self) -> dict[str, dict[str, tuple[str, Option]]]:
        """Return the field that each option sets, and its description, by option and kind."""
        found: dict[str, dict[str, tuple[str, Option]]] = {}
        for kind, config in self.kinds.items():
            hints, texts = (get_type_hints(config), field_texts(config)) if config else ({}, {})
            names = {**(config.option_names if config else {}), **self.names}
            for field in dataclasses.fields(config) if config else ():
                hint = hints[field.name]
                kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
                if not any(isinstance(each, type) and issubclass(each, Config) for each in kinds):
                    option = Option(kinds, texts.get(field.name, ""), self.defaults.get(field.name, field.default))
                    found.setdefault(names.get(field.name, field.name), {})[kind] = field.name, option
        return found

    def text(self, name: str, options: Mapping[str, Option]) -> str:
        """Return the help of an option: the configs' texts, each under its kind unless all are the same."""
        said = {kind: option.text for kind, option in options.items()}
        alike = len(set(said.values())) == 1 and len(said) == sum(config is not None for config in self.kinds.values())
        whole = next(iter(said.values())) if alike else "; ".join(f"{kind}: {text}" for kind, text in said.items())
        return self.help.get(name, whole)

    def build(self, command: object, kind: str = "", **others: Any) -> Any:
        """Build the config from the options that were given.

        Args:
            command: the command, whose attributes are its options.
            kind: the word for the chosen kind.
            others: fields that are not options.

        Raises:
            ConfigError: an option of another kind was given, or a setting is not allowed.
        """
        values = dict(self.defaults)
        for name, kinds in self.options().items():
            value = getattr(command, name)
            if value is None or value is False or value == "":
                continue
            if kind not in kinds:
                option, owners = name.replace("_", "-"), " or ".join(kinds)
                wrong = f"--{option} is an option of --{self.choice} {owners}, not of --{self.choice} {kind}"
                raise ConfigError(wrong)
            field, option = kinds[kind]
            values[field] = not option.default if value is True else value
        config = self.kinds[kind]
        return config(**values, **others) if config else None


def takes(*parts: Part) -> Callable[[type[C]], type[C]]:
    """Class decorator: add the options of parts to a command, after its own; its `groups` then name theirs too."""

    def decorate(cls: type[C]) -> type[C]:
        groups = {part.choice: part.group for part in parts if part.choice}
        texts: dict[str, list[str]] = {}
        found: dict[str, dict[str, Option]] = {}
        for part in parts:
            for name, kinds in part.options().items():
                options = {kind: option for kind, (_, option) in kinds.items()}
                texts.setdefault(name, []).append(part.text(name, options))
                found.setdefault(name, options)
                groups.setdefault(name, part.group)
        own = get_type_hints(cls)
        added = [
            (name, *_annotated("; ".join(texts[name]) + ".", options))
            for name, options in found.items()
            if name not in own
        ]
        told = {"groups": {**getattr(cls, "groups", {}), **groups}}
        namespace = {"__doc__": cls.__doc__, "__module__": cls.__module__, **told}
        return dataclasses.make_dataclass(
            cls.__name__, added, bases=(cls,), namespace=namespace, frozen=True, kw_only=True
        )

    return decorate


def _annotated(text: str, options: Mapping[str, Option]) -> tuple[Any, Any]:
    """Return the annotation and the default of an option."""
    hints = [each for option in options.values() for each in option.types]
    if hints[0] is bool:
        return Annotated[bool, tyro.conf.arg(help=text)], False
    shown = {kind: _written(option.default) for kind, option in options.items()}
    first = next(iter(shown.values()))
    default = ", ".join([first, *(f"{kind} {value}" for kind, value in shown.items() if value != first)])
    about = tyro.conf.arg(help=text, metavar=_metavar(hints), help_behavior_hint=f"(default: {default})")
    # For a wrong choice the config's error says more than the parser's: it suggests the nearest.
    kinds = (str if get_origin(each) is Literal else each for each in hints)
    return Annotated[functools.reduce(operator.or_, kinds, None), about], None


def field_texts(config: type) -> dict[str, str]:
    """Return the descriptions of a config's fields from its docstring; for inherited fields, from the base's."""
    found: dict[str, str] = {}
    for cls in reversed(config.__mro__):
        section = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2]
        for name, text in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.M):
            found.setdefault(name, " ".join(text.split()).rstrip("."))
    return found


def _metavar(hints: list[Any]) -> str:
    first = hints[0]
    if get_origin(first) is Literal:
        return "{" + ",".join(dict.fromkeys(str(name) for each in hints for name in get_args(each))) + "}"
    if get_origin(first) is tuple:
        return " ".join("…" if each is ... else each.__name__.upper() for each in get_args(first)).replace(" …", "…")
    return first.__name__.upper()


def _written(value: Any) -> str:
    return " ".join(map(str, value)) or "()" if isinstance(value, tuple) else str(value) or "''"
