"""Scores by name."""

from __future__ import annotations

from mechmem.grammar import build
from mechmem.plugins import Score, plugins


def score(name: str) -> Score:
    """Parse a score's name, e.g. "ipr" or "ipr(two_sided)".

    Raises:
        UnknownNameError: there is no such score, or no such setting of it; the nearest is named.
        ConfigError: the name cannot be read, or a setting is not allowed.
    """
    found = build(plugins("scorers"), name, name, "score")
    assert isinstance(found, Score)
    return found
