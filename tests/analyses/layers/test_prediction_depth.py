"""Depths that are planted, scikit-learn beside them, and an example's vote on itself."""

import numpy as np
import pytest
import torch
from held_layers import held
from sklearn.neighbors import KNeighborsClassifier

from mechmem.analyses.layers.prediction_depth import PredictionDepth, settled_from
from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError

N, CLASSES = 60, 3
TRAIN = torch.arange(N) < 40


def points(labels, seed=0):
    """Far corners by label, with little noise."""
    of = torch.Generator().manual_seed(seed)
    corner = 100 * torch.nn.functional.one_hot(labels, CLASSES).double()
    return corner + torch.rand(len(labels), CLASSES, generator=of, dtype=torch.float64)


@pytest.fixture
def planted():
    """Of wrong labels, layers 0 and 1 hold the truth and layer 2 what was given; the network answers that."""
    true = torch.arange(N) % CLASSES
    given = torch.where(TRAIN & (torch.arange(N) % 8 == 0), (true + 1) % CLASSES, true)
    answer = given.clone()
    answer[51] = (answer[51] + 1) % CLASSES  # a mistake that the probabilities alone agree with
    logits = torch.eye(CLASSES, dtype=torch.float64)[answer] * 20
    return held(given, true, TRAIN, points(true), points(true, 1), points(given, 2), logits=logits, inputs=points(true))


def test_memorized_examples_are_settled_where_the_layer_holds_their_label(planted):
    result = PredictionDepth(k=5)(planted)
    assert result.layers == ("inputs", *(f"layers.{i}.hook_hidden" for i in range(3)), "softmax")
    frame = result.to_frame().set_index("id")
    assert set(frame.loc[frame["split"] == "train_clean", "depth"]) == {0}
    assert set(frame.loc[frame["split"] == "train_noisy", "depth"]) == {3}
    test = frame.loc[frame["split"] == "test", "depth"]
    assert test.loc[51] == 4 and (test.drop(index=51) == 0).all()
    assert (frame["predicted"].to_numpy() == planted.model.logits[result.ids].argmax(1).numpy()).all()
    summary = result.summary().set_index("split")
    assert summary.loc["train_noisy", "depth"] == 3 and summary["n"].tolist() == [35, 5, 20]
    shares = result.shares().set_index(["split", "depth"])
    assert shares.loc[("train_noisy", 3), "value"] == 1 and shares.loc[("test", 4), "value"] == 1 / 20
    names = [trace.name for trace in result.plot().data]
    assert len(names) == 3 and result.plot().layout.xaxis.ticktext[1] == "layers.0"


def test_an_answer_that_no_neighbour_gives_is_settled_nowhere(planted):
    # The answer's class has no training example.
    logits = torch.cat([planted.model.logits, torch.zeros(N, 1, dtype=torch.float64)], 1)
    logits[55, CLASSES] = 100
    given, true = planted.task.given(planted.task.ids), planted.task.true(planted.task.ids).clone()
    true[56] = CLASSES
    subject = held(given, true, TRAIN, points(true % CLASSES), logits=logits)
    result = PredictionDepth(k=5)(subject)
    frame = result.to_frame().set_index("id")
    assert frame.loc[55, "depth"] == len(result.layers) == 3
    assert result.summary().set_index("split").loc["test", "nowhere"] >= 1 / 20


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_votes_are_scikit_learns_with_each_training_example_left_out_of_its_own(distance):
    of = torch.Generator().manual_seed(3)
    labels = torch.randint(CLASSES, (N,), generator=of)
    table = torch.randn(N, 6, generator=of, dtype=torch.float64) + 1
    answer = torch.randint(CLASSES, (N,), generator=of)
    logits = torch.eye(CLASSES, dtype=torch.float64)[answer]
    subject = held(labels, labels, TRAIN, table, logits=logits)
    result = PredictionDepth(k=7, distance=distance)(subject)
    votes = []
    for layer in (torch.arange(N)[:, None].double(), table, logits.softmax(1)):
        x, y = layer.numpy(), labels.numpy()
        own = [
            KNeighborsClassifier(7, metric=distance)
            .fit(np.delete(x[:40], i, 0), np.delete(y[:40], i))
            .predict(x[i : i + 1])
            for i in range(40)
        ]
        rest = KNeighborsClassifier(7, metric=distance).fit(x[:40], y[:40]).predict(x[40:])
        votes.append(np.concatenate([*own, rest]))
    settled = np.array(votes) == answer.numpy()
    # Of the probabilities, which take three values, ties are broken by order: depths up to the layers are compared.
    for place in (0, 1):
        agrees = settled[place:2].all(0)
        assert ((result.depth.numpy() <= place) <= agrees).all()
    whole = torch.from_numpy(settled[:2])
    assert torch.equal(settled_from(whole) <= 1, whole[1])


def test_an_example_does_not_vote_for_itself():
    """Alone among another class, with one vote, a training example would settle at once if it counted itself."""
    given = torch.tensor([0, 0, 0, 1, 0, 1])
    table = torch.tensor([[0.0], [1], [2], [1.1], [5], [6]])
    subject = held(given, given, torch.tensor([True] * 4 + [False] * 2), table, logits=torch.eye(2)[given])
    result = PredictionDepth(k=1)(subject)
    assert result.to_frame().set_index("id").loc[3, "depth"] == 3


def test_settled_from_is_the_first_place_of_the_last_run():
    agrees = torch.tensor([[1, 1, 0, 1, 0], [1, 0, 1, 1, 0], [1, 1, 1, 0, 0]]).bool()
    assert settled_from(agrees).tolist() == [0, 2, 1, 3, 3]


def test_k_is_capped_and_examples_are_limited_and_both_are_said(planted):
    result = PredictionDepth(k=1000)(planted)
    assert result.k == 39 and "39 neighbours vote" in result.note
    few = PredictionDepth(k=3, limit=10)(planted)
    assert few.neighbours == 10 and len(few.ids) == 20 and "at most 10 of 40 training and 20 test" in few.note
    assert few.to_frame().equals(PredictionDepth(k=3, limit=10)(planted).to_frame())


def test_splits_that_are_empty_or_not_known():
    labels = torch.arange(N) % CLASSES
    clean = PredictionDepth(k=3)(held(labels, labels, TRAIN, points(labels)))
    summary = clean.summary().set_index("split")
    assert summary.loc["train_noisy", "n"] == 0 and np.isnan(summary.loc["train_noisy", "depth"])
    assert len(clean.plot().data) == 2
    unknown = PredictionDepth(k=3)(held(labels, torch.where(TRAIN, -1, labels), TRAIN, points(labels)))
    assert unknown.splits == ("train", "test") and unknown.summary()["n"].tolist() == [40, 20]
    assert [trace.name for trace in unknown.plot().data] == ["train, all (given labels)", "test"]


def test_what_does_not_fit_is_refused():
    labels = torch.tensor([0, 1, 0])
    with pytest.raises(MissingNeedError, match="two training examples"):
        PredictionDepth()(held(labels, labels, torch.tensor([True, False, False]), torch.zeros(3, 1)))
    with pytest.raises(ConfigError, match="number of neighbours"):
        PredictionDepth(k=0)
    with pytest.raises(UnknownNameError, match="distance"):
        PredictionDepth(distance="manhattan")
