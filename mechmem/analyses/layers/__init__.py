"""Analyses of layers."""
