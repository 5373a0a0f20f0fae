"""Which axis of a point holds which unit: what is known, what is asked for, and what is refused instead of guessed."""

import pytest
import torch
from hooked_networks import CHANNELS, Convolutional, Transformer, noisy_task, subject_of
from torch import nn
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.errors import ConfigError
from mechmem.interventions.layouts import layout_of
from mechmem.interventions.runs import layouts_at


def attached(*modules, inputs=(1, 5, 5)):
    draw = torch.Generator().manual_seed(0)
    data, labels = torch.randn(12, *inputs, generator=draw), torch.arange(12) % 3
    return mm.Subject(mm.attach(nn.Sequential(*modules)), mm.ArrayTask(data, labels, labels, torch.arange(12) < 8))


def pictures():
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 3)
    return attached(*layers)


@pytest.mark.parametrize("point", ["0.hook_out", "1.hook_out", "2.hook_out", "3.hook_out"])
@pytest.mark.parametrize(
    "edit", [{"neurons": "each"}, {"heads": "each"}, {"positions": "each"}, {"heads": 1, "neurons": 0}, {"neurons": 0}]
)
def test_columns_and_rows_of_a_picture_are_no_units(point, edit):
    subject = pictures()
    with pytest.raises(
        ConfigError, match=r"no (neurons|heads|positions): .*; here ask for channels: units=\"channel\""
    ):
        mm.intervene(subject, mm.Edit(point, **edit))
    pairs = {"ids": torch.tensor([0, 1]), "donor_ids": torch.tensor([2, 3])}
    for units in ("neuron", "head", "position"):
        with pytest.raises(ConfigError, match=f"no {units}s: "):
            mm.patch(subject, at=point, units=units, **pairs)
    with pytest.raises(ConfigError, match="no neurons"):
        mm.ablate(subject, at=point, order="random")
    assert mm.patch(subject, at=point, units="channel", **pairs).units[1] == f"{point}[channel 1]"
    assert mm.ablate(subject, at=point, order="random", units="channel", points=2).width == 4
    found = mm.intervene(subject, mm.Edit(point, channels="each")).to_frame()
    assert found["channel"].tolist() == [c for c in range(4) for _ in range(4)] and found["neuron"].isna().all()


def test_the_default_layer_of_a_convolutional_network_has_channels():
    subject = subject_of(Convolutional)
    with pytest.raises(ConfigError, match="'hook_second' has shape .* no neurons"):
        mm.ablate(subject, order="random")
    assert mm.ablate(subject, order="random", units="channel", points=1).width == CHANNELS


def axes(subject, point):
    shape = tuple(mm.activations(subject, point, subject.task.ids[:1])[point].shape[1:])
    return layout_of(subject, point, shape).axes


def test_axes_are_those_of_the_module_the_role_or_the_name():
    subject = subject_of(Transformer)
    assert axes(subject, "blocks.0.attn.hook_z") == ("position", "head", "neuron")
    assert axes(subject, "blocks.0.hook_post") == ("position", "neuron")
    sequences = attached(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3), inputs=(2, 4))
    assert axes(sequences, "0.hook_out") == ("channel", "place")
    assert axes(sequences, "1.hook_out") == ("position", "neuron")
    assert axes(sequences, "3.hook_out") == ("neuron",)
    last = attached(nn.Linear(5, 4), nn.LayerNorm(4), nn.GELU(), nn.Flatten(), nn.Linear(20, 3))
    assert axes(last, "0.hook_out") == axes(last, "1.hook_out") == ("place", "place", "neuron")
    assert axes(last, "2.hook_out") == ("", "", "")
    assert mm.intervene(last, mm.Edit("0.hook_out", neurons=3)).edits == ("0.hook_out[neuron 3] → zero",)
    with pytest.raises(ConfigError, match="no channels: channels are on the second axis"):
        mm.intervene(last, mm.Edit("0.hook_out", channels=0))


class Patterned(nn.Module):
    """Attention whose points have TransformerLens's names, and no roles."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(5, 8), nn.Linear(8, 5)
        self.hook_q, self.hook_pattern, self.hook_mine = HookPoint(), HookPoint(), HookPoint()

    def forward(self, pairs):
        stream = self.embed(torch.cat([pairs, pairs[:, :1]], 1)).unflatten(-1, (2, 4))
        q = self.hook_mine(self.hook_q(stream))
        pattern = self.hook_pattern(torch.einsum("eqhd,ekhd->ehqk", q, stream).softmax(-1))
        return self.out(torch.einsum("ehqk,ekhd->eqhd", pattern, stream)[:, -1].flatten(1))


def test_names_of_transformer_lens_tell_heads_from_positions():
    torch.manual_seed(0)
    subject = mm.Subject(Patterned().double(), noisy_task())
    assert axes(subject, "hook_q") == ("position", "head", "neuron")
    assert axes(subject, "hook_pattern") == ("head", "query", "key")
    found = mm.intervene(subject, mm.Edit("hook_pattern", heads="each"), ids=subject.task.train_ids)
    value = mm.activations(subject, "hook_pattern")["hook_pattern"]
    gone = [
        mm.intervene(subject, mm.Edit("hook_pattern", v), ids=subject.task.train_ids).logits[0] for v in zeroed(value)
    ]
    torch.testing.assert_close(found.logits, torch.stack(gone))
    with pytest.raises(ConfigError, match="no positions"):
        mm.intervene(subject, mm.Edit("hook_pattern", positions=0))
    with pytest.raises(ConfigError, match="no channels"):
        mm.intervene(subject, mm.Edit("hook_q", channels=0))
    # The same values at a point that nothing is known of: heads, once its role says so.
    with pytest.raises(ConfigError, match="of points of the role heads"):
        mm.intervene(subject, mm.Edit("hook_mine", heads=0))
    known = mm.Subject(subject.model, subject.task, mm.Roles(heads=("hook_mine",)))
    there, named = (mm.intervene(known, mm.Edit(p, heads=0, positions=1)).logits for p in ("hook_mine", "hook_q"))
    torch.testing.assert_close(there, named)


def zeroed(value):
    for head in range(2):
        changed = value.clone()
        changed[:, head] = 0
        yield changed


def test_a_firing_and_an_element_have_the_layout_of_their_module():
    relu = nn.ReLU()
    subject = attached(nn.Conv2d(1, 4, 3), relu, nn.Conv2d(4, 4, 1), relu, nn.Flatten(), nn.Linear(36, 3))
    found, note = layouts_at(subject, ["1.hook_out#1", "2.hook_*"])
    assert [layout.axes for layout in found["1.hook_out#1"]] == [("", "", "")] and not note
    assert [layout.axes for layout in found["2.hook_*"]] == [("channel", "place", "place")]
