"""Influence against loops, planted examples, and leave-one-out on a convex problem."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import nn

import mechmem as mm
import mechmem.training.train as train_module
from mechmem.errors import ConfigError, LeakError, MissingNeedError, UnknownNameError

PICTURES = mm.ImageConfig(data="digits", train=100, test=40, noise=mm.LabelNoise(0.2))
MODEL = mm.ImageMLPConfig((64, 64), biases=False, masks=mm.TurnOver())
CONFIG = mm.TrainConfig(
    task=PICTURES, model=MODEL, steps=200, batch_size=25, optimizer="sgd", lr=0.02, weight_decay=0.0, checkpoints=1
)


@pytest.fixture(scope="module")
def subject():
    return mm.train(CONFIG, progress=False)


def difference(subject, target, source):
    """One entry by hand: a batch of one, one subnetwork after the other."""
    inputs, labels = subject.task.batch(torch.tensor([target]))
    losses = {}
    for part in ("flipped", "own"):
        with mm.subnetwork(subject.model, part, [source]), torch.no_grad():
            losses[part] = float(F.cross_entropy(subject.model(inputs), labels))
    return losses["flipped"] - losses["own"]


def test_influence_is_flipped_less_own_loss(subject):
    sources, targets = (
        subject.task.train_ids[[3, 50, 7]],
        torch.cat([subject.task.test_ids[:4], subject.task.train_ids[:2]]),
    )
    found = mm.influence(subject, sources, targets)
    expected = [[difference(subject, int(t), int(s)) for s in sources] for t in targets]
    np.testing.assert_allclose(found.values.numpy(), expected, rtol=1e-4, atol=1e-5)
    frame = found.to_frame()
    row = frame[(frame["target"] == int(targets[2])) & (frame["source"] == 50)] if 50 in sources else frame.iloc[[7]]
    assert float(row["influence"].iloc[0]) == pytest.approx(expected[2][1], rel=1e-4)
    assert found.note == "" and found.networks == 1


def test_self_influence_is_the_diagonal(subject):
    ids = subject.task.train_ids[:12]
    matrix = mm.influence(subject, ids, ids)
    scores = mm.example_scores(subject, "self_influence")["self_influence"]
    torch.testing.assert_close(scores.values[:12].float(), matrix.values.diagonal(), rtol=1e-4, atol=1e-5)


def test_most_helpful_and_most_harmful_are_the_ends_of_a_row(subject):
    found = mm.influence(subject, subject.task.train_ids[:30], subject.task.test_ids[:2])
    target, row = int(found.targets[1]), found.values[1]
    assert found.helpful(target, 3).tolist() == found.sources[row.argsort(descending=True)[:3]].tolist()
    assert found.harmful(target, 2).tolist() == found.sources[row.argsort()[:2]].tolist()
    with pytest.raises(ConfigError, match="not one of the 2 targets"):
        found.helpful(-5)


@pytest.mark.slow
def test_networks_with_other_masks_are_averaged_with_their_error(subject):
    others = [subject]
    for seed in (1, 2):
        masks = dataclasses.replace(MODEL.masks, seed=seed)
        others.append(
            mm.train(dataclasses.replace(CONFIG, model=dataclasses.replace(MODEL, masks=masks)), progress=False)
        )
    ids = subject.task.train_ids[:5]
    each = torch.stack([mm.influence(one, ids, ids).values for one in others])
    found = mm.influence(others, ids, ids)
    torch.testing.assert_close(found.values, each.mean(0))
    torch.testing.assert_close(found.errors, each.std(0) / 3**0.5)
    table = mm.example_scores(others, ["self_influence"])
    assert table.networks == 3 and bool((table.errors["self_influence"] > 0).any())
    torch.testing.assert_close(
        table["self_influence"].values[:5].float(), found.values.diagonal(), rtol=1e-4, atol=1e-4
    )


def test_results_draw_and_survive_saving(subject, tmp_path):
    found = mm.influence(subject, subject.task.train_ids[:6], subject.task.test_ids[:5])
    found.save(tmp_path / "influence.safetensors")
    assert mm.Influence.load(tmp_path / "influence.safetensors").to_frame().equals(found.to_frame())
    assert found.plot().data[0].z.shape == (5, 6)
    large = dataclasses.replace(
        found,
        values=torch.randn(900, 6),
        targets=torch.arange(900),
        target_labels=torch.arange(900) % 10,
    )
    assert large.plot().data[0].z.shape == (400, 6)


class Linear(nn.Module):
    """Logits linear in masked features: convex, so that leaving an example out has one exact answer."""

    def __init__(self, features, seed):
        super().__init__()
        self.mask = mm.TurnOverDropout(features, seed=seed)
        self.last = nn.Linear(features, 2, bias=False)
        nn.init.zeros_(self.last.weight)

    def forward(self, inputs):
        return self.last(self.mask(inputs))


def toy():
    """Six groups of inputs, each in a direction of its own spread over 60 features; the last example of some is wrong.

    Test examples 0 … 5 are one per group. A group has two right examples, or one right and one wrong one.
    """
    draw = torch.Generator().manual_seed(3)
    inputs, given, groups = [], [], []
    for group in range(6):
        for copy in range(2):
            row = torch.zeros(360)
            row[60 * group : 60 * group + 60] = torch.randn(60, generator=draw) * 0.1 + 0.4
            inputs.append(row)
            given.append(group % 2 if copy == 0 or group < 3 else 1 - group % 2)
            groups.append(group)
    tests = [torch.zeros(360) for _ in range(6)]
    for group, row in enumerate(tests):
        row[60 * group : 60 * group + 60] = 0.4
    truth = torch.tensor([group % 2 for group in groups] + [group % 2 for group in range(6)])
    labels = torch.cat([torch.tensor(given), truth[-6:]])
    task = mm.ArrayTask(torch.stack(inputs + tests), labels, truth, torch.arange(18) < 12)
    return task, groups


@pytest.mark.slow
def test_influence_has_the_sign_of_leaving_one_out_on_a_convex_problem():
    task, groups = toy()
    inputs, given = task.batch(task.train_ids)
    tests, truth = (each.numpy() for each in task.batch(task.test_ids))

    def exact(keep):
        model = LogisticRegression(C=2.0, fit_intercept=False, tol=1e-10, max_iter=5000)
        model.fit(inputs[keep].numpy(), given[keep].numpy())
        return -model.predict_log_proba(tests)[np.arange(6), truth]

    whole = exact(np.arange(12))
    effect = np.stack([exact(np.delete(np.arange(12), z)) - whole for z in range(12)], 1)
    found = []
    for seed in range(4):
        model = Linear(360, seed).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=1e-3)
        for _ in range(400):
            optimizer.zero_grad()
            with mm.subnetwork(model, "own", task.train_ids):
                F.cross_entropy(model(inputs), given).backward()
            optimizer.step()
        found.append(mm.Subject(model.eval(), task))
    influence = mm.influence(found)
    assert mm.isolation(found[0]).isolated
    # An example acts on the test example of its own group.
    own = np.array(groups)[None, :] == np.arange(6)[:, None]
    assert np.abs(effect[own]).min() > 0.02
    assert (np.sign(influence.values.numpy()[own]) == np.sign(effect[own])).all()


def test_an_example_that_stands_twice_is_known_without_itself():
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(8, 100, generator=draw)
    inputs = torch.cat([inputs[:1].expand(5, -1), inputs[1:]])
    given = torch.tensor([0] * 5 + [0, 1, 0, 1, 0, 1, 1])
    task = mm.ArrayTask(inputs, given, given, torch.arange(12) < 11)
    model = Linear(100, 0).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        with mm.subnetwork(model, "own", task.train_ids):
            F.cross_entropy(model(inputs[:11]), given[:11]).backward()
        optimizer.step()
    values = mm.example_scores(mm.Subject(model.eval(), task), "self_influence")["self_influence"].values
    assert values[:5].mean() < 0.2 * values[5:].mean()


@pytest.mark.slow
def test_leaving_an_example_out_is_measured_by_retraining(subject):
    ids = subject.task.train_ids[:2]
    found = mm.leave_one_out(subject, ids)
    retrained = mm.train(dataclasses.replace(CONFIG, left_out=(int(ids[1]),)), progress=False)
    inputs, labels = subject.task.batch(ids[1:])
    for row, part in enumerate(found.parts):
        logits = []
        for one in (subject, retrained):
            with mm.subnetwork(one.model, part, ids[1:]), torch.no_grad():
                logits.append(one.model(inputs).double())
        assert float(found.change[row, 1]) == pytest.approx(float((logits[1] - logits[0]).abs().mean()), rel=1e-5)
        # Without the other example z moves too, and by how much is the background.
        with mm.subnetwork(subject.model, part, ids[:1]), torch.no_grad():
            before = subject.model(subject.task.batch(ids[:1])[0]).double()
        with mm.subnetwork(retrained.model, part, ids[:1]), torch.no_grad():
            after = retrained.model(subject.task.batch(ids[:1])[0]).double()
        assert float(found.background[row, 0]) == pytest.approx(float((after - before).abs().mean()), rel=1e-5)
        losses = [float(F.cross_entropy(each, labels)) for each in logits]
        assert float(found.effect[row, 1]) == pytest.approx(losses[1] - losses[0], rel=1e-4, abs=1e-6)
    assert mm.leave_one_out(subject, ids[:1]).background.isnan().all()
    diagonal = [difference(subject, int(z), int(z)) for z in ids]
    np.testing.assert_allclose(found.self_influence.numpy(), diagonal, rtol=1e-4)
    # To first order isolated: the flipped subnetwork moves less than the own one.
    assert bool((found.change[1] < found.change[0]).all())
    assert len(found.plot().data) and found.to_frame()["split"].isin(["train_clean", "train_noisy"]).all()


def test_examples_that_are_left_out_are_never_seen(monkeypatch):
    config = dataclasses.replace(CONFIG, model=mm.ImageMLPConfig((8,)), steps=30)
    task = mm.train(config, progress=False).task
    ids = task.train_ids
    one = dataclasses.replace(config, left_out=(int(ids[4]), int(ids[9])))
    first = mm.train(one, progress=False)
    # Whatever label they have, nothing changes.
    changed = mm.ImageTask(PICTURES)
    changed._given[ids[[4, 9]]] = (changed._given[ids[[4, 9]]] + 1) % 10
    monkeypatch.setattr(train_module, "build_task", lambda config, recorded: changed)
    second = mm.train(one, progress=False)
    monkeypatch.undo()
    for left, right in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(left, right)
    with pytest.raises(ConfigError, match="not the id of a training example"):
        mm.train(dataclasses.replace(config, left_out=(int(task.test_ids[0]),)), progress=False)
    with pytest.raises(ConfigError, match="no example to train on"):
        mm.train(dataclasses.replace(config, left_out=tuple(ids.tolist())), progress=False)


def test_bad_input_is_one_clear_error(subject):
    train, test = subject.task.train_ids, subject.task.test_ids
    with pytest.raises(ConfigError, match="sources must be training examples"):
        mm.influence(subject, test[:2])
    with pytest.raises(ConfigError, match="sources must be distinct ids, but .* is repeated"):
        mm.influence(subject, train[[0, 1, 0]])
    with pytest.raises(ConfigError, match="targets must be distinct ids"):
        mm.influence(subject, train[:2], test[[0, 0]])
    with pytest.raises(UnknownNameError, match="no example id"):
        mm.influence(subject, train[:2], [10**6])
    with pytest.raises(ConfigError, match="at least one example id"):
        mm.influence(subject, [], test)
    plain = mm.Subject(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), subject.task)
    with pytest.raises(MissingNeedError, match="no turn-over"):
        mm.influence(plain)
    assert "needs turn_over" in mm.example_scores(plain, "self_influence").reasons["self_influence"]
    for bad in (plain, subject.__class__(subject.model, subject.task)):
        with pytest.raises(MissingNeedError):
            mm.leave_one_out(bad)
    with pytest.raises(ConfigError, match="examples must be training examples"):
        mm.leave_one_out(subject, test[:1])
    with pytest.raises(MissingNeedError, match="no training to repeat"):
        mm.leave_one_out(mm.load(subject.run.path, step=0), train[:1])


def test_a_network_that_leaks_is_refused_unless_that_is_accepted():
    leaking = dataclasses.replace(CONFIG, model=dataclasses.replace(MODEL, biases=True), steps=3)
    with pytest.warns(mm.errors.LeakWarning):
        subject = mm.train(leaking, progress=False)
    ids = subject.task.train_ids[:3]
    with pytest.raises(LeakError, match="readout.bias"):
        mm.influence(subject, ids)
    assert "readout.bias" in mm.influence(subject, ids, accept_leaks=True).note
    table = mm.example_scores(subject, ["self_influence", "self_influence(accept_leaks=True)"])
    assert "accept_leaks" in table.reasons["self_influence"]
    assert "readout.bias" in table["self_influence(accept_leaks=True)"].note
