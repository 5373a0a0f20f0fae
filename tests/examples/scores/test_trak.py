"""TRAK against its formula written out in float64, where nothing is projected."""

import sys

import pytest
import torch
from plugin_names import example_score
from torch import nn

import mechmem as mm
from mechmem.errors import MissingNeedError, UnknownNameError

N = 200


def subject_of(seed=0, train=N - 10):
    draw = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    given = torch.randint(3, (N,), generator=draw)
    inputs = torch.randn(N, 3, generator=draw, dtype=torch.float64)
    return mm.Subject(model, mm.ArrayTask(inputs, given, given, torch.arange(N) < train))


def features(subject, ids):
    """Gradients of log p / (1 − p), and p, one example at a time."""
    rows, likely = [], []
    inputs, given = subject.task.batch(ids)
    for x, label in zip(inputs, given, strict=True):
        subject.model.zero_grad()
        p = subject.model(x[None]).softmax(1)[0, label]
        (p / (1 - p)).log().backward()
        rows.append(torch.cat([each.grad.flatten() for each in subject.model.parameters()]))
        likely.append(p.detach())
    return torch.stack(rows), torch.stack(likely)


def written_out(subject, targets, damping):
    phi, likely = features(subject, subject.task.train_ids)
    kernel = phi.T @ phi
    kernel += damping * kernel.diagonal().mean() * torch.eye(len(kernel), dtype=phi.dtype)
    return features(subject, targets)[0] @ torch.linalg.solve(kernel, phi.T) * (1 - likely)


def test_without_a_projection_it_is_the_formula():
    subject = subject_of()
    train, test = subject.task.train_ids, subject.task.test_ids
    found = example_score("trak(damping=0.02)")(subject)
    torch.testing.assert_close(found.values, written_out(subject, train, 0.02).diagonal(), rtol=1e-6, atol=1e-9)
    assert found.note == "31 dimensions, of the network as it is"
    influence = mm.influence(subject, targets=test, method="trak(damping=0.02)")
    torch.testing.assert_close(influence.values, written_out(subject, test, 0.02).float(), rtol=1e-4, atol=1e-6)


def test_a_projection_is_drawn_with_the_seed_and_keeps_the_order():
    subject = subject_of()
    first, again, other = (example_score(f"trak(projection=20,seed={seed})")(subject).values for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    exact = example_score("trak")(subject).values
    assert torch.corrcoef(torch.stack([first, exact]))[0, 1] > 0.7
    # dattri keeps its last projection for all attributors to come, unless told otherwise.
    assert torch.equal(example_score("trak")(subject).values, exact)


def test_checkpoints_are_averaged():
    config = mm.TrainConfig(mm.ImageConfig(train=60, test=20), mm.ImageMLPConfig((6,)), steps=20, checkpoints=2)
    run = mm.train(config, progress=False)
    steps = [step for step in run.run.checkpoint_steps() if step > 0]
    found = example_score("trak(checkpoints=all,parameters=readout.*)")(run)
    assert f"of {len(steps)} saved states" in found.note
    assert example_score("trak(checkpoints=all)").wants() == {"run"}
    assert "checkpoints" in example_score("trak(checkpoints=all)").told() - example_score("trak").told()
    with pytest.raises(MissingNeedError, match="needs run"):
        example_score("trak(checkpoints=all)")(subject_of())
    last = example_score("trak(parameters=readout.*)")(run).values
    assert not torch.allclose(found.values, last) and torch.isfinite(found.values).all()


class Looking(nn.Module):
    """A network that looks at its values, which torch cannot map over examples."""

    def __init__(self):
        super().__init__()
        self.only = nn.Linear(3, 3)

    def forward(self, x):
        assert float(x.abs().max()) < 1e6
        return self.only(x)


def test_what_is_missing_is_said(monkeypatch):
    with pytest.raises(MissingNeedError, match="at least 4 training examples, but there are 2"):
        example_score("trak")(subject_of(train=2))
    with pytest.raises(MissingNeedError, match="cannot map this network over examples"):
        example_score("trak")(mm.Subject(Looking().double(), subject_of().task))
    with pytest.raises(UnknownNameError, match="no states 'some'"):
        example_score("trak(checkpoints=some)")
    monkeypatch.setitem(sys.modules, "dattri.algorithm.trak", None)
    with pytest.raises(MissingNeedError, match=r"pip install \"mechmem\[influence\]\""):
        example_score("trak")(subject_of())


def test_no_bar_is_shown(capsys):
    example_score("trak")(subject_of())
    assert capsys.readouterr() == ("", "")
