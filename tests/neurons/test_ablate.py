"""Pruning curves: algebra against hooks against numpy, on planted, random and deeper networks."""

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from hooked_networks import CHANNELS, HEADS, NEURONS, Convolutional, Transformer
from hooked_networks import subject_of as hooked_subject
from plugin_names import score
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.core.randomness import generator
from mechmem.errors import ConfigError, MissingNeedError, ScoreError, UnknownNameError
from mechmem.models.hooks.points import hook_points
from mechmem.models.networks.mlp import HookedMLP
from mechmem.neurons.ablate import ablate
from mechmem.neurons.pruning_curves import SPLITS, PruningCurves


class Deep(HookedRootModule):
    """Two layers of neurons; the first is not linear in the logits."""

    def __init__(self, p):
        super().__init__()
        draw = torch.Generator().manual_seed(1)
        self.first = torch.nn.Parameter(torch.randn(2 * p, 9, generator=draw, dtype=torch.float64))
        self.second = torch.nn.Parameter(torch.randn(9, 11, generator=draw, dtype=torch.float64))
        self.out = torch.nn.Parameter(torch.randn(11, p, generator=draw, dtype=torch.float64))
        self.p = p
        self.hook_first, self.hook_second = HookPoint(), HookPoint()
        self.roles = mm.Roles(readout=mm.Role("out", "n c -> n c"), hidden=("hook_first", "hook_second"))
        self.setup()

    def forward(self, pairs):
        hidden = self.hook_first(torch.relu(self.first[pairs[:, 0]] + self.first[pairs[:, 1] + self.p]))
        return self.hook_second(torch.relu(hidden @ self.second)) @ self.out


def random_subject(p=7, *, activation="relu", bias=True, op="add"):
    task = mm.ModularTask(mm.ModularConfig(op=op, p=p, train_fraction=0.6, noise=mm.LabelNoise(0.3)))
    model = HookedMLP(mm.MLPConfig(width=13, activation=activation, bias=bias), p).double()
    if bias:
        model.b_out.data = torch.randn(p, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return mm.Subject(model, task, model.roles)


def deep_subject():
    base = random_subject()
    model = Deep(7)
    return mm.Subject(model, base.task, model.roles)


SUBJECTS = {
    "planted": lambda: mm.planted_network(7, memorized_fraction=0.3, train_fraction=0.7).subject,
    "relu with a bias": random_subject,
    "multiplication": lambda: random_subject(5, activation="quadratic", bias=False, op="multiply"),
    "last of two layers": deep_subject,
}


def hooks_left(subject):
    return sum(len(point._forward_hooks) for point in hook_points(subject.model).values())


@pytest.mark.parametrize("value", ["zero", "mean", "resample"])
@pytest.mark.parametrize("name", SUBJECTS)
def test_algebra_and_hooks_agree(name, value):
    subject = SUBJECTS[name]()
    by = "random" if name == "last of two layers" else "ipr"
    fast, plain = (ablate(subject, by=by, value=value, points=9, draws=2, method=m) for m in ("algebra", "hooks"))
    assert (fast.method, plain.method) == ("algebra", "hooks") and fast.orders == ("low", "high", "random", "random")
    assert torch.equal(fast.removed, plain.removed) and torch.equal(fast.n, plain.n)
    # float32 may break a tie the other way.
    allowed = 1.5 if fast.loss.dtype == torch.float32 or name == "planted" else 0.5
    assert ((fast.accuracy - plain.accuracy).abs() * fast.n).max() < allowed
    torch.testing.assert_close(fast.loss, plain.loss, rtol=1e-5, atol=1e-6)
    assert hooks_left(subject) == 0


def test_zero_ablation_equals_numpy():
    subject = random_subject()
    model, task = subject.model, subject.task
    curves, ranking = ablate(subject, order="high", points=5), score("ipr")(subject)
    hidden = mm.activations(subject, "hook_hidden", ids=task.ids)["hook_hidden"].numpy()
    order = np.argsort(-ranking.values.numpy(), kind="stable")
    ids = {name: task.splits[name.removesuffix("_true")] for name in SPLITS}
    for point, count in enumerate(curves.removed.tolist()):
        kept = hidden.copy()
        kept[:, order[:count]] = 0
        predicted = (kept @ model.W_out.detach().numpy() + model.b_out.detach().numpy()).argmax(1)
        for split, name in enumerate(SPLITS):
            labels = task.given(ids[name]) if name in ("train_clean", "train_noisy") else task.true(ids[name])
            wanted = (predicted[task.rows(ids[name]).numpy()] == labels.numpy()).mean()
            assert float(curves.accuracy[0, point, split]) == pytest.approx(wanted)


@pytest.mark.parametrize("method", ["algebra", "hooks"])
def test_nothing_left_predicts_the_lowest_class(method):
    subject = random_subject(bias=False)
    found = ablate(subject, order=("low", "random"), points=4, draws=1, method=method).at("low", 1.0)
    truth = subject.task.true(subject.task.test_ids)
    assert found["removed"].eq(13).all()
    assert found.set_index("split").accuracy["test"] == pytest.approx((truth == 0).double().mean().item())
    assert found["loss"].tolist() == pytest.approx([np.log(7)] * 4)


@pytest.mark.slow
def test_the_order_by_ipr_takes_memorization_out_of_a_planted_network():
    planted = mm.planted_network(11, memorized_fraction=0.2)
    share = planted.memorizing.double().mean().item()
    curves = ablate(planted.subject, points=len(planted.memorizing))
    raw, pruned = (curves.at("low", f).set_index("split").accuracy for f in (0, share))
    assert raw["train_noisy"] == 1 and pruned["train_noisy"] < 0.1
    assert pruned["train_noisy_true"] > 0.95 and pruned["test"] >= raw["test"] - 0.05
    rule_gone = curves.at("high", 1 - share).set_index("split").accuracy
    assert rule_gone["train_noisy"] == 1 and rule_gone["test"] < 0.35


def test_a_first_layer_is_ablated_through_hooks_and_says_so():
    subject = deep_subject()
    curves = ablate(subject, by="random", at="hook_first", points=3)
    assert (curves.method, curves.point, curves.width) == ("hooks", "hook_first", 9)
    assert "not linear" in curves.note or "does not give" in curves.note
    asked = ablate(subject, by="random", at="hook_first", points=3, method="algebra")
    assert asked.method == "hooks" and asked.note == curves.note
    # A neuron at a time by hand.
    ranking = score("random(point=hook_first)")(subject)
    weakest = int(ranking.order("low")[0])
    by_hand = subject.copy_model()
    with torch.no_grad():
        by_hand.first[:, weakest] = 0
    one = ablate(subject, by=ranking, order="low", points=9).at("low", 1 / 9).set_index("split")
    whole = ablate(subject.with_model(by_hand), by=ranking, order="low", points=9).at("low", 0).set_index("split")
    assert one.accuracy.to_list() == whole.accuracy.to_list()


def test_any_model_with_hook_points_will_do():
    subject = random_subject()
    bare = ablate(subject.model, subject.task, roles=mm.Roles(), order="random", at="hook_hidden", points=4)
    known = ablate(subject, order="random", points=4)
    assert bare.method == "hooks" and "not a point of the role" in bare.note and bare.score == ""
    torch.testing.assert_close(bare.accuracy, known.accuracy)


@pytest.mark.parametrize("value", ["zero", "mean", "resample"])
def test_hooks_are_gone_after_an_error(value, monkeypatch):
    subject = deep_subject()

    def fail(*args):
        raise RuntimeError("stopped")

    monkeypatch.setattr("mechmem.interventions.runs.replaced", fail)
    with pytest.raises(RuntimeError, match="stopped"):
        ablate(subject, order="random", value=value, points=2, method="hooks")
    assert hooks_left(subject) == 0


def test_donors_are_other_training_examples():
    from mechmem.interventions.values import donors as _donors

    task = random_subject(23).task
    donors = _donors(task, 0)
    assert not (donors == torch.arange(len(task.ids))).any()
    assert set(donors.tolist()) <= set(task.rows(task.train_ids).tolist())
    assert torch.equal(donors, _donors(task, 0)) and not torch.equal(donors, _donors(task, 1))
    tiny = mm.ModularTask(mm.ModularConfig(p=2, train_fraction=0.5))
    assert not (_donors(tiny, 0) == torch.arange(4)).any()


def test_frames_figures_and_files(tmp_path):
    curves = ablate(random_subject(), points=4, draws=3, losses=False)
    frame = curves.to_frame()
    assert list(frame) == ["order", "draw", "removed", "fraction", "split", "n", "accuracy", "loss"]
    assert len(frame) == 5 * 5 * 4 and frame["loss"].isna().all() and frame["accuracy"].notna().all()
    assert frame.query("order == 'random'")["draw"].unique().tolist() == [0, 1, 2]
    figure = curves.plot()
    assert isinstance(figure, go.Figure)
    assert [a.text for a in figure.layout.annotations] == ["lowest first", "highest first", "random order, range of 3"]
    assert figure.layout.xaxis.title.text == "share of neurons ablated,<br>by ipr"
    bands = [trace for trace in figure.data if trace.fill == "toself"]
    assert len(bands) == 4 and {trace.xaxis for trace in bands} == {"x3"}
    curves.save(tmp_path / "c.safetensors")
    assert PruningCurves.load(tmp_path / "c.safetensors").to_frame().equals(frame)
    test = curves.at("random", 0.5).set_index("split").loc["test"]
    assert test["low"] < test["accuracy"] < test["high"] or test["low"] == test["high"]


def test_without_noise_the_noisy_splits_are_empty():
    subject = mm.planted_network(5).subject
    found = ablate(subject, points=2).at("low", 0).set_index("split")
    assert found["n"].tolist() == [20, 0, 0, 5] and found.accuracy.isna().tolist() == [False, True, True, False]


def test_the_same_seed_gives_the_same_curves():
    subject = random_subject()
    one, same, other = (ablate(subject, order="random", value="resample", seed=s, points=6) for s in (0, 0, 1))
    assert torch.equal(one.accuracy, same.accuracy) and not torch.equal(one.loss, other.loss)


def test_what_is_wrong_is_said():
    subject = random_subject()
    for wrong, said in (
        ({"order": "lowest"}, "order of ablation 'lowest'.*'low'"),
        ({"value": "means"}, "'means'.*Did you mean 'mean'"),
        ({"method": "hook"}, "Did you mean 'hooks'"),
        ({"by": "ipt"}, "Did you mean 'ipr'"),
        ({"order": "random", "at": "hook_hiden"}, "Did you mean 'hook_hidden'"),
    ):
        with pytest.raises(UnknownNameError, match=said):
            ablate(subject, **wrong)
    with pytest.raises(ConfigError, match="frequency_ablation"):
        ablate(subject, by="frequency")
    with pytest.raises(ConfigError, match="points"):
        ablate(subject, points=0)
    with pytest.raises(ConfigError, match="at least one order"):
        ablate(subject, order=())
    with pytest.raises(ScoreError, match="not finite"):
        ablate(subject, by=mm.NeuronScores("mine", torch.full((13,), torch.nan), "hook_hidden"))
    with pytest.raises(ScoreError, match="4 scores.*13 neurons"):
        ablate(subject, by=mm.NeuronScores("mine", torch.arange(4.0), "hook_hidden"))
    with pytest.raises(ScoreError, match="ranks the neurons of .*, not of"):
        ablate(subject, by=mm.NeuronScores("mine", torch.arange(13.0), "hook_pre"), at="hook_hidden")
    with pytest.raises(MissingNeedError, match="no layer of neurons"):
        ablate(subject.model, subject.task, roles=mm.Roles(), order="random")
    with pytest.raises(UnknownNameError, match="order of a pruning curve"):
        ablate(subject, order="low").at("random", 0.5)


def test_the_figure_names_the_score() -> None:
    figure = mm.ablate(mm.planted_network(11).subject, by="ipr(two_sided)", order=("low", "random")).plot()
    titles = [axis.title.text for axis in figure.select_xaxes()]
    assert titles == ["share of neurons ablated,<br>by ipr<br>(convention=two_sided)", "share of neurons ablated"]


def one_hooked_pass_per_point(subject, curves, at, orders, where, replacement):
    """The reference: accuracy and loss on the test set, what is gone replaced by hand. Shape (2, curve, point)."""
    task, model = subject.task, subject.model.eval()
    inputs, truth = task.batch(task.test_ids)[0], task.true(task.test_ids)
    found = []
    for order in orders:
        for count in curves.removed.tolist():

            def replace(_module, _inputs, out, gone=order[:count]):
                out = out.clone()
                for unit in gone.tolist():
                    place = (slice(None), *where(unit))
                    out[place] = replacement[place[1:]].to(out) if replacement is not None else 0
                return out

            handle = hook_points(model)[at].register_forward_hook(replace)
            with torch.no_grad():
                logits = subject.roles.output.read(model(inputs))
            handle.remove()
            accuracy = (logits.argmax(1) == truth).double().mean()
            found.append(torch.stack([accuracy, torch.nn.functional.cross_entropy(logits, truth)]))
    return torch.stack(found, 1).reshape(2, len(orders), -1)


EVERY = slice(None)
PLACES = {
    "neurons at all positions": (Transformer, "blocks.0.hook_post", {}, NEURONS, lambda m: (EVERY, m)),
    "neurons at one position": (Transformer, "blocks.1.hook_post", {"positions": -1}, NEURONS, lambda m: (2, m)),
    "heads": (Transformer, "blocks.0.attn.hook_z", {"units": "head"}, HEADS, lambda m: (EVERY, m)),
    "channels": (Convolutional, "hook_first", {"units": "channel"}, CHANNELS, lambda m: (m,)),
}


@pytest.mark.parametrize("value", ["zero", "mean"])
@pytest.mark.parametrize("name", PLACES)
def test_units_of_points_with_more_axes_equal_one_hooked_pass_per_point(name, value):
    kind, at, settings, width, where = PLACES[name]
    subject = hooked_subject(kind, dtype=torch.float64)
    curves = ablate(subject, order="random", at=at, points=4, draws=2, value=value, **settings)
    assert (curves.width, curves.units, curves.method) == (width, settings.get("units", "neuron"), "hooks")
    orders = [torch.randperm(width, generator=generator(0, "ablation order", draw)) for draw in range(2)]
    mean = None if value == "zero" else mm.activations(subject, at)[at].mean(0)
    wanted = one_hooked_pass_per_point(subject, curves, at, orders, where, mean)
    test = SPLITS.index("test")
    torch.testing.assert_close(torch.stack([curves.accuracy[..., test], curves.loss[..., test]]), wanted)
    assert hooks_left(subject) == 0 and curves.loss.std(1).max() > 1e-4


def test_heads_are_ranked_and_ablated_by_their_effect():
    subject = hooked_subject(Transformer)
    heads = subject.roles.heads
    curves = ablate(
        subject, by="ablation_effect(train,measure=loss)", units="head", order=("low", "high"), points=HEADS
    )
    assert (curves.point, curves.width) == (heads[-1], HEADS)
    assert "units=head" in curves.score and "heads are ablated there" in curves.note
    first = ablate(subject, by="ablation_effect(train,measure=loss)", at=heads[0], units="head", order="low")
    assert first.point == heads[0]
    assert curves.plot().layout.xaxis.title.text.startswith("share of heads ablated")
    for wrong, error, said in (
        ({"units": "head", "by": "ipr"}, ScoreError, "'ipr' ranks neurons, not heads"),
        ({"units": "head", "at": "blocks.0.hook_post", "order": "random"}, ConfigError, "no heads"),
        ({"units": "channel", "at": heads[0], "positions": 0, "order": "random"}, ConfigError, "leave positions out"),
        ({"at": heads[0], "positions": 3, "order": "random"}, ConfigError, "positions 0 … 2, not 3"),
        ({"units": "heads"}, UnknownNameError, "Did you mean 'head'"),
        (
            {"at": "blocks.*.hook_post"},
            ConfigError,
            "'blocks.*.hook_post' matches 2: blocks.0.hook_post, blocks.1.hook_post",
        ),
        ({"at": list(heads), "units": "head"}, ConfigError, "one layer is ablated at a time"),
    ):
        with pytest.raises(error, match=said):
            ablate(subject, **wrong)
    assert ablate(subject, at="blocks.0.hook_po*", order="random", points=1).point == "blocks.0.hook_post"
    with pytest.raises(MissingNeedError, match="no layer of heads"):
        ablate(random_subject(), units="head", order="random")


LOSS = "ablation_effect(split=train,measure=loss"


@pytest.mark.parametrize(
    "make, settings, by",
    [
        (random_subject, {}, "ipr"),
        (random_subject, {"at": "hook_pre"}, f"{LOSS},point=hook_pre)"),
        (deep_subject, {"at": "hook_first"}, f"{LOSS},point=hook_first)"),
        (lambda: hooked_subject(Transformer), {"units": "head"}, f"{LOSS},units=head)"),
        (lambda: hooked_subject(Convolutional), {"at": "hook_first", "units": "channel"}, "hook_first,units=channel)"),
    ],
)
def test_the_default_score_is_one_that_the_units_have(make, settings, by):
    curves = ablate(make(), points=1, order="low", **settings)
    assert curves.score.endswith(by)


def test_a_network_that_cannot_be_batched_is_ablated_all_the_same():
    from hooked_networks import Awkward

    subject = hooked_subject(Awkward, "in place")
    found = ablate(subject, order="random", points=3, draws=1)
    assert "edits were run one by one" in found.note and found.accuracy[..., 0].isfinite().all()
