"""Path patching finds planted paths, agrees with plain runs by hand, and leaves nothing behind."""

import numpy as np
import pytest
import torch
from hooked_networks import HEADS, NEURONS, Transformer, noisy_task, subject_of
from torch import nn
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.errors import ConfigError, DiscardedEditError, MissingNeedError, UnknownNameError
from mechmem.interventions.patching.pairs import Runs
from mechmem.interventions.patching.path_patch import _patched, _path, path_patch
from mechmem.models.hooks.points import hook_points


class Planted(nn.Module):
    """A residual stream of one number per class with a linear writer that a later writer reads.

    The stream is s = table[a] + table[b]. `first` writes F s, `second` reads the stream behind it and writes
    G (s + F s), the logits are all of it: direct from `first` goes F s, through `second` goes G F s.
    """

    roles = mm.Roles(hidden=("hook_first", "hook_second"), residual=("hook_resid",))

    def __init__(self, p=5):
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.table, self.F, self.G = (
            nn.Parameter(torch.randn(p, p, generator=draw, dtype=torch.float64)) for _ in range(3)
        )
        self.hook_first, self.hook_into, self.hook_second, self.hook_resid = (HookPoint() for _ in range(4))

    def forward(self, pairs):
        stream = self.table[pairs[:, 0]] + self.table[pairs[:, 1]]
        stream = stream + self.hook_first(stream @ self.F)
        second = self.hook_second(self.hook_into(stream) @ self.G)
        return self.hook_resid(stream + second)


def planted_pairs():
    task = noisy_task()
    subject = mm.Subject(Planted(), task, Planted.roles)
    return subject, task.train_ids[:8], task.train_ids[8:16]


def logits_along(subject, ids, donor_ids, senders, receivers=None, frozen=None, **settings):
    """Logits of one direction, unit by unit, as `path_patch` measures them. Shape (unit, example, class)."""
    from mechmem.interventions.batched import Batched

    runs = Runs(subject, ids, subject, donor_ids)
    path, _ = _path(runs, senders, receivers, frozen, settings.get("units", "point"), settings.get("positions"))
    n = sum(len(each.names) for each in path.senders)
    found = torch.zeros(n, len(ids), subject.task.n_classes, dtype=torch.float64)
    how = Batched(settings.get("method", "vmap"))
    for chosen, block, logits in _patched(runs, path, how):
        found[chosen, block] = logits.double()
    assert not how.note
    return found


def test_the_direct_path_and_the_path_through_a_writer_are_known_exactly():
    subject, ids, donor_ids = planted_pairs()
    model = subject.model
    mine, theirs = (model.table[subject.task.batch(each)[0]].sum(1) for each in (ids, donor_ids))
    direct = logits_along(subject, ids, donor_ids, "hook_first")[0]
    through = logits_along(subject, ids, donor_ids, "hook_first", "hook_into")[0]
    both = logits_along(subject, ids, donor_ids, "hook_first", frozen=[])[0]
    with torch.no_grad():
        plain = model(subject.task.batch(ids)[0])
        change = (theirs - mine) @ model.F
        torch.testing.assert_close(direct, plain + change)
        # The receiver holds the stream as it goes into `second` alone: what went past it stays.
        torch.testing.assert_close(through, plain + change @ model.G)
        torch.testing.assert_close(both, plain + change + change @ model.G)


def test_effects_are_ratios_of_the_metric_and_say_what_was_frozen():
    subject, ids, donor_ids = planted_pairs()
    found = path_patch(subject, senders="hook_first", ids=ids, donor_ids=donor_ids)
    assert found.kind == "path" and found.units == ("hook_first → logits",)
    assert found.note == "frozen: hook_second" and found.n == 8
    given = subject.task.given
    first, second = given(donor_ids), given(ids)
    model = subject.model

    def margin(logits):
        rows = torch.arange(8)
        return (logits[rows, first] - logits[rows, second]).mean()

    with torch.no_grad():
        mine, theirs = (model(subject.task.batch(each)[0]) for each in (ids, donor_ids))
        stream = (model.table[subject.task.batch(each)[0]].sum(1) @ model.F for each in (donor_ids, ids))
        moved = mine + next(stream) - next(stream)
    side = found.sides[0]
    assert side.receiver.value == pytest.approx(float(margin(mine))) and side.patched[0] == pytest.approx(
        float(margin(moved))
    )
    if not side.reason:
        wanted = (margin(moved) - margin(mine)) / (margin(theirs) - margin(mine))
        assert float(side.effect[0]) == pytest.approx(float(wanted))


def by_hand(subject, ids, donor_ids, sender, where, receivers, frozen):
    """The reference: three plain runs with torch's own hooks. Shape (example, class)."""
    task, points = subject.task, hook_points(subject.model)
    inputs, others = (task.batch(each)[0] for each in (ids, donor_ids))
    names = [sender, *frozen, *receivers]

    def run(data, hooks):
        handles = [points[name].register_forward_hook(hook) for name, hook in hooks]
        try:
            return subject.roles.output.read(subject.model(data))
        finally:
            for handle in handles:
                handle.remove()

    def keep(into, name):
        def hook(_module, _inputs, out):
            into.setdefault(name, out.clone())

        return name, hook

    def put(name, value):
        return name, lambda _module, _inputs, _out: value

    subject.model.eval()
    with torch.no_grad():
        own, given, told = {}, {}, {}
        run(inputs, [keep(own, name) for name in names])
        run(others, [keep(given, sender)])
        mixed = own[sender].clone()
        mixed[where] = given[sender][where]
        first = [keep(told, name) for name in receivers] + [put(sender, mixed)]
        first += [put(name, own[name]) for name in frozen if name != sender]
        logits = run(inputs, first)
        return run(inputs, [put(name, told[name]) for name in receivers]) if receivers else logits


HEADS_AND_NEURONS = ("blocks.0.attn.hook_z", "blocks.1.attn.hook_z", "blocks.0.hook_post", "blocks.1.hook_post")


@pytest.mark.parametrize("method", ["vmap", "loop"])
@pytest.mark.parametrize("receivers", [(), ("blocks.1.hook_pre",), ("blocks.1.attn.hook_z", "blocks.1.hook_post")])
def test_equals_three_runs_by_hand(receivers, method, monkeypatch):
    """Through layer norms, attention and two blocks; receivers that are writers themselves are frozen too."""
    monkeypatch.setattr("mechmem.interventions.patching.path_patch.block_rows", lambda _: 4)
    subject = subject_of(Transformer, dtype=torch.float64)
    ids, donor_ids = subject.task.train_ids[:6], subject.task.train_ids[6:12]
    every, sender = slice(None), "blocks.0.attn.hook_z"
    settings = {"receivers": receivers, "method": method}
    heads = logits_along(subject, ids, donor_ids, sender, units="head", positions=[0, 2], **settings)
    for head in range(HEADS):
        where = (every, slice(None, None, 2), head)
        wanted = by_hand(subject, ids, donor_ids, sender, where, receivers, HEADS_AND_NEURONS)
        torch.testing.assert_close(heads[head], wanted)
    neurons = logits_along(subject, ids, donor_ids, "blocks.0.hook_post", units="neuron", **settings)
    for neuron in range(NEURONS):
        where = (every, every, neuron)
        wanted = by_hand(subject, ids, donor_ids, "blocks.0.hook_post", where, receivers, HEADS_AND_NEURONS)
        torch.testing.assert_close(neurons[neuron], wanted)
    plain = by_hand(subject, ids, ids, sender, every, (), ())
    assert (heads - plain).abs().max() > 1e-3


def test_several_senders_are_units_of_their_own():
    subject = subject_of(Transformer, dtype=torch.float64)
    ids, donor_ids = subject.task.train_ids[:6], subject.task.train_ids[6:12]
    senders = ["blocks.0.attn.hook_z", "blocks.1.attn.hook_z", "hook_embed"]
    found = logits_along(subject, ids, donor_ids, senders)
    order = [
        each.point
        for each in _path(Runs(subject, ids, subject, donor_ids), senders, None, None, "point", None)[0].senders
    ]
    assert sorted(order) == sorted(senders)
    for logits, sender in zip(found, order, strict=True):
        frozen = [*HEADS_AND_NEURONS, "hook_embed"] if sender != "hook_embed" else HEADS_AND_NEURONS
        torch.testing.assert_close(logits, by_hand(subject, ids, donor_ids, sender, slice(None), (), frozen))


def test_between_two_networks_and_in_both_directions():
    subject, other = subject_of(Transformer, dtype=torch.float64), subject_of(Transformer, dtype=torch.float64)
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.mul_(1.5)
    found = path_patch(subject, other, senders="blocks.*.attn.hook_z", receivers="blocks.1.hook_pre", units="head")
    assert len(found.units) == 2 * HEADS and len(found.sides) == 2
    assert found.units[0] == "blocks.0.attn.hook_z[head 0] → blocks.1.hook_pre"
    assert np.isfinite(found.to_frame()["patched"]).all()
    assert found.plot().layout.xaxis.title.text


def test_what_is_refused_and_nothing_is_left():
    subject = subject_of(Transformer)
    pairs = {"ids": subject.task.train_ids[:4], "donor_ids": subject.task.train_ids[4:8]}
    first, second = "blocks.0.attn.hook_z", "blocks.1.attn.hook_z"
    for settings, error, said in (
        ({"senders": second, "receivers": "blocks.0.hook_pre"}, DiscardedEditError, "no path leads from 'blocks.1.att"),
        ({"senders": first, "seed": -1}, ConfigError, "seed must be"),
        ({"senders": first, "receivers": "blocks.*.attn.hook_z"}, ConfigError, "both a sender and a receiver"),
        ({"senders": "blocks.0.hook_pots"}, UnknownNameError, "no hook point 'blocks.0.hook_pots'"),
        ({"senders": ()}, ConfigError, "at least one sender"),
        ({"senders": "blocks.0.hook_post", "units": "head"}, ConfigError, "no heads"),
        ({"senders": first, "positions": 3}, ConfigError, "has positions 0 … 2, not 3"),
        ({"senders": first, "units": "heads"}, UnknownNameError, "Did you mean 'head'"),
        ({"senders": first, "direction": "up"}, UnknownNameError, "no direction 'up'"),
    ):
        with pytest.raises(error, match=said):
            path_patch(subject, **settings, **pairs)
    bare = mm.Subject(subject.model, subject.task, mm.Roles(output=subject.roles.output))
    with pytest.raises(MissingNeedError, match="name the other writers of the stream"):
        path_patch(bare, senders=first, **pairs)
    assert "nothing is frozen" in path_patch(bare, senders=first, frozen=(), **pairs).note
    assert sum(len(p._forward_hooks) for p in hook_points(subject.model).values()) == 0


def test_hooks_are_gone_after_errors(monkeypatch):
    subject = subject_of(Transformer)
    plain, calls = subject.model.unembed.forward, []

    def sometimes(stream):
        calls.append(torch._C._functorch.is_batchedtensor(stream))
        if any(calls):
            raise RuntimeError("the model failed")
        return plain(stream)

    monkeypatch.setattr(subject.model.unembed, "forward", sometimes)
    ids = subject.task.train_ids
    with pytest.raises(RuntimeError, match="the model failed"):
        path_patch(subject, senders="blocks.0.hook_post", units="neuron", ids=ids[:4], donor_ids=ids[4:8])
    assert sum(len(p._forward_hooks) for p in hook_points(subject.model).values()) == 0


@pytest.mark.parametrize(
    ("sender", "receivers", "between"),
    [
        ("blocks.0.hook_pre", None, "blocks.0.hook_post"),
        ("blocks.0.hook_pre", "blocks.1.hook_post", "blocks.0.hook_post"),
        ("hook_embed", None, None),
        ("blocks.0.attn.hook_z", "blocks.1.hook_pre", None),
    ],
)
def test_what_is_frozen_between_a_sender_and_a_receiver_is_said(sender, receivers, between):
    subject = subject_of(Transformer)
    pairs = {"ids": subject.task.train_ids[:6], "donor_ids": subject.task.train_ids[6:12]}
    if between is None:
        assert path_patch(subject, senders=sender, receivers=receivers, **pairs).note.startswith("frozen: ")
        return
    with pytest.raises(DiscardedEditError, match=rf"frozen between them \({between}\)"):
        path_patch(subject, senders=sender, receivers=receivers, **pairs)
    freed = [point for point in HEADS_AND_NEURONS if point != between]
    open_again = path_patch(subject, senders=sender, receivers=receivers, frozen=freed, **pairs)
    assert (open_again.sides[0].patched - open_again.sides[0].receiver.value).abs().max() > 1e-6


@pytest.mark.parametrize("grad", [True, False])
def test_a_frozen_way_is_found_without_derivatives_too(grad):
    subject, ids, donor_ids = planted_pairs()

    class NoGrad(Planted):
        @torch.no_grad()
        def forward(self, pairs):
            return super().forward(pairs)

    plain = subject if grad else mm.Subject(NoGrad(), subject.task, Planted.roles)
    with pytest.raises(DiscardedEditError, match=r"frozen between them \(hook_second\)"):
        path_patch(plain, senders="hook_into", ids=ids, donor_ids=donor_ids)
    assert path_patch(plain, senders="hook_first", ids=ids, donor_ids=donor_ids).sides[0].patched.isfinite().all()


def test_positions_from_which_nothing_goes_on_are_refused():
    """With attention frozen, what stands at one position goes to no other."""
    subject = subject_of(Transformer)
    pairs = {"ids": subject.task.train_ids[:6], "donor_ids": subject.task.train_ids[6:12]}
    with pytest.raises(DiscardedEditError, match=r"from 'hook_embed\[position 0\]' .* them \(blocks.0.attn.hook_z, "):
        path_patch(subject, senders="hook_embed", positions=0, **pairs)
    # The last token is the same in all examples; its own way is open all the same.
    assert path_patch(subject, senders="hook_embed", positions=2, **pairs).units == ("hook_embed[position 2] → logits",)


def test_of_a_pattern_senders_without_a_way_are_left_out():
    subject = subject_of(Transformer)
    pairs = {"ids": subject.task.train_ids[:6], "donor_ids": subject.task.train_ids[6:12]}
    found = path_patch(subject, senders="blocks.0.hook_p*", **pairs)
    assert found.units == ("blocks.0.hook_post → logits",)
    assert "left out, because no direct path leads from them: blocks.0.hook_pre" in found.note
    alone = path_patch(subject, senders="blocks.0.hook_post", **pairs)
    assert found.to_frame().equals(alone.to_frame()) and set(found.to_frame()["point"]) == {"blocks.0.hook_post"}
    with pytest.raises(DiscardedEditError, match="frozen between them"):
        path_patch(subject, senders="blocks.*.hook_pre", **pairs)
