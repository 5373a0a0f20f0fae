"""Analyses of training examples. One file is one analysis."""
