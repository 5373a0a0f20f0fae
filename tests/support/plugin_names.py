"""Plugins by name, one short word per kind."""

import functools

from mechmem.core.plugins import named

score = functools.partial(named, "neuron_scores")
example_score = functools.partial(named, "example_scores")
analysis = functools.partial(named, "analyses")
