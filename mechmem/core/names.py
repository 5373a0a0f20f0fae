"""Parser of plugin names: `name`, `name(value,key=value)`, `name@point`, and chains joined by plus signs."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from mechmem.core.in_words import shown
from mechmem.core.renamed import PLUGINS, current
from mechmem.errors import ConfigError, unknown_name

P = TypeVar("P")

_TERM = re.compile(r"\s*(?P<name>[A-Za-z_]\w*)\s*(?:\((?P<settings>.*)\))?\s*(?:@\s*(?P<point>[^\s()]+))?\s*")


def check_name(name: object, what: str) -> None:
    """Refuse a name that is not a string.

    Raises:
        ConfigError: the name is something else.
    """
    if not isinstance(name, str):
        raise ConfigError(f"{what}: expected a name, got {name!r}")


def split_outside(text: str, separator: str) -> list[str]:
    """Split at a separator outside all parentheses and quotes."""
    parts, depth, quote, current = [], 0, "", ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character == "(") - (character == ")")
        if character == separator and depth == 0 and not quote:
            parts.append(current)
            current = ""
        else:
            current += character
    return [*parts, current]


def _closed(settings: str) -> bool:
    """Return whether the parentheses are balanced."""
    depth = 0
    for part in re.findall(r"'[^']*'|\"[^\"]*\"|[()]", settings):
        depth += (part == "(") - (part == ")")
        if depth < 0:
            return False
    return depth == 0


def build(classes: Mapping[str, type[P]], term: str, whole: str, what: str) -> P:
    """Build the plugin of a term; settings are given by name, or in the order of the fields.

    Args:
        classes: the allowed plugins by name.
        term: the text, e.g. "keep(ipr(two_sided),fraction=0.3)".
        whole: the whole text that contains the term, for errors.
        what: kind of thing being parsed ("extractor", "score"), for errors.

    Raises:
        UnknownNameError: there is no such plugin, or it has no such setting; the message suggests the nearest.
        ConfigError: the term cannot be read, or a setting is not allowed.
    """
    check_name(term, what)
    name, settings = _read(term, whole, what)
    if name not in classes and PLUGINS.get(name) in classes:
        name = current(name, PLUGINS)
    if name not in classes:
        raise unknown_name(what, name, classes)
    cls: Any = classes[name]
    fields = [field.name for field in dataclasses.fields(cls)]
    texts = {field.name for field in dataclasses.fields(cls) if field.type in ("str", str)}
    values = dict(cls.aliases.get(name, {}))
    free = [field for field in fields if field not in values]
    for key, text in settings:
        if key is None and not free:
            raise ConfigError(f"{what} {whole!r}: {name!r} takes no further setting, got {text!r}")
        key = free[0] if key is None else key
        if key not in fields:
            raise unknown_name(f"setting of {name!r}", key, fields)
        if key in values:
            raise ConfigError(f"{what} {whole!r}: the setting {key!r} of {name!r} is set twice")
        free = [field for field in free if field != key]
        values[key] = _value(text, key in texts)
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{what} {whole!r}: {name!r} needs the settings {', '.join(fields)} ({error})") from error


def _value(text: str, as_text: bool) -> Any:
    """Return the Python value of a setting; a string field takes anything as written."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    # A hook point may be named "1".
    return text if as_text and not isinstance(value, str) else value


def _expected(term: str) -> str:
    """Return what was expected in place of a term that is no name, after what it looks like."""
    if len(split_outside(term, ",")) > 1:
        return "one name; several are given one by one, without commas between them"
    if _TERM.fullmatch(spelt := term.replace("-", "_")):
        return f"a name; they have underscores, as {shown(spelt)}"
    return "a name with settings in parentheses"


def _read(term: str, whole: str, what: str) -> tuple[str, list[tuple[str | None, str]]]:
    match = _TERM.fullmatch(term)
    if match is None:
        raise ConfigError(f"cannot read {what} {shown(whole)}: {shown(term)} is not {_expected(term)}")
    if not _closed(match["settings"] or ""):
        raise ConfigError(f"cannot read {what} {shown(whole)}: the parentheses of {shown(term)} do not match")
    settings = [part.strip() for part in split_outside(match["settings"] or "", ",") if part.strip()]
    pairs = [[part.strip() for part in split_outside(setting, "=")] for setting in settings]
    found: list[tuple[str | None, str]] = [
        (None, pair[0]) if len(pair) == 1 else (pair[0], "=".join(pair[1:])) for pair in pairs
    ]
    return match["name"], found + ([("point", match["point"])] if match["point"] else [])
