import dataclasses
import inspect

import pytest
import torch

import mechmem as mm
from mechmem.core.needs import KNOWLEDGE
from mechmem.core.plugins import plugins
from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError

NAMES = [
    "raw",
    "frequency",
    "frequency_rest",
    "random_frequency",
    "random_frequency(part=R,seed=3)",
    "relu",
    "gelu",
    "quadratic",
    "reverse_relu",
    "frequency+quadratic",
    "quadratic+frequency",
    "frequency+additive_free",
    "additive_free",
    "diagonal",
    "energy_ranked",
    "energy_ranked(modes=3)",
    "frequency+quadratic+energy_ranked(modes=2)",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_round_trip(name):
    chain = mm.extractor(name)
    assert chain.name == name
    assert mm.extractor(chain.name) == chain


@pytest.mark.parametrize(
    "written, canonical",
    [
        ("logits", "raw"),
        (" frequency + quadratic ", "frequency+quadratic"),
        ("frequency+raw", "frequency"),
        ("frequency+logits", "frequency"),
        ("frequency(part=R)", "frequency_rest"),
        ("frequency(R)", "frequency_rest"),
        ("frequency( part = 'R' )", "frequency_rest"),
        ("frequency(G)", "frequency"),
        ("frequency()", "frequency"),
        ("activation(to=quadratic)", "quadratic"),
        ("activation(quadratic)", "quadratic"),
        ("energy_ranked(3)", "energy_ranked(modes=3)"),
        ("energy_ranked(0)", "energy_ranked"),
        ("random_frequency(R,7)", "random_frequency(part=R,seed=7)"),
        ("random_frequency(seed=7,R)", "random_frequency(part=R,seed=7)"),
    ],
)
def test_settings_are_read_by_name_or_in_order(written, canonical):
    assert mm.extractor(written).name == canonical


@pytest.mark.parametrize(
    "name, message",
    [
        ("frequncy", "no extractor 'frequncy'. Did you mean 'frequency'"),
        ("frequency+quadratc", "Did you mean 'quadratic'"),
        ("Raw", "no extractor 'Raw'. Did you mean 'raw'"),
        ("frequency(prt=R)", "no setting of 'frequency' 'prt'. Did you mean 'part'"),
        ("frequency(part=X)", "no part of a filtration 'X'"),
        ("random_frequency(part=X)", "no part of a filtration 'X'"),
        ("activation(rellu)", "no activation 'rellu'. Did you mean 'relu'"),
    ],
)
def test_unknown_names_come_with_the_nearest(name, message):
    with pytest.raises(UnknownNameError, match=message):
        mm.extractor(name)


@pytest.mark.parametrize(
    "name, message",
    [
        ("", "cannot read extractor ''"),
        ("+", "cannot read"),
        ("frequency+", "cannot read"),
        ("frequency(part=R", "cannot read"),
        ("frequency)+(raw", "cannot read"),
        ("additive_free+frequency", "'additive_free' is a readout and must come last"),
        ("raw+frequency", "'logits' is a readout and must come last"),
        ("frequency(R,G)", "takes no further setting, got 'G'"),
        ("additive_free(3)", "takes no further setting"),
        ("activation", "'activation' needs the settings to"),
        ("energy_ranked(modes=-1)", "number of modes must be a whole number of at least 0"),
        ("energy_ranked(modes=many)", "whole number"),
        ("random_frequency(seed=x)", "seed must be a whole number"),
    ],
)
def test_names_that_cannot_be_read(name, message):
    with pytest.raises(ConfigError, match=message):
        mm.extractor(name)


def test_a_chain_knows_and_cites_what_its_parts_do():
    chain = mm.extractor("frequency+additive_free")
    assert chain.knows == {"pairs", "input_group", "output_group", "slopes", "test_inputs"}
    assert "2605.18022" in chain.cites and "mechmem" in chain.cites
    assert mm.extractor("raw").knows == frozenset()


def test_control_of_a_chain_keeps_its_settings():
    assert mm.extractor("frequency+quadratic").control().name == "random_frequency+quadratic"
    assert mm.extractor("frequency_rest+additive_free").control().name == "random_frequency(part=R)+additive_free"
    assert mm.extractor("raw").control() is None
    assert mm.extractor("random_frequency").control() is None
    assert mm.extractor("keep(ipr,.3)").control().name == "keep(by=random,fraction=0.3)"
    assert mm.extractor("drop+frequency").control().name == "drop(by=random)+random_frequency"
    assert mm.extractor("keep(random)").control() is None


def test_what_is_missing_is_said_before_and_refused_after(planted):
    subject = dataclasses.replace(planted.subject, roles=mm.Roles())
    chain = mm.extractor("frequency+quadratic")
    assert chain.missing(subject) == ["role:activation", "role:input_embedding", "role:readout"]
    assert chain.missing(planted.subject) == []
    with pytest.raises(MissingNeedError, match="'frequency' needs role:input_embedding, role:readout"):
        chain(subject)


def test_surgeries_apply_in_order_to_copies(planted):
    before = {name: p.detach().clone() for name, p in planted.subject.model.named_parameters()}
    ids = planted.subject.task.ids
    chained = mm.extractor("frequency+relu")(planted.subject)(ids)
    frequency, relu = mm.extractor("frequency").surgeries[0], mm.extractor("relu").surgeries[0]
    by_hand = relu(frequency(planted.subject)).model(planted.subject.task.batch(ids)[0])
    torch.testing.assert_close(chained, by_hand.detach())
    for name, parameter in planted.subject.model.named_parameters():
        assert torch.equal(parameter, before[name])


@pytest.mark.parametrize("kind", ["surgeries", "readouts"])
def test_every_plugin_is_frozen_and_says_what_it_is(kind):
    for name, cls in plugins(kind).items():
        assert dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen, name
        assert cls.name and cls.cites and inspect.getdoc(cls), name
        assert cls.knows <= set(KNOWLEDGE), name
        assert name == cls.name or name in cls.aliases


def test_unknown_kind_of_plugin():
    with pytest.raises(UnknownNameError, match="no plugin kind 'surgery'. Did you mean 'surgeries'"):
        plugins("surgery")


def test_an_extractor_that_is_no_name_is_refused():
    with pytest.raises(ConfigError, match="name must be a string, got 3"):
        mm.extractor(3)
