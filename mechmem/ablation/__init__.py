"""Cumulative ablation: what becomes of the four accuracies as neurons are removed, one group after another."""

from mechmem.ablation.cumulative import ablate
from mechmem.ablation.curves import PruningCurves

__all__ = ["PruningCurves", "ablate"]
