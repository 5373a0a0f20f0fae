"""Analyses of layers. One file is one analysis."""
