"""Scores of neurons. One file is one score."""
