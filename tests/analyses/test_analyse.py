"""Analyses by name give what their classes give."""

import pandas as pd
import pytest
from torch import nn

import mechmem as mm
from mechmem.analyses.logits.suppression import Suppression
from mechmem.analyses.neurons.partition import Partition
from mechmem.core.plugins import plugins
from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError


def test_a_name_gives_what_its_class_gives(planted):
    found = mm.analyse(planted.subject, "suppression")
    pd.testing.assert_frame_equal(found.to_frame(), Suppression()(planted.subject).to_frame())


def test_settings_stand_in_the_name_or_beside_it(planted):
    wanted = Partition(by="strength")(planted.subject).to_frame()
    for found in (
        mm.analyse(planted.subject, "partition(by=strength)"),
        mm.analyse(planted.subject, "partition", by="strength"),
        mm.analyse(planted.subject, "partition(by=ipr)", by="strength"),
    ):
        pd.testing.assert_frame_equal(found.to_frame(), wanted)
    assert not Partition()(planted.subject).to_frame().equals(wanted)


def test_a_bare_network_comes_with_its_task(planted):
    subject = planted.subject
    found = mm.analyse(subject.model, "neuron_spectrum", task=subject.task)
    pd.testing.assert_frame_equal(found.to_frame(), mm.analyse(subject, "neuron_spectrum").to_frame())
    with pytest.raises(ConfigError, match="expected a Subject, or a model with its task; got HookedMLP and no task"):
        mm.analyse(subject.model, "neuron_spectrum")
    with pytest.raises(MissingNeedError, match="needs role:input_embedding"):
        mm.analyse(subject.model, "neuron_spectrum", task=subject.task, roles=mm.Roles())


def test_what_does_not_exist_is_refused_with_the_nearest(planted):
    with pytest.raises(UnknownNameError, match="no analysis 'supression'. Did you mean 'suppression'"):
        mm.analyse(planted.subject, "supression")
    with pytest.raises(UnknownNameError, match="no setting of 'clock_or_pizza' 'triple'. Did you mean 'triples'"):
        mm.analyse(planted.subject, "clock_or_pizza", triple=3)
    with pytest.raises(ConfigError, match="number of triples must be"):
        mm.analyse(planted.subject, "clock_or_pizza", triples=0)
    with pytest.raises(ConfigError, match="name must be a string, got a Suppression"):
        mm.analyse(planted.subject, Suppression())


@pytest.mark.parametrize(
    "cls", [*plugins("analyses").values(), *plugins("neuron_scores").values()], ids=lambda c: c.name
)
def test_a_network_alone_is_no_subject(cls):
    with pytest.raises(ConfigError, match=f"'{cls.name}' is called on a Subject, .*; got a Linear"):
        cls()(nn.Linear(2, 2))


def test_a_misspelt_public_name_names_the_nearest():
    with pytest.raises(AttributeError, match="mechmem has no 'atach'; did you mean 'attach'"):
        mm.atach  # noqa: B018
    with pytest.raises(AttributeError, match="dir\\(mechmem\\) lists"):
        mm.zzzzz  # noqa: B018
    assert not hasattr(mm, "nothing_of_the_kind") and set(mm.__all__) == set(dir(mm))
