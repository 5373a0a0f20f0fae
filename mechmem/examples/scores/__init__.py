"""Scores of training examples. One file is one score."""
