"""What each layer holds, and what a probe reads from it."""
