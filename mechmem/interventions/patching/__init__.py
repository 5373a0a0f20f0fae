"""Activation patching and path patching between runs."""
