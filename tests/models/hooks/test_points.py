import pytest
from hooked_models import Loop
from torch import nn
from transformer_lens.hook_points import HookPoint

from mechmem.errors import UnknownNameError
from mechmem.models.hooks.points import HookPoints, hook_points


class Twice(nn.Module):
    """A part that stands at two places."""

    def __init__(self):
        super().__init__()
        self.first = Loop()
        self.again = self.first
        self.hook_end = HookPoint()


def test_a_point_with_two_names_is_listed_once_and_found_by_both():
    model = Twice()
    found = hook_points(model)
    assert list(found) == ["first.hook_in", "first.hook_state", "first.hook_out", "hook_end"] and len(found) == 4
    assert found["again.hook_in"] is found["first.hook_in"] is model.first.hook_in
    assert "again.hook_in" in found and "again.hook_on" not in found and 3 not in found
    assert found.get("again.hook_on") is None and found.get("hook_end") is model.hook_end
    assert found.names("again.hook_out") == ("first.hook_out", "again.hook_out")
    with pytest.raises(UnknownNameError, match="no hook point 'again.hook_on'. Did you mean 'first.hook_in'"):
        found["again.hook_on"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", ["first.hook_in", "first.hook_state", "first.hook_out", "hook_end"]),
        ("*.hook_[io]*", ["first.hook_in", "first.hook_out"]),
        ("again.*", ["again.hook_in", "again.hook_state", "again.hook_out"]),
        ("again.hook_in", ["again.hook_in"]),
    ],
)
def test_a_pattern_never_yields_a_point_twice(pattern, names):
    found, withheld = hook_points(Twice()).matching(pattern)
    assert list(found) == names and withheld == {}


def test_a_pattern_that_matches_nothing_is_an_error():
    with pytest.raises(UnknownNameError, match=r"no hook point 'blocks\.\*'"):
        hook_points(Twice()).matching("blocks.*")
    assert list(hook_points(nn.Linear(2, 2))) == []
    with pytest.raises(
        UnknownNameError, match=r"no hook point '\*': the network has none; mm.attach\(model\) gives it some"
    ):
        hook_points(nn.Linear(2, 2)).matching("*")


def test_a_withheld_point_gives_the_reason():
    good, bad = HookPoint(), HookPoint()
    found = HookPoints([("good", good), ("bad", bad)], {bad: "is bad"})
    assert list(found) == ["good"] and "bad" not in found
    assert found.matching("*") == ({"good": good}, {"bad": "is bad"})
    for call in (lambda: found["bad"], lambda: found.matching("bad"), lambda: found.matching("b*")):
        with pytest.raises(LookupError, match="'bad' is bad"):
            call()
