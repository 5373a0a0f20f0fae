"""The commands for sweeps and their options, as frozen dataclasses. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import tyro

from mechmem.cli.commands import (
    AUGMENTATION,
    IMAGE_MODELS,
    IMAGE_NOISE,
    IMAGE_TRAINING,
    IMAGES,
    MASKS,
    PAIR_MODELS,
    PAIR_NOISE,
    PAIR_TRAINING,
    PAIRS,
    TRAINED,
    CommonOptions,
    Train,
    TrainImages,
)
from mechmem.cli.options import takes
from mechmem.core.in_words import shown
from mechmem.errors import ConfigError, unknown_name
from mechmem.sweeps.grid import Cell, cells_of, parsed

OF_ALL = ("out", "quiet", "json", "device")
"""Options of `train` that are not settings of a cell."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweeping(CommonOptions):
    """Options of both commands that sweep, besides those of the training.

    Attributes:
        grid: settings and their values, as options of the training: label_noise=0.1,0.3 or label_noise=0:0.9:0.05 (both
            ends included). The option may be given again.
        measure: what is measured, e.g. raw frequency structure discover_rule; by default raw, and none to train only.
        out: directory of the runs, the measurements and table.parquet.
        engine: local (processes of this machine), inline, dask, ray or slurm.
        engine_settings: settings of the engine, e.g. address=tcp://head:8786, or timeout_min=60 slurm_partition=long.
        workers: number of processes, one thread each; by default as many as the machine or the cluster has.
        array: i/n for the i-th of n parts, done in this process: for the tasks of any other scheduler.
        masks: dropout by the training example: turn_over (influence), or example_tied (memory units).
        device: device to train on ("cpu", "cuda").
    """

    groups = CommonOptions.groups | TRAINED
    keeps = True
    training: ClassVar[type[Any]]
    table: ClassVar[str]

    grid: tuple[str, ...] = ()
    measure: tuple[str, ...] = ()
    out: Path | None = None
    engine: str | None = None
    engine_settings: tuple[str, ...] = ()
    workers: int | None = None
    array: str = ""
    masks: Literal["none", "turn_over", "example_tied"] = "none"
    device: str = "cpu"

    def cells(self) -> list[Cell]:
        """Return the cells.

        Raises:
            ConfigError: the grid is none, or a cell contradicts itself.
            UnknownNameError: there is no such setting.
        """
        grid: dict[str, list[Any]] = {}
        for each in self.grid:
            name, sign, values = each.partition("=")
            if not sign or not name:
                raise ConfigError(f"--grid takes name=values, e.g. label_noise=0.1,0.3, got {each!r}")
            setting = name.strip("-").replace("-", "_")
            if setting in grid:
                raise ConfigError(f"grid: {name} is given twice")
            grid[setting] = self.values_of(setting, parsed(values))
        return cells_of(grid, lambda values: self.one(values))

    def one(self, values: Mapping[str, Any]) -> Any:
        """Return the config of a cell with these values."""
        own = {name: getattr(self, name) for name in settings(self.training)}
        return self.training(**{**own, **values}).config()

    def values_of(self, name: str, values: list[Any]) -> list[Any]:
        """Return the values of a setting as its option has them.

        Raises:
            UnknownNameError: the training has no such option.
            ConfigError: it is given as an option, too, takes several values, or values of another kind.
        """
        found = [typed(self.training, name, value, f"grid: {name}") for value in values]
        default = settings(self.training)[name]
        # A positional argument, which has no default, is a setting like any other.
        if default is not dataclasses.MISSING and getattr(self, name) != default:
            raise ConfigError(f"{name} is set for all cells, and varied by the grid too: leave one of them out")
        return found


def settings(training: type[Any]) -> dict[str, Any]:
    """Return the default of each option of a training that is a setting of a cell."""
    return {field.name: field.default for field in dataclasses.fields(training) if field.name not in OF_ALL}


KINDS = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}


def typed(training: type[Any], name: str, value: Any, said: str) -> Any:
    """Return the value of a setting as its option has it.

    Args:
        training: the command that trains.
        name: the setting.
        value: a number, a word or a truth value, or a list of them where the option takes several.
        said: the setting as errors call it.

    Raises:
        UnknownNameError: the training has no such option.
        ConfigError: the option takes another kind of value.
    """
    if name not in (known := settings(training)):
        raise unknown_name("setting", name.replace("_", "-"), [each.replace("_", "-") for each in known])
    hint = get_type_hints(training)[name]
    parts = [hint] if get_origin(hint) in (None, Literal) else list(get_args(hint))
    several = [each for part in parts if get_origin(part) is tuple for each in get_args(part) if each is not Ellipsis]
    if several and not isinstance(value, list):
        raise ConfigError(f"{said} takes several values at once: a list in a file, or in mm.sweep")
    if several:
        return tuple(_of_kind(each, several, said) for each in value)
    return _of_kind(value, parts, said)


def _of_kind(value: Any, parts: Sequence[Any], said: str) -> Any:
    words = [word for part in parts if get_origin(part) is Literal for word in get_args(part)]
    kinds = [kind for kind in KINDS if kind in parts]
    if float in kinds and type(value) is int:
        return float(value)
    if str in kinds and isinstance(value, int | float):
        return str(value)
    if value not in words and type(value) not in kinds:
        taken = f"one of {', '.join(words)}" if words else KINDS[kinds[0]]
        raise ConfigError(f"{said} must be {taken}, got {shown(value)}")
    return value


@takes(PAIRS, PAIR_NOISE, PAIR_MODELS, MASKS, PAIR_TRAINING)
@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep(Sweeping):
    """Train a network for every cell of a grid, and measure them all; the same command goes on, also beside another.

    The options are those of `mechmem train`. A file has them in tables [train] (or [train-images]) and [grid], and out,
    measure, engine, workers and [engine-settings] above; what is given on the command line goes before the file.

    Attributes:
        file: a .toml file with the sweep.
        group: a finite group instead of residues, e.g. S5, D7 or S3xZ4; add is then a·b, and subtract a·b⁻¹.
        model: the kind of network.
    """

    training = Train
    table = "train"

    file: tyro.conf.Positional[Path | None] = None
    group: str = ""
    model: Literal["mlp", "transformer"] = "mlp"


@takes(IMAGES, IMAGE_NOISE, AUGMENTATION, IMAGE_MODELS, MASKS, IMAGE_TRAINING)
@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepImages(Sweeping):
    """Train a network on images for every cell of a grid, and measure them all; the options are train-images' own.

    Attributes:
        data: digits, mnist5k, a HuggingFace data set by name, a folder of images by class, or an .npz file.
        model: the kind of network.
    """

    training = TrainImages
    table = "train-images"

    data: tyro.conf.Positional[str]
    model: Literal["mlp", "cnn", "resnet"] = "mlp"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepTable(CommonOptions):
    """Show a sweep's table as far as it has come, and draw it: a phase diagram, or lines.

    Attributes:
        sweep: the sweep's directory.
        x: the setting along the x axis; by default the first that varies.
        y: another setting, for a phase diagram; or a measurement, e.g. raw or structure:kappa, for lines.
        color: the measurement of a phase diagram, or the setting that has a line per value.
        out: a file: .svg, .png, .pdf or .html for the figure, .csv or .parquet for the table, .json for plotly.
    """

    sweep: tyro.conf.Positional[Path]
    x: str = ""
    y: str = ""
    color: str = ""
    out: Path | None = None
