"""The scorecard: every extractor beside its controls, what it was told, and the network's held-out structure."""
