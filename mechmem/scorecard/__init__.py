"""The audit: every extractor on four splits, beside its controls, with the verdict."""
