"""Analyses of neurons. One file is one analysis."""
