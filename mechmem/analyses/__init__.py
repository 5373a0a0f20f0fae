"""Measurements by name: of neurons, logits, layers, runs, examples; once or over training."""
