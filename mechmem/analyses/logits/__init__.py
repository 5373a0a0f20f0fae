"""Analyses of logits on the grid of inputs."""
