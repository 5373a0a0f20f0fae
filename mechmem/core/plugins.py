"""Base classes of the kinds of plugin, and the registry that finds plugins.

A plugin is one frozen dataclass in one file of its kind's folder (see `HOMES`), found automatically; other packages add
theirs through an entry point of the group `mechmem.<kind>` (`mechmem.surgeries`, …). Its fields are its parameters; its
class attributes give its name, its needs, its prior knowledge and its source.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, overload

from jaxtyping import Float
from torch import Tensor

from mechmem.core.arguments import Checked
from mechmem.core.foreign_plugins import foreign_plugin
from mechmem.core.names import build
from mechmem.core.needs import has
from mechmem.core.renamed import NEEDS, current
from mechmem.core.results import Result
from mechmem.core.scores import End, ExampleScores, NeuronScores
from mechmem.core.subject import Subject
from mechmem.core.task import Predictor
from mechmem.errors import ConfigError, MissingNeedError, unknown_name


@dataclasses.dataclass(frozen=True)
class Plugin(Checked):
    """Base class of the kinds of plugin. A final class sets the class attributes and implements its kind's call.

    Attributes:
        name: its name in an extractor's name or a table.
        needs: what the subject must have: "role:input_embedding", "pairs", "group", "operation",
            "augmentation", "turn_over", "example_tied", "linear_layers", "run", "observations", "retrainer".
        knows: its prior knowledge, tokens of `needs.KNOWLEDGE`.
        cites: its source.
        aliases: short names for settings of the fields, e.g. {"quadratic": {"to": "quadratic"}}.
        control: name of the plugin that serves as this one's control, or "".
    """

    name: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset()
    knows: ClassVar[frozenset[str]] = frozenset()
    cites: ClassVar[str] = ""
    aliases: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    control: ClassVar[str] = ""

    def label(self) -> str:
        """This instance's name in an extractor's name: an alias, or the name with its changed fields."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        changed = {f.name: values[f.name] for f in dataclasses.fields(self) if values[f.name] != f.default}
        for alias, preset in self.aliases.items():
            if changed == dict(preset):
                return alias
        if not changed:
            return self.name
        return f"{self.name}({','.join(f'{key}={value}' for key, value in changed.items())})"

    def wants(self) -> frozenset[str]:
        """The needs of this instance: `needs`, and those that its settings add."""
        return self.needs

    def told(self) -> frozenset[str]:
        """The prior knowledge of this instance: `knows`, and what its settings add."""
        return self.knows

    def stand_in(self) -> Plugin | None:
        """This instance's control: the plugin that `control` names, with the settings that both have; or None."""
        if not self.control:
            return None
        kind = next(kind for kind, base in KINDS.items() if isinstance(self, base))
        if self.control not in plugins(kind):
            raise ConfigError(f"the control of {self.name!r} is {self.control!r}, and there is no such plugin")
        cls = plugins(kind)[self.control]
        shared = {field.name for field in dataclasses.fields(cls)} & {field.name for field in dataclasses.fields(self)}
        return cls(**{name: getattr(self, name) for name in shared})

    def missing(self, subject: Subject) -> list[str]:
        """Return the needs of this plugin that the subject does not have.

        Raises:
            ConfigError: `subject` is not a Subject.
        """
        if not isinstance(subject, Subject):
            made = "mm.Subject(model, task, roles)"
            raise ConfigError(f"{self.label()!r} is called on a Subject, {made}; got a {type(subject).__name__}")
        return [need for need in sorted(current(need, NEEDS) for need in self.wants()) if not has(subject, need)]

    def require(self, subject: Subject) -> None:
        """Raise `MissingNeedError` if a need is missing, and `ConfigError` if `subject` is not a Subject."""
        missing = self.missing(subject)
        if missing:
            hint = " (multiplication has one if the modulus is prime; ArrayTask takes operation=)"
            needed = ", ".join(missing) + (hint if "group" in missing else "")
            raise MissingNeedError(f"{self.name or type(self).__name__!r} needs {needed}")


class Surgery(Plugin):
    """A change to a copy of the network.

    Attributes:
        dial: name of the field that sets how much is changed, or "".
        dial_values: values of that field, from the weakest edit to the strongest.
    """

    dial: ClassVar[str] = ""
    dial_values: ClassVar[tuple[float, ...]] = ()

    @abc.abstractmethod
    def __call__(self, subject: Subject) -> Subject:
        """Return a subject with a changed copy of the model; the original is unchanged."""


class Readout(Plugin):
    """A way to get predictions out of a network.

    Attributes:
        reads: "logits" if it reads nothing else, so that a table of labels can serve as a control; "network" otherwise.
    """

    reads: ClassVar[Literal["logits", "network"]] = "logits"

    @abc.abstractmethod
    def __call__(self, subject: Subject) -> Predictor:
        """Return the predictor."""


class Score(Plugin):
    """A number per neuron, by which neurons can be ranked.

    Attributes:
        higher: interpretation of a high score, in a few words.
    """

    higher: ClassVar[str] = ""

    @abc.abstractmethod
    def __call__(self, subject: Subject) -> NeuronScores:
        """Return the scores."""


class ExampleScore(Plugin):
    """A number per training example, by which examples can be ranked.

    A final class implements `measure`; the examples are always the task's unaugmented training examples, in order.

    Attributes:
        higher: interpretation of a high score, in a few words.
        suspect: the end at which wrong labels are expected; fixed in advance, never chosen by the result.
        unit: unit of the values, or "".
    """

    higher: ClassVar[str] = ""
    suspect: ClassVar[End] = "high"
    unit: ClassVar[str] = ""

    def __call__(self, subject: Subject) -> ExampleScores:
        """Return the scores.

        Raises:
            MissingNeedError: a need is missing.
            ScoreError: a score is not a number.
        """
        self.require(subject)
        values, note = self.measure(subject)
        ids = subject.task.sources
        return ExampleScores(self.label(), ids, values.double(), self.higher, self.suspect, self.unit, note)

    def of_one_state(self) -> bool:
        """Whether the score uses a single state of a network, so that it can be followed over training."""
        return not self.wants() & {"run", "observations", "retrainer", *NEEDS} and "checkpoints" not in self.told()

    @abc.abstractmethod
    def measure(self, subject: Subject) -> tuple[Float[Tensor, " example"], str]:
        """Return one value per id of `task.sources`, and a note."""


class Analysis(Plugin):
    """A measurement of a network."""

    @abc.abstractmethod
    def __call__(self, subject: Subject) -> Result:
        """Return the result."""

    def for_run(self, subject: Subject) -> Callable[[Subject], Result]:
        """Return the measurement of each checkpoint of the subject's run: this, unless they share something.

        Raises:
            MissingNeedError: a need is missing.
        """
        return self


KINDS: dict[str, type[Plugin]] = {
    "surgeries": Surgery,
    "readouts": Readout,
    "neuron_scores": Score,
    "example_scores": ExampleScore,
    "analyses": Analysis,
}
"""The kinds of plugin; another package adds to one through the entry-point group `mechmem.<kind>`."""

HOMES: dict[str, tuple[str, ...]] = {
    "surgeries": ("mechmem.scorecard.surgeries",),
    "readouts": ("mechmem.scorecard.readouts",),
    "neuron_scores": ("mechmem.neurons.scores",),
    "example_scores": ("mechmem.examples.scores",),
    "analyses": tuple(f"mechmem.analyses.{wing}" for wing in ("neurons", "logits", "layers", "runs", "examples")),
}
"""The packages of each kind; every module in them holds one plugin."""

_CALLED = {"neuron_scores": "score", "example_scores": "score of examples", "analyses": "analysis"}


@functools.cache
def plugins(kind: str) -> dict[str, type[Plugin]]:
    """Return every plugin of a kind ("surgeries", "readouts", "neuron_scores", "example_scores", "analyses") by name.

    Raises:
        UnknownNameError: there is no such kind.
        ConfigError: two plugins share a name, or another package's plugin cannot be loaded.
    """
    if kind not in KINDS:
        raise unknown_name("plugin kind", kind, KINDS)
    modules = [
        importlib.import_module(f"{home}.{info.name}")
        for home in HOMES[kind]
        for info in pkgutil.iter_modules(importlib.import_module(home).__path__)
    ]
    classes = [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, KINDS[kind]) and value.__module__ == module.__name__
    ]
    classes += [
        foreign_plugin(entry, KINDS[kind]) for entry in importlib.metadata.entry_points(group=f"mechmem.{kind}")
    ]
    found: dict[str, type[Plugin]] = {}
    for cls in classes:
        for name in (cls.name, *cls.aliases):
            if name in found:
                raise ConfigError(
                    f"{cls.__module__}.{cls.__name__} takes the name {name!r} of {found[name].__module__}"
                )
            found[name] = cls
    return found


@overload
def named(kind: Literal["surgeries"], name: str, /, **settings: Any) -> Surgery: ...
@overload
def named(kind: Literal["readouts"], name: str, /, **settings: Any) -> Readout: ...
@overload
def named(kind: Literal["neuron_scores"], name: str, /, **settings: Any) -> Score: ...
@overload
def named(kind: Literal["example_scores"], name: str, /, **settings: Any) -> ExampleScore: ...
@overload
def named(kind: Literal["analyses"], name: str, /, **settings: Any) -> Analysis: ...
@overload
def named(kind: str, name: str, /, **settings: Any) -> Plugin: ...
def named(kind: str, name: str, /, **settings: Any) -> Plugin:
    """Return a plugin by its name with settings, e.g. "ipr(two_sided)" or "partition(by=ipr)".

    Args:
        kind: the kind of plugin.
        name: its name, optionally with settings in parentheses.
        settings: settings as Python values; they override those in parentheses.

    Raises:
        UnknownNameError: there is no such plugin, or no such setting of it; the message suggests the nearest.
        ConfigError: the name cannot be read, or a setting is not allowed.
    """
    found = build(plugins(kind), name, name, _CALLED.get(kind, KINDS[kind].__name__.lower()))
    fields = [field.name for field in dataclasses.fields(found)]
    for key in settings:
        if key not in fields:
            raise unknown_name(f"setting of {found.name!r}", key, fields)
    return dataclasses.replace(found, **settings)
