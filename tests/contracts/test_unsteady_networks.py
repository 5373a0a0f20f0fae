"""No plugin measures a network that is random in evaluation mode, or in which examples act on each other."""

import pandas as pd
import pytest
import torch
from plugin_names import analysis, example_score, score

from mechmem.core.plugins import KINDS, plugins
from mechmem.errors import MechmemError, MissingNeedError, UnsteadyNetworkError
from mechmem.scorecard.extractor import extractor

pytestmark = pytest.mark.unchecked

NAMES = [(kind, name) for kind in KINDS for name in plugins(kind) if name != "activation"]
PLUGIN = {"neuron_scores": score, "example_scores": example_score, "analyses": analysis}


def noisy(logits):
    return logits + 0.1 * torch.rand_like(logits)


def coupled(logits):
    return logits - 0.1 * logits.mean(0)


def broken(subject, how):
    """The subject with a network whose logits somebody changes."""
    model = subject.copy_model()

    def forward(self, *args):
        return how(type(self).__base__.forward(self, *args))

    model.__class__ = type("Unsteady", (type(model),), {"forward": forward})
    return subject.with_model(model)


def measured(plugin, kind, subject):
    """What the plugin finds, as a table."""
    found = plugin(subject)
    return found.to_frame() if kind in PLUGIN else pd.DataFrame(found(subject.task.ids).numpy())


@pytest.mark.parametrize("how", [noisy, coupled])
@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_a_plugin_refuses_it_unless_it_does_not_run_it(kind, name, how, chosen):
    plugin = PLUGIN[kind](name) if kind in PLUGIN else extractor(name)
    needs = plugin.wants() if kind in PLUGIN else {need for part in plugin.parts for need in part.wants()}
    subject = chosen(needs)
    try:
        found = measured(plugin, kind, broken(subject, how))
    except UnsteadyNetworkError:
        return
    except MechmemError as error:
        assert "evaluation mode" in str(error) or isinstance(error, MissingNeedError), error
        return
    assert found.equals(measured(plugin, kind, subject))
