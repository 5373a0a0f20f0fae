"""Base class of frozen configs, with validation, a digest and conversion to and from JSON values.

This module and every config module import no torch, so that the command line can build, check and refuse a config
before anything heavy is loaded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self

from mechmem.core.arguments import GREATEST_WHOLE, Checked
from mechmem.core.in_words import shown
from mechmem.errors import ConfigError, unknown_name

_KINDS: dict[str, type[Config]] = {}

LATER = {"later": True}
"""Metadata of a field that was added later: at its default it does not change the digest."""


@dataclasses.dataclass(frozen=True)
class Config(Checked):
    """Base class of all configs. JSON files contain the `kind` of a subclass."""

    kind: ClassVar[str] = ""
    option_names: ClassVar[Mapping[str, str]] = {}
    """Names of fields where those of several configs stand beside each other, if they differ from the field's."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Register the subclass under its `kind`; refuse a name that is taken."""
        super().__init_subclass__(**kwargs)
        kind = cls.__dict__.get("kind", "")
        if not kind:
            return
        taken = _KINDS.get(kind)
        if taken is not None and taken.__qualname__ != cls.__qualname__:
            raise ConfigError(f"config kind {kind!r} is taken by {taken.__qualname__}")
        _KINDS[kind] = cls

    def to_dict(self) -> dict[str, Any]:
        """Return plain values only; nested configs become dicts with their `kind`.

        A field that was added later (`LATER`) is left out at its default.
        """
        values: dict[str, Any] = {"kind": self.kind}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.metadata == LATER and value == field.default:
                continue
            if isinstance(value, Config):
                value = value.to_dict()
            values[field.name] = list(value) if isinstance(value, tuple) else value
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild a config from the result of `to_dict`.

        Raises:
            ConfigError: a field is missing or unknown, or the values do not validate.
            UnknownNameError: there is no config of this `kind`.
        """
        if not isinstance(values, Mapping) or "kind" not in values:
            raise ConfigError("a config is a mapping with a 'kind'")
        kind = _KINDS.get(values["kind"])
        if kind is None:
            raise unknown_name("config kind", str(values["kind"]), _KINDS)
        if not issubclass(kind, cls):
            raise ConfigError(f"expected a {cls.__name__}, found kind {values['kind']!r}")
        names = {field.name for field in dataclasses.fields(kind)}
        given = {key: value for key, value in values.items() if key != "kind"}
        unknown = sorted(set(given) - names)
        if unknown:
            raise unknown_name(f"{kind.kind} setting", unknown[0], names)
        decoded = {
            key: Config.from_dict(value)
            if isinstance(value, Mapping)
            else tuple(value)
            if isinstance(value, list)
            else value
            for key, value in given.items()
        }
        try:
            return kind(**decoded)
        except TypeError as error:
            raise ConfigError(f"{kind.kind}: {error}") from error

    @property
    def digest(self) -> str:
        """A 16-digit hash of the config's content, equal across processes and machines."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def check_choice(setting: str, value: str, allowed: Collection[str]) -> None:
    """Refuse a name that is not in `allowed`, suggesting the nearest."""
    if not isinstance(value, str):
        raise ConfigError(f"{setting} must be one of {', '.join(map(repr, allowed))}, got {shown(value)}")
    if value not in allowed:
        raise unknown_name(setting, value, allowed)


def check_different(setting: str, values: Sequence[Any]) -> None:
    """Refuse values of which one is given twice."""
    again = next((value for place, value in enumerate(values) if value in values[:place]), None)
    if again is not None:
        raise ConfigError(f"{setting}: {shown(again)} is given twice")


def check_kind(setting: str, value: object, kind: type[Config]) -> None:
    """Refuse anything but a config of this kind."""
    if not isinstance(value, kind):
        raise ConfigError(f"{setting} must be a {kind.__name__}, got {shown(value)}")


def check_fraction(setting: str, value: float) -> None:
    """Refuse NaN and anything outside [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value <= 1:
        raise ConfigError(f"{setting} must lie in [0, 1], got {shown(value)}")


def check_share(setting: str, value: float) -> None:
    """Refuse NaN, 0, 1, and anything outside of them."""
    check_fraction(setting, value)
    if value in (0, 1):
        raise ConfigError(f"{setting} must lie between 0 and 1, got {shown(value)}")


def check_number(setting: str, value: float, *, above: float | None = None, least: float | None = None) -> None:
    """Refuse anything that is not finite, not greater than `above`, or less than `least`."""
    wanted = f"greater than {above}" if above is not None else f"at least {least}"
    finite = isinstance(value, Real) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if not finite or (above is not None and value <= above) or (least is not None and value < least):
        raise ConfigError(f"{setting} must be finite and {wanted}, got {shown(value)}")


def check_whole(setting: str, value: int, least: int, most: int = GREATEST_WHOLE) -> None:
    """Refuse anything that is not a whole number of at least `least` and at most `most`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ConfigError(f"{setting} must be a whole number of at least {least}, got {shown(value)}")
    if value > most:
        raise ConfigError(f"{setting} must be at most {most:,}, got {shown(value)}")
