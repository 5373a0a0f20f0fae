"""Runs that are cut off, and what is left of them."""


def contents(path):
    """Every file of a run, to the byte, but for hidden leftovers of a kill."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and not file.name.startswith(".")
    }


def stop_at(monkeypatch, owner, name, count, error, *, before=True):
    """Make the `count`-th call of `owner.name` raise, before or after its work."""
    original, calls = getattr(owner, name), []

    def wrapped(*args, **kwargs):
        calls.append(1)
        if before and len(calls) == count:
            raise error
        result = original(*args, **kwargs)
        if not before and len(calls) == count:
            raise error
        return result

    monkeypatch.setattr(owner, name, wrapped)
