"""Analyses of neurons."""
