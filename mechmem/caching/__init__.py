"""The one door into a model: names of hook points in, read-only activations out."""

from mechmem.caching.cache import Activations
from mechmem.caching.edits import check_edit, other_values
from mechmem.caching.reading import activations
from mechmem.caching.reductions import Gram, Mean, Reduction, Variance
from mechmem.models.hooking import hooked, leftover_hooks
from mechmem.models.vocabulary import HookPoints, hook_points

__all__ = [
    "Activations",
    "Gram",
    "HookPoints",
    "Mean",
    "Reduction",
    "Variance",
    "activations",
    "check_edit",
    "hook_points",
    "hooked",
    "leftover_hooks",
    "other_values",
]
