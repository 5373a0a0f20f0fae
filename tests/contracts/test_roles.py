"""Roles that read a parameter in another shape than needed: one typed error that names the role, or no use of it."""

import dataclasses

import pytest
from plugin_names import analysis, example_score, score

import mechmem as mm
from mechmem.core.plugins import KINDS, plugins
from mechmem.errors import MechmemError, RoleError
from mechmem.scorecard.extractor import extractor

NAMES = [(kind, name) for kind in KINDS for name in plugins(kind) if name != "activation"]
PLUGIN = {"neuron_scores": score, "example_scores": example_score, "analyses": analysis}


def turned(role):
    """The role with its last two axes exchanged, as if the swap had been forgotten; of one axis, with a second one."""
    stored, shown = role.pattern.split("->")
    axes = shown.split()
    exchanged = [*axes[:-2], axes[-1], axes[-2]] if len(axes) > 1 else [*axes, "1"]
    return dataclasses.replace(role, pattern=f"{stored} -> {' '.join(exchanged)}")


def used(kind, name, subject):
    if kind in PLUGIN:
        return PLUGIN[kind](name)(subject)
    return extractor(name)(subject)(subject.task.ids)


@pytest.mark.parametrize("role", ["input_embedding", "readout", "bias"])
@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_a_role_of_another_shape_is_one_typed_error(kind, name, role, chosen):
    plugin = PLUGIN[kind](name) if kind in PLUGIN else extractor(name)
    needs = plugin.wants() if kind in PLUGIN else {need for part in plugin.parts for need in part.wants()}
    subject = chosen(needs)
    own = getattr(subject.roles, role)
    if own is None:
        pytest.skip("it has no such role")
    wrong = dataclasses.replace(subject, roles=dataclasses.replace(subject.roles, **{role: turned(own)}))
    try:
        used(kind, name, wrong)
    except MechmemError as error:
        assert "\n" not in str(error) and len(str(error)) < 600
        assert not isinstance(error, RoleError) or role in str(error)


def test_the_default_scorecard_and_the_rule_name_the_role(subject):
    wrong = dataclasses.replace(
        subject, roles=dataclasses.replace(subject.roles, readout=turned(subject.roles.readout))
    )
    for call in (mm.audit, mm.discover_rule, lambda it: mm.audit(it, "frequency")):
        with pytest.raises(RoleError, match=r"readout must read as \(24, 7\), but reads as \(7, 24\)"):
            call(wrong)
