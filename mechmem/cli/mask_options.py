"""Options of the commands that train, for dropout whose masks the examples decide. Imports no torch."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import tyro

from mechmem.errors import ConfigError
from mechmem.models.networks.mask_config import ExampleTied, MaskConfig, TurnOver

KINDS: dict[str, type[MaskConfig]] = {config.kind: config for config in (TurnOver, ExampleTied)}
_SETTINGS = {"keep": "keep", "close_leaks": "close_leaks", "shared_units": "shared", "memory_units": "memory"}
"""Options by the field of a kind's config that they set."""


def default(value: Any, metavar: str) -> Any:
    """Describe an option that is None unless it is given, so that one of another kind is noticed."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {value})")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskOptions:
    """Options for example masks.

    Attributes:
        masks: dropout by the training example: turn_over (influence), or example_tied (memory units).
        mask_layers: which hidden layers it acts on, by number; by default all.
        mask_seed: seed of the masks.
        keep: turn_over: probability that a unit belongs to an example.
        close_leaks: turn_over: hold what examples could act through at its initial value.
        shared_units: example_tied: share of units that all examples use.
        memory_units: example_tied: probability that another unit belongs to an example.
    """

    masks: Literal["none", "turn_over", "example_tied"] = "none"
    mask_layers: tuple[int, ...] = ()
    mask_seed: int = 0
    keep: Annotated[float | None, default(TurnOver.keep, "FLOAT")] = None
    close_leaks: bool = False
    shared_units: Annotated[float | None, default(ExampleTied.shared, "FLOAT")] = None
    memory_units: Annotated[float | None, default(ExampleTied.memory, "FLOAT")] = None

    def mask_config(self) -> MaskConfig | None:
        """Build the config of the masks.

        Raises:
            ConfigError: a setting is not allowed, or is one of another kind of masks.
        """
        asked = {name: getattr(self, name) for name in _SETTINGS}
        given = {_SETTINGS[name]: value for name, value in asked.items() if value is not None and value is not False}
        kind = KINDS.get(self.masks)
        fields = {field.name for field in dataclasses.fields(kind)} if kind else set()
        for name, field in _SETTINGS.items():
            if field in given and field not in fields:
                owner = next(key for key, config in KINDS.items() if field in config.__dataclass_fields__)
                raise ConfigError(f"--{name.replace('_', '-')} is an option of --masks {owner}, not of {self.masks}")
        if kind is None:
            if self.mask_layers or self.mask_seed:
                raise ConfigError(f"--mask-layers and --mask-seed need --masks {' or '.join(KINDS)}")
            return None
        return kind(layers=self.mask_layers, seed=self.mask_seed, **given)
