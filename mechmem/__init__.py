"""Tell what a trained network memorized, what it generalized, and whether hidden accuracy is in the network."""

import importlib.metadata

import lazy_loader

__version__ = importlib.metadata.version("mechmem")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
