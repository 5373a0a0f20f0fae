"""Options that are fields of configs: types, defaults and help are the configs' own. Imports no torch."""

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
    """A field of a config, as the command line needs it.

    Attributes:
        types: what it may be.
        text: what the config's docstring says of it.
        default: its default, which is the command's where that has another.
    """

    types: tuple[Any, ...]
    text: str
    default: Any


@dataclasses.dataclass(frozen=True)
class Part:
    """A config that options build, or several kinds of one.

    An option that is not given is None, False or empty, so that one of another kind is noticed. A flag sets a field to
    the opposite of its default. Fields that hold configs are no options: other parts build them.

    Attributes:
        kinds: the configs by the word that chooses them; None for no config.
        choice: the option that chooses among several.
        names: options by field, where they have another name; fields of one name in several parts are one option.
        help: help of options that take something away, which the field's own text does not say.
        defaults: values by field, where the command's are not the config's.
    """

    kinds: Mapping[str, type[Config] | None]
    choice: str = ""
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    help: Mapping[str, str] = dataclasses.field(default_factory=dict)
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def options(self) -> dict[str, dict[str, tuple[str, Option]]]:
        """Return the field that each option sets, and what there is to know of it, by option and kind."""
        found: dict[str, dict[str, tuple[str, Option]]] = {}
        for kind, config in self.kinds.items():
            hints, texts = (get_type_hints(config), field_texts(config)) if config else ({}, {})
            for field in dataclasses.fields(config) if config else ():
                hint = hints[field.name]
                kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
                if not any(isinstance(each, type) and issubclass(each, Config) for each in kinds):
                    option = Option(kinds, texts[field.name], self.defaults.get(field.name, field.default))
                    found.setdefault(self.names.get(field.name, field.name), {})[kind] = field.name, option
        return found

    def text(self, name: str, options: Mapping[str, Option]) -> str:
        """Return the help of an option: what the configs say, each under its kind unless all say the same."""
        said = {kind: option.text for kind, option in options.items()}
        alike = len(set(said.values())) == 1 and len(said) == sum(config is not None for config in self.kinds.values())
        whole = next(iter(said.values())) if alike else "; ".join(f"{kind}: {text}" for kind, text in said.items())
        return self.help.get(name, whole)

    def build(self, command: object, kind: str = "", **others: Any) -> Any:
        """Build the config from the options that were given.

        Args:
            command: the command, whose attributes are its options.
            kind: the word for the kind that was chosen.
            others: fields that are no options.

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
                wrong = f"--{option} is an option of --{self.choice} {owners}, and not of --{self.choice} {kind}"
                raise ConfigError(wrong)
            field, option = kinds[kind]
            values[field] = not option.default if value is True else value
        config = self.kinds[kind]
        return config(**values, **others) if config else None


def takes(*parts: Part) -> Callable[[type[C]], type[C]]:
    """Class decorator: add the options of parts to a command, after those that it spells out."""

    def decorate(cls: type[C]) -> type[C]:
        texts: dict[str, list[str]] = {}
        found: dict[str, dict[str, Option]] = {}
        for part in parts:
            for name, kinds in part.options().items():
                options = {kind: option for kind, (_, option) in kinds.items()}
                texts.setdefault(name, []).append(part.text(name, options))
                found.setdefault(name, options)
        own = get_type_hints(cls)
        added = [
            (name, *_annotated("; ".join(texts[name]) + ".", options))
            for name, options in found.items()
            if name not in own
        ]
        namespace = {"__doc__": cls.__doc__, "__module__": cls.__module__}
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
    # Of choices the config says more than the parser: which is the nearest.
    kinds = (str if get_origin(each) is Literal else each for each in hints)
    return Annotated[functools.reduce(operator.or_, kinds, None), about], None


def field_texts(config: type) -> dict[str, str]:
    """Return what a config's docstring says of its fields; of an inherited one, what the base says."""
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
