"""Training data: inputs, given and true labels, splits, stable ids."""
