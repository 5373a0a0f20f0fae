"""Analyses of training examples."""
