"""Names, patterns, classes and paths resolve to the points that they say, or to an error that says why not."""

import pytest
import torch
from foreign_networks import ResNet, Shared, Tagger, seeded, sequential
from torch import nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.errors import ConfigError, UnknownNameError


def points(model, *named, **settings):
    return list(mm.attach(model, *named, **settings).hook_dict)


CHOICES = {
    "a name": (("layer1.0.conv1",), ["layer1.0.conv1.hook_out"]),
    "a pattern": (("layer*.*.relu",), [f"layer{s}.{b}.relu.hook_out" for s in (1, 2) for b in (0, 1)]),
    "a star stands for dots": (("*downsample*",), [f"layer2.0.downsample{x}.hook_out" for x in ("", ".0", ".1")]),
    "a class": ((nn.AdaptiveAvgPool2d,), ["avgpool.hook_out"]),
    "the root": (("",), ["hook_out"]),
    "a path": (("fc:0",), ["fc.hook_out.0"]),
    "a path in a path": (("fc:past.1",), ["fc.hook_out.past.1"]),
    "a path of the root": ((":logits",), ["hook_out.logits"]),
    "a path for a pattern": (("layer1.*.relu:0",), [f"layer1.{b}.relu.hook_out.0" for b in (0, 1)]),
    "a point": (("fc.hook_in",), ["fc.hook_in"]),
    "a point with a path": (("fc.hook_in:x", "bn1.hook_out.1"), ["bn1.hook_out.1", "fc.hook_in.x"]),
    "the root's point": (("hook_out",), ["hook_out"]),
    "several, in the network's order": (("fc", "conv1", nn.AdaptiveAvgPool2d, "f*"), ["conv1", "avgpool", "fc"]),
}


@pytest.mark.parametrize("case", CHOICES)
def test_points_are_where_they_are_named(case):
    named, expected = CHOICES[case]
    expected = [name if "hook_" in name else f"{name}.hook_out" for name in expected]
    assert points(ResNet(), *named) == expected


def test_without_a_name_every_module_that_is_called_has_a_point():
    names = [name for name, module in Tagger().named_modules() if not isinstance(module, nn.ModuleDict)]
    assert points(Tagger()) == points(Tagger(), "*") == [f"{name}.hook_out".lstrip(".") for name in names]
    assert points(sequential(), "0", inputs=True) == ["0.hook_in", "0.hook_out"]
    assert points(nn.ReLU(), inputs=True) == ["hook_in", "hook_out"]


def test_a_path_takes_the_place_of_a_pattern_but_not_of_a_name():
    assert points(Tagger(), "*", "lstm:0", ":logits") == [
        *("hook_out.logits", "embed.hook_out", "lstm.hook_out.0"),
        *("heads.tag.hook_out", "heads.unused.hook_out"),
    ]
    assert points(Tagger(), "lstm", "lstm:0", "lstm:1.0") == ["lstm.hook_out", "lstm.hook_out.0", "lstm.hook_out.1.0"]
    assert points(Tagger(), nn.Embedding, "embed:0", inputs=True) == ["embed.hook_in", "embed.hook_out.0"]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("layer1.0.conv", r"no module 'layer1.0.conv'. Did you mean 'layer1.0.conv\d'\? One of: avgpool"),
        ("Layer1", "Did you mean 'layer1'"),
        ("layer9.*", r"no module 'layer9.\*'"),
        (nn.Conv3d, "no module of class 'Conv3d'. Did you mean 'Conv2d'. One of: AdaptiveAvgPool2d"),
        ("layer1.0.conv.hook_in", "no module 'layer1.0.conv'. Did you mean"),
    ],
)
def test_what_matches_nothing_names_the_nearest(named, message):
    with pytest.raises(UnknownNameError, match=message):
        mm.attach(ResNet(), named)


def test_what_is_never_called_or_has_another_name_says_so():
    with pytest.raises(UnknownNameError, match="'heads' is a ModuleDict, which is never called"):
        mm.attach(Tagger(), "heads")
    with pytest.raises(UnknownNameError, match="'again' is the same module as 'first', .*; name it 'first'"):
        mm.attach(Shared(), "again")


class WithPoints(HookedRootModule):
    def __init__(self):
        super().__init__()
        self.hook_hidden = HookPoint()
        self.setup()


REFUSED = {
    "no module": (3, "attach takes a torch.nn.Module, got int"),
    "a class": (ResNet, r"not its class: ResNet\(\) makes one"),
    "empty": (nn.ModuleList(), "nothing to attach to: no module of this ModuleList has a forward"),
    "bare": (nn.Module(), "nothing to attach to: no module of this Module"),
    "its own points": (WithPoints(), "WithPoints has hook points of its own and needs no attaching"),
    "points inside": (nn.Sequential(WithPoints()), "Sequential has hook points of its own"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_have_points_is_refused(case, unchecked_shapes):
    model, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message):
        mm.attach(model)


@pytest.mark.parametrize("point", [3, None, ["0", "1"], torch.relu, int])
def test_a_point_is_a_name_or_a_class_of_modules(point, unchecked_shapes):
    with pytest.raises(ConfigError, match="a point is a module's name, a pattern or a class of modules"):
        mm.attach(sequential(), point)


def test_lists_and_empty_paths_have_messages_of_their_own(unchecked_shapes):
    with pytest.raises(ConfigError, match=r"one by one: attach\(model, 'a', 'b'\)"):
        mm.attach(sequential(), ["0", "1"])
    with pytest.raises(ConfigError, match="'0:' has no path after its colon"):
        mm.attach(sequential(), "0:")


def test_a_compiled_network_is_refused():
    model = sequential()
    model.compile(backend="eager")
    with pytest.raises(ConfigError, match="a compiled network may ignore hooks"):
        mm.attach(model)
    with pytest.raises(ConfigError, match="a compiled network"):
        mm.attach(torch.compile(sequential(), backend="eager"))


def test_a_refused_attach_leaves_nothing(draw):
    model = seeded(ResNet)
    before = {name: {key: str(value) for key, value in vars(m).items()} for name, m in model.named_modules()}
    with pytest.raises(UnknownNameError):
        mm.attach(model, "conv1", "typo")
    assert before == {name: {key: str(value) for key, value in vars(m).items()} for name, m in model.named_modules()}
