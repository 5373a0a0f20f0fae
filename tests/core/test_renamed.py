"""Names of the release before: they work, and a warning gives the new one."""

import dataclasses

import pytest

import mechmem as mm
from mechmem.core.plugins import ExampleScore
from mechmem.errors import MissingNeedError


@pytest.fixture
def bare(planted):
    return dataclasses.replace(planted.subject, retrainer=None)


def warned(name, new):
    """What warns, at the line of a test, that a name is now another."""
    return pytest.warns(DeprecationWarning, match=rf"^{name} is now called .*{new}; the old name goes")


def test_a_subject_takes_and_has_its_retrainer_under_its_former_name(bare):
    retrainer = object()
    with warned("Subject.recipe", "Subject.retrainer") as caught:
        subject = mm.Subject(bare.model, bare.task, bare.roles, recipe=retrainer)
    assert subject.retrainer is retrainer and len(caught) == 1
    with warned("Subject.recipe", "Subject.retrainer") as caught:
        assert subject.recipe is retrainer
    assert caught[0].filename == __file__
    with warned("Subject.recipe", "Subject.retrainer"):
        assert dataclasses.replace(subject, recipe=None).retrainer is None
    assert dataclasses.replace(subject, name="other").retrainer is retrainer


def test_a_plugin_may_need_a_retrainer_under_its_former_name(bare):
    @dataclasses.dataclass(frozen=True)
    class Retrained(ExampleScore):
        name = "retrained"
        needs = frozenset({"recipe"})

        def measure(self, subject):
            return subject.task.ids.double(), ""

    with warned("recipe", "retrainer"), pytest.raises(MissingNeedError, match="needs retrainer"):
        Retrained()(bare)
    with warned("recipe", "retrainer"):
        assert Retrained().missing(dataclasses.replace(bare, retrainer=object())) == []
    assert not Retrained().of_one_state()
