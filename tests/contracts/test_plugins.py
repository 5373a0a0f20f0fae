"""What every plugin promises. A new file is covered the moment it exists."""

import dataclasses
import inspect
import types

import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from plugin_names import example_score, score

import mechmem as mm
from mechmem.core.needs import KNOWLEDGE
from mechmem.core.plugins import KINDS, Surgery, named, plugins
from mechmem.core.results import Result
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.models.hooks.points import hook_points
from mechmem.scorecard.extractor import extractor

EVERY = [(kind, name, cls) for kind in KINDS for name, cls in plugins(kind).items()]
CHAIN_PARTS = [name for kind, name, _ in EVERY if kind in ("surgeries", "readouts") and name != "activation"]
SCORES = [name for kind, name, _ in EVERY if kind == "neuron_scores"]
EXAMPLE_SCORES = [name for kind, name, _ in EVERY if kind == "example_scores"]
ANALYSES = [cls for kind, name, cls in EVERY if kind == "analyses" and name == cls.name]


def state(subject):
    return {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}


def hooks_left(subject):
    return sum(len(point._forward_hooks) + len(point._backward_hooks) for point in hook_points(subject.model).values())


@pytest.mark.parametrize(("kind", "name", "cls"), EVERY, ids=lambda value: getattr(value, "__name__", value))
def test_declarations(kind, name, cls):
    assert dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen
    assert cls.name and cls.cites and cls.knows <= set(KNOWLEDGE)
    assert inspect.getdoc(cls).splitlines()[0].endswith(".")
    documented = inspect.getdoc(cls)
    for field in dataclasses.fields(cls):
        assert f"{field.name}:" in documented, f"{cls.__name__} does not document {field.name}"
    if cls.control:
        assert cls.control in plugins(kind)
    if getattr(cls, "dial", ""):
        made = [dataclasses.replace(named(kind, name), **{cls.dial: value}) for value in cls.dial_values]
        assert len(made) == len(set(made)) > 1 and list(cls.dial_values) in (
            sorted(cls.dial_values),
            sorted(cls.dial_values, reverse=True),
        )


@pytest.mark.parametrize("name", CHAIN_PARTS)
def test_names_round_trip(name):
    assert extractor(extractor(name).name) == extractor(name)


@pytest.mark.parametrize("name", CHAIN_PARTS)
def test_extractors_are_deterministic_and_leave_nothing_behind(name, chosen):
    subject = chosen({need for part in extractor(name).parts for need in part.wants()})
    before, ids = state(subject), subject.task.ids
    first, second = extractor(name)(subject)(ids), extractor(name)(dataclasses.replace(subject))(ids)
    assert torch.equal(first, second)
    few = ids[[1, 3, 2]]
    for form in (few.tolist(), few.numpy()):
        assert torch.equal(extractor(name)(subject)(form), extractor(name)(subject)(few))
    assert first.shape == (len(ids), subject.task.n_classes) and torch.isfinite(first).all()
    assert all(torch.equal(tensor, before[key]) for key, tensor in subject.model.state_dict().items())
    assert hooks_left(subject) == 0


@pytest.mark.parametrize("name", CHAIN_PARTS)
def test_a_network_without_a_task_is_no_subject(name, subject, unchecked_shapes):
    with pytest.raises(ConfigError, match="Subject"):
        extractor(name)(subject.model)


@pytest.mark.parametrize("name", SCORES)
def test_scores_are_deterministic_and_leave_nothing_behind(name, subject, tmp_path):
    before = state(subject)
    found, again = score(name)(subject), score(name)(dataclasses.replace(subject))
    assert isinstance(found, mm.NeuronScores) and found.score == score(name).label()
    assert score(found.score) == score(name)
    assert torch.equal(found.values, again.values) and found.values.shape == (24,)
    assert found.higher and found.point == "hook_hidden"
    assert isinstance(found.plot(), go.Figure) and len(found.to_frame()) == 24
    found.save(tmp_path / "scores.safetensors")
    assert torch.equal(mm.NeuronScores.load(tmp_path / "scores.safetensors").values, found.values)
    assert all(torch.equal(tensor, before[key]) for key, tensor in subject.model.state_dict().items())
    assert hooks_left(subject) == 0


@pytest.mark.parametrize("name", EXAMPLE_SCORES)
def test_scores_of_examples_are_deterministic_and_leave_nothing_behind(name, chosen, tmp_path):
    subject = chosen(plugins("example_scores")[name].needs)
    before = state(subject)
    found, again = example_score(name)(subject), example_score(name)(dataclasses.replace(subject))
    assert isinstance(found, mm.ExampleScores) and found.score == example_score(name).label()
    assert example_score(found.score) == example_score(name)
    assert torch.equal(found.values, again.values) and torch.equal(found.ids, subject.task.sources)
    assert found.higher and found.suspect == type(example_score(name)).suspect
    assert isinstance(found.plot(), go.Figure) and len(found.to_frame()) == len(found.ids)
    found.save(tmp_path / "scores.safetensors")
    assert torch.equal(mm.ExampleScores.load(tmp_path / "scores.safetensors").values, found.values)
    assert all(torch.equal(tensor, before[key]) for key, tensor in subject.model.state_dict().items())
    assert hooks_left(subject) == 0


@pytest.mark.parametrize("cls", ANALYSES, ids=lambda cls: cls.name)
def test_analyses_give_results_that_draw_and_survive_saving(cls, request, chosen, tmp_path):
    subject = request.getfixturevalue("pictured") if cls.name == "influential_examples" else chosen(cls.needs)
    before = state(subject)
    result, again = cls()(subject), cls()(dataclasses.replace(subject))
    assert isinstance(result, Result) and dataclasses.is_dataclass(result)
    assert len(result.to_frame()) and result.to_frame().equals(again.to_frame())
    figure = result.plot()
    assert isinstance(figure, go.Figure) and len(figure.data)
    assert "<table" in result._repr_html_()
    assert set(result._repr_mimebundle_()) == {"text/plain", "text/html", "application/vnd.plotly.v1+json"}
    result.export(tmp_path / "result.csv")
    assert len(pd.read_csv(tmp_path / "result.csv")) == len(result.to_frame())
    result.save(tmp_path / "result.safetensors")
    loaded = type(result).load(tmp_path / "result.safetensors")
    assert loaded.to_frame().equals(result.to_frame())
    documented = inspect.getdoc(type(result))
    for field in dataclasses.fields(result):
        assert f"{field.name}:" in documented, f"{type(result).__name__} does not document {field.name}"
    assert all(torch.equal(tensor, before[key]) for key, tensor in subject.model.state_dict().items())
    assert hooks_left(subject) == 0


@pytest.mark.parametrize(("kind", "name", "cls"), EVERY, ids=lambda value: getattr(value, "__name__", value))
def test_missing_needs_are_one_typed_error(kind, name, cls, subject):
    if not cls.needs:
        pytest.skip("needs nothing")
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (20,), generator=draw)
    task = mm.ArrayTask(torch.randn(20, 4, generator=draw), labels, labels, torch.arange(20) < 12)
    bare = mm.Subject(torch.nn.LayerNorm(4), task)
    alone = kind in ("analyses", "neuron_scores", "example_scores")
    plugin = cls() if alone else next(p for p in extractor(_callable(name)).parts if isinstance(p, cls))
    with pytest.raises(MissingNeedError, match="needs"):
        plugin(bare)


def _callable(name):
    return "quadratic" if name == "activation" else name


Frozen = dataclasses.dataclass(frozen=True)


def foreign(base="frequency", decorate=Frozen, **attributes):
    cls = plugins("surgeries")[base] if isinstance(base, str) else base
    return decorate(type("Foreign", (cls,), {"__module__": "elsewhere", **attributes}))


def raising():
    raise ZeroDivisionError("in its module")


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (lambda: foreign(), "takes the name 'frequency'"),
        (lambda: foreign(decorate=lambda cls: cls, name="mine"), "must be a frozen dataclass"),
        (lambda: foreign(name=""), "has no name"),
        (lambda: foreign(name="mine", knows="pairs"), "must list its knows, got the string 'pairs'"),
        (lambda: foreign(base=Surgery, name="mine"), "lacks the method __call__"),
        (lambda: foreign(Surgery, name="mine", __annotations__={"own": int}, __call__=None), "must have a default"),
        (lambda: int, "must be a subclass of mechmem.core.plugins.Surgery"),
        (lambda: foreign, "must be a subclass of mechmem.core.plugins.Surgery"),
        (raising, "cannot be loaded: in its module"),
    ],
)
def test_what_is_no_plugin_is_refused_by_name(load, message, monkeypatch):
    entry = types.SimpleNamespace(name="foreign", value="elsewhere:Foreign", load=load)
    plugins("surgeries")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [entry])
    known = plugins.__wrapped__
    with pytest.raises(ConfigError, match=message):
        known("surgeries")


def test_a_control_that_does_not_exist_is_named():
    plugin = foreign(name="mine", control="nobody")()
    with pytest.raises(ConfigError, match="control of 'mine' is 'nobody', and there is no such plugin"):
        plugin.stand_in()
