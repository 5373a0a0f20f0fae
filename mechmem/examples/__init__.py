"""Numbers per training example: scores, wrong-label detection, influence, data value."""
