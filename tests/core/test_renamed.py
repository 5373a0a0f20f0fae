"""Names of the release before: they work, and a warning gives the new one."""

import dataclasses

import pytest

import mechmem as mm
from mechmem.core import renamed
from mechmem.core.plugins import ExampleScore, named, plugins
from mechmem.core.storage import _RECORDS
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


@pytest.mark.parametrize(("old", "new"), renamed.PUBLIC.items())
def test_a_public_name_is_found_under_its_former_one(old, new):
    with warned(f"mechmem.{old}", f"mechmem.{new}") as caught:
        assert getattr(mm, old) is getattr(mm, new)
    assert caught[0].filename == __file__
    assert new in dir(mm) and old not in dir(mm)


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("analyses", "phase", "inversion_phase"),
        ("analyses", "phases", "training_phases"),
        ("example_scores", "prediction_depth", "settled_depth"),
    ],
)
def test_a_plugin_is_found_under_its_former_name(kind, old, new):
    with warned(old, new):
        found = named(kind, old)
    assert found == named(kind, new) and type(found) is plugins(kind)[new]
    assert renamed.PLUGINS[old] == new


def test_every_renamed_plugin_is_tried():
    assert renamed.PLUGINS.keys() == {"phase", "phases", "prediction_depth"}


def test_what_kept_its_name_warns_of_nothing(planted):
    assert named("analyses", "prediction_depth").name == "prediction_depth"
    with pytest.raises(AttributeError, match="did you mean 'ScoreTable'|mechmem has no"):
        mm.ScoreTabel  # noqa: B018


def test_what_was_asked_for_under_a_former_name_is_found_in_the_result(tiny_run):
    with warned("phase", "inversion_phase"):
        found = mm.over_training(tiny_run, "phase", steps=[30])
    with warned("phase", "inversion_phase"):
        assert found.frame("phase").equals(found.frame("inversion_phase"))
    with warned("prediction_depth", "settled_depth"):
        table = mm.example_scores(tiny_run, "prediction_depth(k=3)")
    with warned("prediction_depth", "settled_depth"):
        assert table["prediction_depth(k=3)"] is table["settled_depth(k=3)"]


@pytest.mark.parametrize(("old", "new"), renamed.RECORDS.items())
def test_a_saved_result_opens_under_the_class_s_new_name(old, new):
    """What is in such files is tried in test_saved, on files that the version before wrote."""
    plugins("analyses")
    assert mm.NeuronTable and new in _RECORDS and old not in _RECORDS
