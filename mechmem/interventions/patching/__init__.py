"""Activation patching and path patching."""
