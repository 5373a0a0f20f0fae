"""Tell what a trained network memorized, what it generalized, and whether hidden accuracy is in the network."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
