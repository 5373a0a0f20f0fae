"""Interventions: other values at hook points, many forward passes as one."""

from mechmem.interventions.edits import Edit
from mechmem.interventions.intervene import intervene
from mechmem.interventions.result import Interventions

__all__ = ["Edit", "Interventions", "intervene"]
