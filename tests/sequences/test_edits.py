"""Edits of a network that was made to hold passages in a few of its neurons."""

import dataclasses
import math
from typing import ClassVar

import pytest
import torch
from torch import nn

import mechmem as mm
from mechmem.core.plugins import Surgery, named
from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError
from mechmem.models.networks.build import build_model

CONFIG = mm.GrammarConfig(
    vocabulary=6, order=1, sharpness=3.0, length=12, train=40, test=30, repeats=(2,), passages=4, controls=6, seed=3
)
TASK = mm.GrammarTask(CONFIG)
PASSAGES = [number for number, each in enumerate(TASK.group_names) if each == "passage" and TASK.times[number]]


class Held(nn.Module):
    """The grammar's own logits by a table, and a neuron for every passage that writes its next token."""

    def __init__(self):
        super().__init__()
        self.table = nn.Linear(6, 6, bias=False)
        self.written = nn.Linear(len(PASSAGES), 1, bias=False)
        with torch.no_grad():
            self.table.weight.copy_(TASK.grammar.tables[1].log().T)
            self.written.weight.fill_(50)
        self.register_buffer("rows", TASK.tokens[PASSAGES])

    def forward(self, prefixes):
        last = (prefixes >= 0).sum(1)
        token = prefixes.gather(1, last[:, None] - 1)[:, 0]
        alike = ((prefixes[:, None] == self.rows[None, :, :-1]) | (prefixes[:, None] < 0)).all(2) & (last > 2)[:, None]
        following = nn.functional.one_hot(self.rows[alike.long().argmax(1), last], 6).float()
        return self.table(nn.functional.one_hot(token, 6).float()) + self.written(alike.float()) * following


@dataclasses.dataclass(frozen=True)
class Cleared(Surgery):
    """Sets a parameter to zero."""

    name: ClassVar[str] = "cleared"
    cites: ClassVar[str] = "none"
    parameter: str = ""

    def __call__(self, subject):
        model = subject.copy_model()
        with torch.no_grad():
            model.get_parameter(self.parameter).zero_()
        return subject.with_model(model)


def test_an_edit_of_the_memory_has_no_price_and_one_of_the_rule_has():
    subject = mm.Subject(Held(), TASK)
    found = mm.sequence_edits(subject, [Cleared("written.weight"), Cleared("table.weight")], prefix=3, group="passage")
    assert found.sequences.tolist() == PASSAGES and found.times.tolist() == [2] * 4
    raw, forgotten, ruined = (row for _, row in found.to_frame().iterrows())
    assert raw.edit == "raw" and raw.exact == 1 and raw.price == 0
    held_out = TASK.sequences("test")
    assert raw.held_out_loss == pytest.approx(float(TASK.grammar.losses(TASK.tokens[held_out]).mean()), rel=0.05)
    assert raw.above_best == pytest.approx(raw.held_out_loss - TASK.best_loss)
    assert forgotten.exact == 0 and forgotten.memorized_loss > 2 and abs(forgotten.price) < 0.02
    assert forgotten.accuracy == 1 and forgotten.price_low <= forgotten.price <= forgotten.price_high
    assert ruined.exact == 1 and ruined.held_out_loss == pytest.approx(math.log(6), rel=0.05) and ruined.price_low > 0.2
    assert ruined.accuracy < 0.6
    figure = found.plot()
    assert [trace.name for trace in figure.data if trace.showlegend is not False] == list(found.edits)


def test_the_unedited_network_stays_as_it_is(tmp_path):
    model = build_model(mm.CausalTransformerConfig(layers=1, d_model=16, heads=2), TASK, 0)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    subject = mm.Subject(model, TASK, model.roles)
    # Any sequence whose last token it happens to predict counts as memorized.
    found = mm.sequence_edits(subject, ["low_rank(unembed.W_U,2)", "drop(random,0.5)+low_rank"], prefix=11)
    assert found.edits[0] == "raw" and len(found.edits) == 3
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())
    found.save(tmp_path / "found.safetensors")
    assert mm.load_result(tmp_path / "found.safetensors").to_frame().equals(found.to_frame())
    assert (
        mm.sequence_edits(subject, [named("surgeries", "low_rank(unembed.W_U,2)")], prefix=11).edits == found.edits[:2]
    )


@pytest.mark.parametrize(
    ("edits", "settings", "error", "message"),
    [
        (["low_rnk"], {}, UnknownNameError, "low_rnk"),
        (["raw"], {}, ConfigError, "edits beside 'raw': 'raw' is given twice"),
        (["low_rank(table.weight,2)"] * 2, {}, ConfigError, "is given twice"),
        (["knn"], {}, ConfigError, "changes weights, and 'knn' ends with the readout"),
        (["drop_memory"], {}, MissingNeedError, "example_tied"),
        ([5], {}, ConfigError, "edits must be"),
        (["low_rank(table.weight,2)"], {"group": "song"}, UnknownNameError, "no group 'song'"),
        (["low_rank(table.weight,2)"], {"prefix": 12}, ConfigError, "shorter than the sequences"),
        (["low_rank(table.weight,2)"], {"prefix": 1, "group": "passage"}, MissingNeedError, "nothing to be forgotten"),
    ],
)
def test_other_edits_are_refused(edits, settings, error, message):
    with pytest.raises(error, match=message):
        mm.sequence_edits(mm.Subject(Held(), TASK), edits, **{"prefix": 3, **settings})
