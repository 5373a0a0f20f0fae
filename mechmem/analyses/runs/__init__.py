"""Analyses of training runs. One file is one analysis."""
