"""Callbacks that record a user's own training in HuggingFace Trainer, Lightning, skorch or Keras."""
