"""The one door into a model: names of hook points in, read-only activations out."""
