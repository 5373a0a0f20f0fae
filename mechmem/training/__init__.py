"""The trainer, its run directory, and a recorder for a user's own loop."""
