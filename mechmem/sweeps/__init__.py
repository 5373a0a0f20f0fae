"""Many trainings: grids of settings, shared between processes and machines, measured into one table."""
