"""Numbers per neuron: scores, pruning curves, flipping sets."""
