"""How plugins are named in text: `name`, `name(value,key=value)`, and chains joined by plus signs."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Mapping

from mechmem.errors import ConfigError, unknown_name
from mechmem.plugins import Plugin

_TERM = re.compile(r"\s*(?P<name>[A-Za-z_]\w*)\s*(?:\((?P<settings>.*)\))?\s*")


def split_outside(text: str, separator: str) -> list[str]:
    """Split at a separator that stands outside all parentheses."""
    parts, depth, current = [], 0, ""
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == separator and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += character
    return [*parts, current]


def build(classes: Mapping[str, type[Plugin]], term: str, whole: str, what: str) -> Plugin:
    """Build the plugin that a term names; settings are given by name, or in the order of the fields.

    Args:
        classes: the plugins that may be named.
        term: the text, e.g. "keep(ipr(two_sided),fraction=0.3)".
        whole: the text that the term is a part of, for errors.
        what: what is being read ("extractor", "score"), for errors.

    Raises:
        UnknownNameError: there is no such plugin, or it has no such setting; the nearest is named.
        ConfigError: the term cannot be read, or a setting is not allowed.
    """
    name, settings = _read(term, whole, what)
    if name not in classes:
        raise unknown_name(what, name, classes)
    cls = classes[name]
    fields = [field.name for field in dataclasses.fields(cls)]
    values = dict(cls.aliases.get(name, {}))
    free = [field for field in fields if field not in values]
    for key, text in settings:
        if not key and not free:
            raise ConfigError(f"{what} {whole!r}: {name!r} takes no further setting, got {text!r}")
        key = key or free[0]
        if key not in fields:
            raise unknown_name(f"setting of {name!r}", key, fields)
        free = [field for field in free if field != key]
        try:
            values[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[key] = text
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{what} {whole!r}: {name!r} needs the settings {', '.join(fields)} ({error})") from error


def _read(term: str, whole: str, what: str) -> tuple[str, list[tuple[str, str]]]:
    match = _TERM.fullmatch(term)
    if match is None:
        raise ConfigError(f"cannot read {what} {whole!r}: {term!r} is not a name with settings in parentheses")
    settings = [part.strip() for part in split_outside(match["settings"] or "", ",") if part.strip()]
    pairs = [split_outside(setting, "=") for setting in settings]
    return match["name"], [("", pair[0]) if len(pair) == 1 else (pair[0].strip(), "=".join(pair[1:])) for pair in pairs]
