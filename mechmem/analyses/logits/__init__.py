"""Analyses of logits on the grid of inputs. One file is one analysis."""
