"""Surgeries: changes to a copy of a network. One file is one surgery."""
