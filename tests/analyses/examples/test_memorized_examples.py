"""Pictures and grids of what is memorized, and of what helps and harms."""

import dataclasses

import numpy as np
import pytest
import torch

import mechmem as mm
from mechmem.errors import LeakError, MissingNeedError, UnknownNameError

PICTURES = mm.TrainConfig(
    task=mm.ImageConfig("digits", train=80, test=40, noise=mm.LabelNoise(0.2)),
    model=mm.ImageMLPConfig((32, 32), biases=False, masks=mm.TurnOver()),
    steps=80,
    batch_size=20,
    checkpoints=1,
)


@pytest.fixture(scope="module")
def run():
    return mm.train(PICTURES, progress=False)


def test_the_ends_of_the_score_are_shown_as_pictures(run):
    found = mm.analyse(run, "memorized_examples(count=4)")
    values = mm.example_scores(run, "self_influence")["self_influence"]
    assert found.most.tolist() == values.most(4).tolist() and found.least.tolist() == values.most(4, "low").tolist()
    assert torch.equal(found.pixels[0], run.task.batch(found.most)[0])
    assert "below chance" in found.note  # of a network that is hardly trained
    figure = found.plot()
    assert len(figure.data) == 8
    first = found.pixels[0, 0, 0].numpy()
    low, high = float(found.pixels.min()), float(found.pixels.max())
    np.testing.assert_allclose(figure.data[0].z[..., 0], (255 * (first - low) / (high - low)).round(), atol=1)
    wrong = {int(id) for id in run.task.splits["train_noisy"]}
    marked = [note.font.color != figure.layout.annotations[0].font.color for note in figure.layout.annotations]
    assert sum(", <br>" in note.text or ",<br>is" in note.text for note in figure.layout.annotations) == sum(
        int(id) in wrong for id in (*found.most, *found.least)
    )
    assert any(marked)


def test_without_masks_it_is_the_loss_and_says_so():
    config = dataclasses.replace(PICTURES, model=mm.CNNConfig((4,)), steps=3)
    found = mm.analyse(mm.train(config, progress=False), "memorized_examples")
    assert found.score == "loss" and "needs turn_over" in found.note


def test_a_score_below_chance_says_so(run):
    found = mm.analyse(run, "memorized_examples(score=loss)")
    # The given label that the network knows best, told as the wrong one.
    best = torch.isin(found.table.ids, found.least[:3])
    table = dataclasses.replace(found.table, true=torch.where(best, (found.table.given + 1) % 10, found.table.given))
    assert "below chance" not in found.note
    titles = " ".join(note.text for note in dataclasses.replace(found, table=table).plot().layout.annotations)
    assert "below chance" in titles


def test_pairs_are_shown_on_their_grid():
    config = mm.TrainConfig(mm.ModularConfig(p=7, noise=mm.LabelNoise(0.3)), mm.MLPConfig(width=16), steps=10)
    run = mm.train(config, progress=False)
    figure = mm.analyse(run, "memorized_examples(score=margin)").plot()
    margin = mm.example_scores(run, "margin")["margin"]
    a, b = run.task.operands[run.task.rows(margin.ids[:1])][0].tolist()
    assert figure.data[0].z[a, b] == pytest.approx(float(margin.values[0]), rel=1e-5)
    assert np.isnan(figure.data[0].z).sum() == 49 - len(margin.ids)


def test_what_helps_and_harms_stands_beside_the_target(run):
    target = int(run.task.test_ids[5])
    found = mm.analyse(run, f"influential_examples(target={target},count=3)")
    expected = mm.influence(run, targets=[target])
    assert found.shown.tolist() == [
        target,
        *expected.helpful(target, 3).tolist(),
        *expected.harmful(target, 3).tolist(),
    ]
    assert torch.equal(found.pixels, run.task.batch(found.shown)[0]) and len(found.plot().data) == 7
    assert "nats" in found.plot().layout.annotations[-1].text


def test_what_cannot_be_shown_is_refused(run, tmp_path):
    inputs, labels = torch.randn(9, 4), torch.arange(9) % 3
    bare = mm.Subject(torch.nn.Linear(4, 3), mm.ArrayTask(inputs, labels, labels, torch.arange(9) < 6))
    with pytest.raises(MissingNeedError, match="neither"):
        mm.analyse(bare, "memorized_examples")
    with pytest.raises(UnknownNameError, match="margin"):
        mm.analyse(run, "memorized_examples(score=margn)")
    with pytest.raises(UnknownNameError, match="no example id 99999"):
        mm.analyse(run, "influential_examples(target=99999)")
    leaking = dataclasses.replace(PICTURES, model=dataclasses.replace(PICTURES.model, biases=True), steps=2)
    with pytest.warns(mm.errors.LeakWarning):
        other = mm.train(leaking, progress=False)
    with pytest.raises(LeakError, match="readout.bias"):
        mm.analyse(other, "influential_examples")
    # A report says so in that section's place, and by the loss shows what is memorized.
    with pytest.warns(mm.errors.LeakWarning):  # its control networks are trained
        audit = mm.audit(other, ["raw"], progress=False)
    mm.write_report([(other, audit)], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count("is not isolated") == 2 and "By the loss: self-influence" in text
