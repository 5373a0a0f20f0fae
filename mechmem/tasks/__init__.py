"""What networks are trained on: inputs, given and true labels, splits, and stable ids."""
