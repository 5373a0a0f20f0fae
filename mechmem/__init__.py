"""Tell what a trained network memorized, what it generalized, and whether hidden accuracy is in the network."""

import difflib
import importlib.metadata

import lazy_loader

__version__ = importlib.metadata.version("mechmem")

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    """Load a public name when it is first used, and refuse any other with the nearest one."""
    if name in __all__:
        return _load(name)
    from mechmem.core.renamed import PUBLIC, current

    if name in PUBLIC:
        return _load(current(name, PUBLIC, "mechmem."))
    nearest = difflib.get_close_matches(name, __all__, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else "; dir(mechmem) lists its public names"
    raise AttributeError(f"mechmem has no {name!r}{hint}")
