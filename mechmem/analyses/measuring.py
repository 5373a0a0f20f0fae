"""Measurements of a network by name: extractors, scores of neurons and of examples, analyses, structure, the rule."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mechmem.analyses.discover_rule import discover_rule
from mechmem.core.names import split_outside
from mechmem.core.plugins import Analysis, ExampleScore, Plugin, Score, named, plugins
from mechmem.core.renamed import PLUGINS
from mechmem.core.results import Result
from mechmem.core.scores import NeuronScores
from mechmem.core.stats import UNKNOWN, Estimate
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError
from mechmem.scorecard.audit import split_accuracies
from mechmem.scorecard.extractor import RAW, Extractor, extractor
from mechmem.scorecard.structure import held_out_structure
from mechmem.tasks.splits import split_names

Kind = Literal["extractor", "score", "example_score", "analysis", "structure", "rule"]
What = str | Extractor | Score | ExampleScore | Analysis

STRUCTURE, DISCOVER_RULE = "structure", "discover_rule"
_RULE = re.compile(rf"{DISCOVER_RULE}(?:\((.+)\))?")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The quantiles that describe the distribution of a score."""

Measure = Callable[[Subject], tuple[pd.DataFrame, Tensor]]


def measurement(what: What | Plugin) -> tuple[str, Kind, Measure]:
    """Return a measurement's name, its kind, and the function that measures a network, with its run if it has one.

    Raises:
        UnknownNameError: nothing has this name; the message suggests the nearest.
        ConfigError: several kinds share the name, or it is something else.
    """
    if isinstance(what, str):
        what = " ".join(what.split())
        if what == STRUCTURE:
            return STRUCTURE, "structure", _structure
        rule = _RULE.fullmatch(what)
        if rule is not None:
            by = extractor(rule[1]).name if rule[1] else ""
            return f"{DISCOVER_RULE}({by})" if by else DISCOVER_RULE, "rule", lambda then: _rule(by, then)
        what = _named(what)
    if isinstance(what, Extractor):
        return what.name, "extractor", lambda then: _accuracies(what, then)
    if isinstance(what, Score):
        return what.label(), "score", lambda then: _distribution(what, then)
    if isinstance(what, ExampleScore):
        return what.label(), "example_score", lambda then: _by_split(what, then)
    if isinstance(what, Analysis):
        return what.label(), "analysis", lambda then: (what(then).to_frame(), torch.empty(0))
    raise ConfigError(
        f"expected a name, an Extractor, a Score, an ExampleScore or an Analysis; got a {type(what).__name__}"
    )


def of_states(what: What | Plugin, subject: Subject) -> tuple[str, Kind, Measure]:
    """Return the same for a measurement of single states of a run.

    Raises:
        UnknownNameError: nothing has this name; the message suggests the nearest.
        ConfigError: several kinds share the name, it is something else, or reads whole runs.
    """
    name, kind, measure = measurement(what)
    plugin = _named(name) if isinstance(what, str) and kind in ("analysis", "example_score") else what
    if isinstance(plugin, ExampleScore):
        check_of_one_state(plugin)
    if isinstance(plugin, Analysis):
        if plugin.wants() == {"run"}:
            raise ConfigError(f"{name!r} reads a whole run: call it on the subject")
        call = _of_run(plugin, subject)
        return name, kind, lambda then: (call(then).to_frame(), torch.empty(0))
    return name, kind, measure


def check_of_one_state(what: ExampleScore) -> None:
    """Reject a score of examples that is undefined for a single checkpoint.

    Raises:
        ConfigError: it reads or trains whole runs.
    """
    if not what.of_one_state():
        last = any(field.name == "checkpoints" for field in dataclasses.fields(what))
        hint = f', or follow "{what.name}(checkpoints=last)"' if last else ""
        raise ConfigError(f"{what.label()!r} reads or trains whole runs: use mm.example_scores{hint}")


def _of_run(what: Analysis, subject: Subject) -> Callable[[Subject], Result]:
    try:
        return what.for_run(subject)
    except MissingNeedError:
        return what  # fails again at each checkpoint, whose row then gives the reason


def _named(name: str) -> Extractor | Plugin:
    chains = {RAW: Extractor, **plugins("surgeries"), **plugins("readouts")}
    kinds: dict[str, Mapping[str, Any]] = {"extractors": chains}
    kinds |= {kind: plugins(kind) for kind in ("neuron_scores", "analyses", "example_scores")}
    first = re.split(r"[(@]", split_outside(name, "+")[0])[0].strip()
    homes = [kind for kind, names in kinds.items() if first in names]
    homes = homes or [kind for kind, names in kinds.items() if PLUGINS.get(first) in names]
    if len(homes) > 1:
        both = " and of ".join(home.replace("_", " ") for home in homes)
        raise ConfigError(f"{first!r} is the name of {both}: pass the plugin itself")
    if not homes:
        every = sorted({name for names in kinds.values() for name in names} | {STRUCTURE, DISCOVER_RULE})
        nearest = difflib.get_close_matches(first.lower(), every, n=1, cutoff=0.5)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        kinds_said = "an extractor, a neuron score, an analysis or an example score (`mechmem list` prints them)"
        asked = name if len(name) <= 80 else f"{name[:79]}…"
        raise UnknownNameError(f"no measurement {asked!r}.{hint} Name {kinds_said}, {STRUCTURE!r} or {DISCOVER_RULE!r}")
    return extractor(name) if homes == ["extractors"] else named(homes[0], name)


def _accuracies(each: Extractor, subject: Subject) -> tuple[pd.DataFrame, Tensor]:
    cells = split_accuracies(each(subject), subject.task)
    rows = [{"split": split, **_numbers(cell.estimate), "reason": cell.reason} for split, cell in cells.items()]
    return pd.DataFrame(rows), torch.empty(0)


def _structure(subject: Subject) -> tuple[pd.DataFrame, Tensor]:
    found = held_out_structure(subject)
    figures = {"S": found.S, "kappa": found.kappa, "heldout_vote": found.heldout_vote}
    figures["Z"] = None if found.Z is None else Estimate(found.Z, math.nan, math.nan, found.n_test - found.n_left_out)
    said = {"verdict": found.verdict, "reason": found.reason}
    rows = [{"quantity": key, **_numbers(value), **said} for key, value in figures.items()]
    return pd.DataFrame(rows), torch.empty(0)


def _rule(by: str, subject: Subject) -> tuple[pd.DataFrame, Tensor]:
    rule = discover_rule(subject, by)
    said = {"verdict": rule.group or rule.found.kind, "reason": ""}
    figures = {name: getattr(rule, name) for name in ("agreement", "contradicted", "noise_left")}
    figures["latin"] = Estimate(rule.latin, math.nan, math.nan, rule.found.order)
    rows = [{"quantity": key, **_numbers(value), **said} for key, value in figures.items()]
    return pd.DataFrame(rows), torch.empty(0)


def _distribution(each: Score, subject: Subject) -> tuple[pd.DataFrame, Tensor]:
    found = each(subject)
    if not isinstance(found, NeuronScores):
        raise MissingNeedError(f"{each.label()!r} gives a {type(found).__name__}, not one number per neuron")
    values = found.values.double()
    return pd.DataFrame([described(values)]), values


def _by_split(each: ExampleScore, subject: Subject) -> tuple[pd.DataFrame, Tensor]:
    found = each(subject)
    names = np.array(split_names(subject.task.is_noisy(found.ids), len(found.ids)))
    rows = [{"split": name, **described(found.values[torch.from_numpy(names == name)])} for name in np.unique(names)]
    return pd.DataFrame(rows), found.values


def described(values: Float[Tensor, " unit"]) -> dict[str, Any]:
    """Return mean and quantiles; a quantile among infinite values is infinite."""
    quantiles = np.quantile(values.numpy(), QUANTILES, method="inverted_cdf" if values.isinf().any() else "linear")
    named = {f"q{100 * q:02.0f}": value for q, value in zip(QUANTILES, quantiles, strict=True)}
    return {"mean": float(values.mean()), **named, "n": len(values), "reason": ""}


def _numbers(found: Estimate | None) -> dict[str, float]:
    return dataclasses.asdict(found or UNKNOWN)
