"""Numbers per training example: scores, influence, and what training without an example changes."""
