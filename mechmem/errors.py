"""Typed errors. Each says what was wrong, what was seen and what is allowed."""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable

_INSIDE = ("mechmem", "dataclasses", "jaxtyping", "contextlib")
"""Packages whose frames lie between a warning and the line that called mechmem (jaxtyping's if shapes are checked)."""


_LONGEST = 450
"""Most characters of the names that an error lists."""


class MechmemError(Exception):
    """Base of every error that mechmem raises on purpose."""


class ConfigError(MechmemError, ValueError):
    """A setting is outside what is allowed; nothing has been written."""


class UnknownNameError(MechmemError, LookupError):
    """A plugin, point, option or cell was asked for by a name that does not exist."""


class MissingNeedError(MechmemError):
    """A plugin needs something this subject does not have (a role, a group, a retrainer)."""


class ActivationError(MechmemError, LookupError):
    """A point never fired, fired several times and was asked for by its bare name, is unknown, or holds too much."""


class CheckpointError(MechmemError):
    """A checkpoint of another program cannot be read, or would not give the network that was saved."""


class DiscardedEditError(MechmemError):
    """An edit at this hook point would change nothing: the logits do not depend on what the point holds."""


class LeakWarning(UserWarning):
    """A network with turn-over dropout is trained in which examples act on the units that are not their own."""


class LeftoverHooksWarning(UserWarning):
    """A model carries hooks that somebody left on it; they take part in every run."""


class RoleError(MechmemError, ValueError):
    """A role does not fit the model: no such parameter, or a pattern that its shape does not match."""


class ScoreError(MechmemError, ValueError):
    """Scores that cannot rank neurons or examples (NaN among them), or a share of the neurons that is none."""


class LeakError(MissingNeedError):
    """Influence was asked of a network in which examples act on the units that are not their own."""


class NotFiniteError(MissingNeedError, ValueError):
    """A network's weights, activations or logits are NaN or infinite, so that no answer can be read from them."""


class NotLinearError(MissingNeedError):
    """The logits are not linear in the neurons asked for, so that the network has to be re-run."""


class RunDirectoryError(MechmemError):
    """A run directory is empty, damaged, truncated, of another shape, or holds something else."""


class UncheckedWarning(UserWarning):
    """A run or result was saved without hashes, by an older version, so that its content could not be checked."""


class RestartWarning(UserWarning):
    """A run has lost evaluations, and is trained again from where its history is whole."""


class UnsteadyNetworkError(MechmemError):
    """A network's logits for an example are no function of it: it is random, or the examples of a block interact."""


class TrainingFailedError(MechmemError, RuntimeError):
    """Training produced a loss that is not a number, or could not write its results."""


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn at the line outside this package that called it."""
    frame, inside = sys._getframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        frame, inside = frame.f_back, inside + 1
    warnings.warn(message, category, stacklevel=inside + 1)


def unknown_name(kind: str, name: str, allowed: Iterable[str]) -> UnknownNameError:
    """Build the error for a name that is not one of `allowed`, with the nearest match.

    Args:
        kind: what was looked up, in the singular ("extractor", "hook point").
        name: the name that was asked for.
        allowed: the names that exist.
    """
    name, names = str(name), sorted(allowed)
    by_lower = {existing.lower(): existing for existing in names}
    nearest = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    hint = f" Did you mean {by_lower[nearest[0]]!r}?" if nearest else ""
    fit = [name for place, name in enumerate(names) if len(", ".join(names[: place + 1])) <= _LONGEST]
    shown = ", ".join(fit) + (", …" if len(names) > len(fit) else "")
    asked = name if len(name) <= 80 else f"{name[:79]}…"
    return UnknownNameError(f"no {kind} {asked!r}.{hint} One of: {shown or '(none)'}")
