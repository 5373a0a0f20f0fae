"""Hooked networks with named points."""
