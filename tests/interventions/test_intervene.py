"""Interventions in one batch, one by one, and by hand."""

import dataclasses
import re

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
import torch.nn.functional as F
from hooked_networks import (
    CHANNELS,
    HEADS,
    NEURONS,
    Awkward,
    Convolutional,
    TorchAttention,
    Transformer,
    subject_of,
)
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.core.stats import wilson
from mechmem.errors import ActivationError, ConfigError, DiscardedEditError, UnknownNameError
from mechmem.interventions.batched import Batched, _Meter
from mechmem.interventions.result import Interventions
from mechmem.models.hooks.points import hook_points
from mechmem.models.networks.mlp import HookedMLP


def mlp(dtype=torch.float32):
    task = mm.ModularTask(mm.ModularConfig(p=5, train_fraction=0.7, noise=mm.LabelNoise(0.4)))
    model = HookedMLP(mm.MLPConfig(width=9, activation="quadratic"), 5).to(dtype)
    return mm.Subject(model, task, model.roles)


def by_hand(subject, point, change, ids=None):
    """The reference: one forward pass with one hook. Shape (example, class)."""
    task, model = subject.task, subject.model
    ids = torch.cat([task.train_ids, task.test_ids]) if ids is None else ids
    handle = hook_points(model)[point].register_forward_hook(lambda _m, _i, out: change(out.clone()))
    model.eval()
    with torch.no_grad():
        found = subject.roles.output.read(model(task.batch(ids)[0]))
    handle.remove()
    model.train()
    return found


def zeroed(*where):
    def change(value):
        value[where] = 0
        return value

    return change


def hooks_left(model):
    return sum(len(point._forward_hooks) + len(point.fwd_hooks) for point in hook_points(model).values())


ALL = slice(None)
CASES = {
    "neurons of an MLP": (mlp, {"point": "hook_hidden", "neurons": "each"}, [(ALL, m) for m in range(9)]),
    "neurons at all positions": (
        lambda: subject_of(Transformer),
        {"point": "blocks.0.hook_post", "neurons": "each"},
        [(ALL, ALL, m) for m in range(NEURONS)],
    ),
    "neurons at each position": (
        lambda: subject_of(Transformer),
        {"point": "blocks.1.hook_post", "neurons": "each", "positions": "each"},
        [(ALL, p, m) for p in range(3) for m in range(NEURONS)],
    ),
    "heads": (
        lambda: subject_of(Transformer),
        {"point": "blocks.0.attn.hook_z", "heads": "each"},
        [(ALL, ALL, h) for h in range(HEADS)],
    ),
    "heads at the last position": (
        lambda: subject_of(Transformer),
        {"point": "blocks.1.attn.hook_z", "heads": "each", "positions": -1},
        [(ALL, 2, h) for h in range(HEADS)],
    ),
    "positions of the stream": (
        lambda: subject_of(Transformer),
        {"point": "blocks.0.hook_resid_post", "positions": "each"},
        [(ALL, p) for p in range(3)],
    ),
    "channels": (
        lambda: subject_of(Convolutional),
        {"point": "hook_first", "channels": "each"},
        [(ALL, c) for c in range(CHANNELS)],
    ),
    "torch's attention": (
        lambda: subject_of(TorchAttention),
        {"point": "hook_state", "neurons": [1, 2], "positions": "each"},
        [(ALL, p, slice(1, 3)) for p in range(2)],
    ),
}


@pytest.mark.parametrize("method", ["vmap", "loop"])
@pytest.mark.parametrize("case", CASES)
def test_equals_one_hooked_pass_per_edit(case, method):
    make, edit, places = CASES[case]
    subject = make()
    found = mm.intervene(subject, mm.Edit(**edit), method=method)
    wanted = torch.stack([by_hand(subject, edit["point"], zeroed(*place)) for place in places])
    torch.testing.assert_close(found.logits, wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.unedited, by_hand(subject, edit["point"], lambda value: value))
    assert (found.logits - found.unedited).abs().max() > 1e-3, "edits that change nothing show nothing"
    assert not found.note and hooks_left(subject.model) == 0
    assert all(module.training for module in subject.model.modules())


def test_what_lies_before_the_edit_is_run_once_for_all_edits(monkeypatch):
    subject = subject_of(Transformer)
    seen = set()
    for name in ("blocks.0.up", "blocks.1.up"):
        module = subject.model.get_submodule(name)
        plain = module.forward

        def watched(value, name=name, plain=plain):
            if torch._C._functorch.is_batchedtensor(value):
                seen.add(name)
            return plain(value)

        monkeypatch.setattr(module, "forward", watched)
    found = mm.intervene(subject, mm.Edit("blocks.0.hook_post", neurons="each"))
    assert not found.note and seen == {"blocks.1.up"}


@pytest.mark.parametrize("value", ["mean", "resample"])
def test_means_and_other_examples_are_taken_unit_by_unit_and_position_by_position(value, monkeypatch):
    from mechmem.interventions.values import donors

    monkeypatch.setattr("mechmem.interventions.runs.block_rows", lambda _: 3)

    subject = subject_of(Transformer)
    task, point = subject.task, "blocks.0.attn.hook_z"
    ids = task.train_ids[:7]
    held = mm.activations(subject, point)[point].mean(0)
    if value == "resample":
        chosen = task.ids[donors(task, 4)[task.rows(ids)]]
        assert not (chosen == ids).any() and torch.isin(chosen, task.train_ids).all()
        held = mm.activations(subject, point, chosen)[point]

    def change(out):
        out[:, 1, 1] = held[..., 1, 1, :].to(out)
        return out

    found = mm.intervene(subject, mm.Edit(point, value, heads=1, positions=1), ids=ids, seed=4)
    torch.testing.assert_close(found.logits[0], by_hand(subject, point, change, ids), rtol=1e-5, atol=1e-6)


def test_numbers_and_tensors_and_other_runs_are_put_in(monkeypatch):
    monkeypatch.setattr("mechmem.interventions.runs.block_rows", lambda _: 2)
    subject, ids = mlp(torch.float64), torch.tensor([3, 11, 4])
    other = mm.activations(subject, "hook_hidden", torch.tensor([8, 9, 10]))["hook_hidden"]
    row = torch.linspace(-1, 1, 9).double()
    edits = [
        mm.Edit("hook_hidden", 0.5, neurons=2),
        mm.Edit("hook_hidden", other, neurons=[2, -1]),
        mm.Edit("hook_hidden", row),
    ]
    found = mm.intervene(subject, edits, ids=ids)

    def put(columns, value):
        def change(out):
            out[:, columns] = value if isinstance(value, float) else value[..., columns].to(out)
            return out

        return by_hand(subject, "hook_hidden", change, ids)

    wanted = torch.stack([put([2], 0.5), put([2, 8], other), put(ALL, row)])
    torch.testing.assert_close(found.logits, wanted)
    assert found.edits == (
        "hook_hidden[neuron 2] → 0.5",
        "hook_hidden[neurons 2, -1] → values",
        "hook_hidden → values",
    )


def test_another_networks_activations_patch_its_answers_in():
    subject, other = (subject_of(Transformer) for _ in range(2))
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.add_(torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape))
        for theirs, mine in zip(other.model.unembed.parameters(), subject.model.unembed.parameters(), strict=True):
            theirs.copy_(mine)
    ids, last = subject.task.test_ids, "blocks.1.hook_resid_post"
    edit = mm.Edit(last, mm.activations(other, last, ids)[last], positions=-1)
    found = mm.intervene(subject, edit, ids=ids)
    torch.testing.assert_close(found.logits[0], by_hand(other, last, lambda value: value, ids))
    assert not torch.allclose(found.unedited, found.logits[0])


def test_edits_made_together_and_in_their_order():
    subject = subject_of(Transformer)
    one, two = mm.Edit("blocks.0.hook_post", neurons=1), mm.Edit("blocks.1.attn.hook_z", heads=0)
    thrice = (mm.Edit("hook_embed", 1.0), mm.Edit("hook_embed", 2.0, positions=0), two)
    found = mm.intervene(subject, [(one, two), thrice, two, (two, one)])
    model = subject.model

    def together(changes):
        handles = [
            hook_points(model)[p].register_forward_hook(lambda _m, _i, out, c=c: c(out.clone())) for p, c in changes
        ]
        wanted = by_hand(subject, "blocks.0.hook_post", lambda value: value)
        for handle in handles:
            handle.remove()
        return wanted

    def embedded(out):
        out[:], out[:, 0] = 1, 2
        return out

    gone = ("blocks.1.attn.hook_z", zeroed(ALL, ALL, 0))
    wanted = together([("blocks.0.hook_post", zeroed(ALL, ALL, 1)), gone])
    torch.testing.assert_close(found.logits[0], wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.logits[1], together([("hook_embed", embedded), gone]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.logits[3], found.logits[0])
    assert found.edits[0] == "blocks.0.hook_post[neuron 1] → zero and blocks.1.attn.hook_z[head 0] → zero"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("decides", "control flow"),
        ("reads a number", "item"),
        ("in place", "broadcast shape"),
        ("leaves torch", "run one by one"),
        ("differs in a batch", "in a batch, logits of up to .* differ by"),
    ],
)
def test_networks_that_cannot_be_batched_are_run_one_by_one_and_said_to_be(how, said):
    subject = subject_of(Awkward, how)
    edit = mm.Edit("hook_hidden", neurons="each")
    found = mm.intervene(subject, edit)
    assert found.note.startswith("edits were run one by one")
    assert re.search(said, found.note), found.note
    assert hooks_left(subject.model) == 0
    if how != "differs in a batch":
        wanted = torch.stack([by_hand(subject, "hook_hidden", zeroed(ALL, m)) for m in range(8)])
        torch.testing.assert_close(found.logits, wanted)
        assert torch.equal(found.logits, mm.intervene(subject, edit, method="loop").logits)


def test_batches_of_every_size_agree_and_the_limit_is_kept(monkeypatch):
    subject = subject_of(Transformer, dtype=torch.float64)
    edit = mm.Edit("blocks.0.hook_post", neurons="each")
    whole = mm.intervene(subject, edit, limit_mb=100)
    monkeypatch.setattr("mechmem.interventions.batched.FEWEST_ROWS", 4)
    monkeypatch.setattr("mechmem.interventions.runs.block_rows", lambda _: 10)
    seen = []
    together = Batched._together
    monkeypatch.setattr(
        Batched, "_together", lambda self, f, masks, r: seen.append(len(masks[0])) or together(self, f, masks, r)
    )
    for limit, most in ((1, NEURONS), (0.03, NEURONS - 1), (0.013, 2)):
        seen.clear()
        found = mm.intervene(subject, edit, limit_mb=limit)
        torch.testing.assert_close(found.logits, whole.logits)
        assert not found.note and max(seen) <= most
    small = mm.intervene(subject, edit, limit_mb=1e-4)
    torch.testing.assert_close(small.logits, whole.logits)
    assert "and the limit is 0.0001 MB" in small.note


def test_memory_is_measured_behind_the_mask_only():
    mask, before = torch.ones(10, dtype=torch.bool), torch.randn(100, 10, dtype=torch.float64)
    with _Meter((mask,)) as meter:
        before = before * 2
        after = torch.where(mask, before, 0.0)  # 8,000 bytes
        view = after.T
        assert meter.peak == 8000
        view = view.relu()  # as many
        del after, view
        torch.where(mask, before[:10], 0.0).sum()  # less than is freed
    assert meter.peak == 16000


def test_accuracies_and_losses_are_those_of_the_logits():
    subject = subject_of(Transformer)
    task = subject.task
    found = mm.intervene(subject, mm.Edit("blocks.0.hook_post", "mean", neurons="each"))
    frame = found.to_frame().set_index(["edit", "split"])
    for number, edit in enumerate(found.edits):
        for split in ("train_clean", "train_noisy", "train_noisy_true", "test"):
            ids = task.splits[split.removesuffix("_true")]
            labels = task.given(ids) if split == "train_noisy" else task.true(ids)
            rows = [found.ids.tolist().index(i) for i in ids.tolist()]
            row = frame.loc[(edit, split)]
            for logits, part in ((found.logits[number], ""), (found.unedited, "unedited")):
                right = (logits[rows].argmax(1) == labels).double().mean().item()
                nats = F.cross_entropy(logits[rows].double(), labels).item()
                if part:
                    assert row["accuracy"] - row["change"] == pytest.approx(right)
                    assert row["loss"] - row["loss_change"] == pytest.approx(nats, abs=1e-5)
                else:
                    assert row["accuracy"] == pytest.approx(right) and row["loss"] == pytest.approx(nats, abs=1e-5)
            estimate = wilson(round(row["accuracy"] * row["n"]), int(row["n"]))
            assert (row["low"], row["high"]) == pytest.approx((estimate.low, estimate.high))


def test_planted_neurons_hold_what_they_were_planted_for(planted):
    """Without its two neurons a memorized cell is answered by the rule; the other cells stay as they are."""
    members = planted.memorizing.nonzero().flatten().reshape(-1, 2).tolist()
    found = mm.intervene(planted.subject, [mm.Edit("hook_hidden", neurons=pair) for pair in members], ids=planted.cells)
    given, true = planted.subject.task.given(planted.cells), planted.subject.task.true(planted.cells)
    own = torch.eye(len(members)).bool()
    assert torch.equal(found.logits.argmax(-1), torch.where(own, true, given))


def test_logits_are_kept_or_not_and_results_survive_saving(tmp_path):
    subject = mlp()
    found = mm.intervene(subject, mm.Edit("hook_hidden", neurons="each", name="without"))
    assert found.edits[:2] == ("without 0", "without 1")
    lean = mm.intervene(subject, mm.Edit("hook_hidden", neurons="each", name="without"), logits=False)
    assert lean.logits is None and lean.to_frame().equals(found.to_frame())
    for each in (found, lean):
        each.save(tmp_path / "i.safetensors")
        loaded = Interventions.load(tmp_path / "i.safetensors")
        assert loaded.to_frame().equals(each.to_frame()) and loaded.edits == each.edits
    figure = found.plot()
    assert isinstance(figure, go.Figure)
    assert list(figure.layout.yaxis.ticktext)[:2] == ["unedited", "without 0"]
    many = mm.intervene(subject, [mm.Edit("hook_hidden", neurons=m % 9) for m in range(41)])
    figure = many.plot()
    drawn = {trace.name: trace for trace in figure.data}
    np.testing.assert_allclose(drawn["test"].y, many.accuracy[:, 3].sort().values)
    assert {trace.mode for trace in figure.data} == {"markers"}
    assert [line.y0 for line in figure.layout.shapes] == many.unedited_accuracy.tolist()
    assert figure.layout.xaxis.title.text == "neuron, sorted within each series (1 = lowest)"
    doses = mm.intervene(subject, [mm.Edit("hook_hidden", float(dose)) for dose in range(41)]).plot()
    assert doses.layout.xaxis.title.text == "edit, in the order given"


def test_units_may_be_given_in_every_way_numpy_and_torch_have(recwarn):
    subject, ids = mlp(), torch.arange(5)
    row = np.linspace(-1, 1, 9, dtype=np.float32)
    row.flags.writeable = False
    mask = np.arange(9) % 4 == 1
    same = [
        ({"neurons": [1, 5]}, "neurons 1, 5"),
        ({"neurons": np.array([1, 5])}, "neurons 1, 5"),
        ({"neurons": slice(1, 9, 4)}, "neurons 1:9:4"),
        ({"neurons": range(1, 9, 4)}, "neurons 1, 5"),
        ({"neurons": mask}, "neurons 1, 5"),
        ({"neurons": mask.tolist()}, "neurons 1, 5"),
        ({"neurons": torch.from_numpy(mask)}, "neurons 1, 5"),
        ({"neurons": [np.int64(1), -4]}, "neurons 1, -4"),
    ]
    edits = [mm.Edit("hook_hidden", row, **units) for units, _ in same] + [mm.Edit("hook_hidden", neurons=np.int64(3))]
    found = mm.intervene(subject, edits, ids=ids)
    assert found.edits[:-1] == tuple(f"hook_hidden[{words}] → values" for _, words in same)
    wanted = by_hand(
        subject, "hook_hidden", lambda out: torch.where(torch.from_numpy(mask), torch.tensor(row), out), ids
    )
    torch.testing.assert_close(found.logits[:-1], wanted.expand(8, -1, -1))
    torch.testing.assert_close(found.logits[-1], by_hand(subject, "hook_hidden", zeroed(ALL, 3), ids))
    assert found.to_frame()["neuron"].isna().tolist() == [True] * 32 + [False] * 4 and not recwarn.list


def test_a_pattern_is_one_edit_at_each_point_and_frames_say_where():
    subject = subject_of(Transformer)
    found = mm.intervene(subject, mm.Edit("blocks.*.attn.hook_z", heads="each", positions="each"))
    points = [f"blocks.{block}.attn.hook_z" for block in range(2)]
    places = [(point, p, h) for point in points for p in range(3) for h in range(HEADS)]
    assert found.edits == tuple(f"{point}[position {p}, head {h}] → zero" for point, p, h in places)
    wanted = torch.stack([by_hand(subject, point, zeroed(ALL, p, h)) for point, p, h in places])
    torch.testing.assert_close(found.logits, wanted, rtol=1e-5, atol=1e-6)
    frame = found.to_frame().query("split == 'test'")
    assert [tuple(row) for row in frame[["point", "position", "head"]].to_numpy()] == places
    assert set(frame["unit"]) == {"head"} and str(frame["head"].dtype) == "Int64" and frame["neuron"].isna().all()
    grid = frame.pivot(index=["point", "head"], columns="position", values="change")
    test = found.plot().data[-1]
    assert test.type == "heatmap" and test.name == "test"
    np.testing.assert_allclose(test.z, grid, atol=1e-7)
    together = mm.intervene(subject, [(mm.Edit("*.1.*hook_z", heads=0), mm.Edit("blocks.0.hook_po*", positions=-1))])
    assert together.edits == ("blocks.1.attn.hook_z[head 0] → zero and blocks.0.hook_post[position -1] → zero",)
    assert together.to_frame()[["point", "unit"]].iloc[0].tolist() == ["", ""]
    last = mm.intervene(subject, mm.Edit("blocks.1.attn.hook_z", heads=0, positions=-1)).to_frame()
    assert last[["position", "head"]].iloc[0].tolist() == [2, 0]
    named = mm.intervene(subject, mm.Edit("blocks.*.hook_post", name="no MLP"))
    assert named.edits == ("no MLP 0", "no MLP 1") and set(named.to_frame()["unit"]) == {""}


def test_splits_without_examples_read_null():
    found = mm.intervene(mm.planted_network(5).subject, mm.Edit("hook_hidden", neurons=0))
    assert found.n.tolist() == [20, 0, 0, 5]
    assert found.accuracy.isnan().tolist() == [[False, True, True, False]]
    assert found.to_frame()["low"].isna().tolist() == [False, True, True, False]


def test_hooks_are_gone_after_errors(monkeypatch):
    subject = subject_of(Transformer)
    plain, calls = subject.model.unembed.forward, []

    def sometimes(stream):
        calls.append(torch._C._functorch.is_batchedtensor(stream))
        if any(calls):  # in the batch, and in the loop that it gives way to
            raise RuntimeError("the model failed")
        return plain(stream)

    monkeypatch.setattr(subject.model.unembed, "forward", sometimes)
    with pytest.raises(RuntimeError, match="the model failed"):
        mm.intervene(subject, mm.Edit("blocks.0.hook_post", neurons="each"))
    assert calls[-2:] == [True, False]
    assert hooks_left(subject.model) == 0


def test_attached_networks_take_edits():
    subject = subject_of(Convolutional)
    plain = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    inputs = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    task = mm.ArrayTask(inputs, torch.arange(12) % 3, torch.arange(12) % 3, torch.arange(12) < 8)
    model = mm.attach(plain, "1")
    assert isinstance(model, HookedRootModule)
    found = mm.intervene(model, mm.Edit("1.hook_out", neurons="each"), task)
    with torch.no_grad():
        hidden = torch.relu(plain[0](inputs[found.ids]))
        wanted = torch.stack([plain[2](hidden * (torch.arange(6) != m)) for m in range(6)])
    torch.testing.assert_close(found.logits, wanted)
    assert not found.note and subject.model is not model


def test_what_is_wrong_is_said():
    subject = subject_of(Transformer)
    point = "blocks.0.hook_post"
    for edits, error, said in (
        (lambda: mm.Edit("blocks.0.hook_pots"), UnknownNameError, "Did you mean 'blocks.0.hook_post'"),
        (lambda: mm.Edit(point, "means"), UnknownNameError, "Did you mean 'mean'"),
        (lambda: mm.Edit(point, None), ConfigError, "a number or a tensor, got NoneType"),
        (lambda: mm.Edit(point, float("nan")), ConfigError, "finite"),
        (lambda: mm.Edit(point, neurons=NEURONS), ConfigError, "has neurons 0 … 5, not 6"),
        (lambda: mm.Edit(point, neurons=[0.5]), ConfigError, "given by number"),
        (lambda: mm.Edit(point, neurons=[2, 0, 2]), ConfigError, "each once"),
        (lambda: mm.Edit(point, neurons=[5, -1]), ConfigError, "each once"),
        (lambda: mm.Edit(point, neurons=torch.tensor([0, 1, 1, 0, 0, 0])), ConfigError, r"each once.*\.bool\(\)"),
        (lambda: mm.Edit(point, neurons=1.5), ConfigError, "neurons are given by number, got 1.5"),
        (lambda: mm.Edit(point, neurons=True), ConfigError, "neurons are given by number, at least one, got True"),
        (lambda: mm.Edit(point, neurons="all"), ConfigError, "neurons are given by number, got 'all'"),
        (lambda: mm.Edit(point, neurons=torch.ones(2, 6).bool()), ConfigError, "given by number"),
        (lambda: mm.Edit(point, neurons=[True, False]), ConfigError, "has 6 neurons, but 2 truth values"),
        (lambda: mm.Edit(point, neurons=slice(6, 9)), ConfigError, "at least one"),
        (lambda: mm.Edit(point, neurons=[]), ConfigError, "at least one"),
        (lambda: mm.Edit(point, np.array(["a"])), ConfigError, "an array of <U1"),
        (lambda: mm.Edit(point, torch.tensor([1.0, torch.inf])), ConfigError, "finite"),
        (lambda: mm.Edit(3), ConfigError, "one hook point or pattern, got 3"),
        (lambda: mm.Edit("blocks.*.hook_pots"), UnknownNameError, "no hook point"),
        (
            lambda: [(mm.Edit("blocks.*.hook_post"), mm.Edit(point))],
            ConfigError,
            "the pattern 'blocks.*.hook_post' makes",
        ),
        (lambda: subject.task, ConfigError, "the edits come second"),
        (lambda: 3, ConfigError, "edits must be an Edit or a list of Edits or tuple of Edits, got 3"),
        (
            lambda: mm.Edit(point, heads=0),
            ConfigError,
            r"\(example, 3, 6\) and no heads: heads are on the third of four",
        ),
        (lambda: mm.Edit(point, channels=0, positions=1), ConfigError, "both the second axis"),
        (
            lambda: mm.Edit(point, neurons=mm.NeuronSet.of([1], 4, point)),
            ConfigError,
            r"set belongs to .* \(4 neurons\), not",
        ),
        (lambda: mm.Edit(point, torch.zeros(3, 5)), ActivationError, r"cannot be given \(3, 5\)"),
        (
            lambda: [(mm.Edit(point, neurons="each"), mm.Edit(point))],
            ConfigError,
            "cannot be one of several made together",
        ),
        (lambda: [], ConfigError, "no edit"),
        (lambda: [point], ConfigError, "edits must be an Edit or a list of Edits"),
    ):
        with pytest.raises(error, match=said):
            mm.intervene(subject, edits())
    edit = mm.Edit(point, neurons=0)
    with pytest.raises(UnknownNameError, match="Did you mean 'vmap'"):
        mm.intervene(subject, edit, method="map")
    with pytest.raises(ConfigError, match="limit_mb"):
        mm.intervene(subject, edit, limit_mb=0)
    with pytest.raises(ConfigError, match="at least one example id"):
        mm.intervene(subject, edit, ids=torch.tensor([], dtype=torch.long))
    with pytest.raises(UnknownNameError, match="no example id 99"):
        mm.intervene(subject, edit, ids=torch.tensor([99]))
    with pytest.raises(ConfigError, match="no positions: positions are on the second of three"):
        mm.intervene(mlp(), mm.Edit("hook_hidden", positions=0))
    assert hooks_left(subject.model) == 0


def test_a_point_that_no_logit_depends_on_is_refused():
    class Aside(Transformer):
        def __init__(self):
            super().__init__()
            self.hook_aside = HookPoint()

        def forward(self, pairs):
            self.hook_aside(self.embed(pairs))
            return super().forward(pairs)

    with pytest.raises(DiscardedEditError, match="'hook_aside' has no effect"):
        mm.intervene(subject_of(Aside), mm.Edit("hook_aside"))
    with pytest.raises(DiscardedEditError, match="no logit depends on these points: hook_aside"):
        mm.intervene(subject_of(Aside), mm.Edit("hook_as*"))
    found = mm.intervene(subject_of(Aside), mm.Edit("hook_*"))
    assert found.edits == ("hook_embed → zero",)
    assert found.note == "left out, because no logit depends on them: hook_aside"


def test_sets_and_frozen_edits():
    edit = mm.Edit("hook_hidden", neurons=mm.NeuronSet.of([1, 4], 9, "hook_hidden"))
    subject = mlp()
    found = mm.intervene(subject, edit)
    torch.testing.assert_close(found.logits[0], by_hand(subject, "hook_hidden", zeroed(ALL, [1, 4])))
    assert found.edits == ("hook_hidden[2 neurons] → zero",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        edit.point = "other"
