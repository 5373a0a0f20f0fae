"""Engines, one per file."""
