"""Scores of training examples; one file each, found by being here."""
