"""Measurements of a network. One file is one analysis; a new file is found by being there."""
