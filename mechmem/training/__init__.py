"""Config in, run out: the trainer, a recorder for other loops, networks on subsets."""
