"""Rates of every verdict over many draws, for the calibration page: python tests/support/verdict_rates.py OUT.csv

It takes most of an hour (OMP_NUM_THREADS=1). Seeds begin at 1000: the thresholds were chosen on lower ones.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from verdict_draws import NULLS, PLANTS, STRENGTHS, TRAINED, Draw, Setting, rule, structure

from mechmem.scorecard.structure import Structure

DRAWS = 300
FIRST = 1000
AT_ONCE = 25
VERDICTS = ("rule", "trace", "another_rule", "labels_only", "refused")
SETTINGS = (Setting(31, 0.8, 0.8), Setting(31, 0.8, 0.3), Setting(31, 0.5, 0.35), Setting(59, 0.8, 0.3))


def drawn(draw: Draw, setting: Setting, draws: int = DRAWS) -> Iterator[Structure]:
    """Yield the held-out structure of each draw, on a task with the same seed."""
    for seed in range(FIRST, FIRST + draws):
        task = setting.task(seed)
        yield structure(draw(task, seed), task)


def trained(name: str, draws: int = DRAWS) -> Iterator[Structure]:
    """Yield the held-out structure of networks trained on the labels of tasks with different seeds."""
    network, noise = TRAINED[name]
    setting = Setting(31, 0.8, noise)
    for start in range(FIRST, FIRST + draws, AT_ONCE):
        seeds = range(start, min(start + AT_ONCE, FIRST + draws))
        tasks = [setting.task(seed, network.symmetric) for seed in seeds]
        for logits, task in zip(network.logits(tasks, seed=start), tasks, strict=True):
            yield structure(logits, task)


def line(kind: str, name: str, setting: Setting, found: Iterable[Structure]) -> dict[str, object]:
    """Return one line of the table."""
    found = list(found)
    counted = Counter(each.verdict for each in found)
    kappa = [each.kappa.value for each in found if each.kappa is not None]
    unseen = [each.n_test - each.n_left_out for each in found]
    return {
        "kind": kind,
        "logits": name,
        "p": setting.p,
        "train_fraction": setting.fraction,
        "noise": setting.noise,
        "draws": len(found),
        "cells": round(float(np.mean(unseen))),
        "kappa": round(float(np.mean(kappa)), 3) if kappa else None,
        **{verdict: counted[verdict] / len(found) for verdict in VERDICTS},
    }


def lines() -> Iterator[dict[str, object]]:
    """Yield every line, those that take longest last."""
    for setting in SETTINGS:
        for kind, draws in (("no rule", NULLS), ("plant", PLANTS)):
            for name, draw in draws.items():
                if setting.p < 59 or "ridge" not in name:  # one system of 2785 equations a draw
                    yield line(kind, name, setting, drawn(draw, setting))
        for kappa in STRENGTHS:
            yield line("rule", f"the rule at κ = {kappa}", setting, drawn(rule(kappa), setting))
    yield from trained_lines()


def trained_lines() -> Iterator[dict[str, object]]:
    """Yield the lines of trained networks."""
    for name, (_, noise) in TRAINED.items():
        yield line("trained", name, Setting(31, 0.8, noise), trained(name))


if __name__ == "__main__":
    pd.DataFrame(list(lines())).to_csv(Path(sys.argv[1]), index=False)
