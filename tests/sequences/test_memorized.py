"""Sequences that a network was made to continue, and no others."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError, NotFiniteError, UnknownNameError

CONFIG = mm.GrammarConfig(
    vocabulary=8, order=1, length=10, train=20, test=15, repeats=(1, 4), passages=5, controls=12, seed=1
)
TASK = mm.GrammarTask(CONFIG)


class Lookup(nn.Module):
    """Continues the sequences that it holds from their first `known` tokens on, and says 0 after anything else."""

    def __init__(self, rows, known, classes=8):
        super().__init__()
        self.register_buffer("rows", rows)
        self.known, self.classes = known, classes

    def forward(self, prefixes):
        length = (prefixes >= 0).sum(1)
        alike = ((prefixes[:, None] == self.rows[None, :, :-1]) | (prefixes[:, None] < 0)).all(2)
        held = alike.any(1) & (length >= self.known)
        following = self.rows[alike.long().argmax(1), length]
        return 9 * nn.functional.one_hot(torch.where(held, following, 0), self.classes).float()


def numbers(times):
    return [
        number for number, group in enumerate(TASK.group_names) if group == "passage" and TASK.times[number] == times
    ]


def lookup(known=3, times=(4,)):
    rows = torch.stack([TASK.tokens[number] for each in times for number in numbers(each)])
    return mm.Subject(Lookup(rows, known), TASK)


def test_the_planted_passages_are_continued_and_no_others():
    found = mm.memorized_sequences(lookup(), [3, 5])
    assert found.exact(3).nonzero().flatten().tolist() == numbers(4)
    frame = found.to_frame()
    assert set(frame.query("exact").sequence) == set(numbers(4)) and len(frame) == 2 * len(TASK.tokens)
    assert (frame.query("exact and prefix == 5").continued == 5).all()
    # With fewer tokens than it knows them by, it says 0, which is right by accident at most.
    assert not found.exact(1).any() and not found.exact(2)[numbers(4)].any()
    assert (found.continued(3)[numbers(4)] == 7).all()


@given(st.integers(1, 6), st.integers(1, 9))
def test_continued_exactly_means_that_the_greedy_continuation_is_the_sequence(known, prefix):
    subject = lookup(known, (1, 4))
    found = mm.memorized_sequences(subject, prefix)
    every = torch.arange(len(TASK.tokens))
    greedy = mm.continuations(subject, every, prefix)
    assert torch.equal(greedy[:, :prefix], TASK.tokens[:, :prefix])
    assert torch.equal(found.exact(prefix), (greedy == TASK.tokens).all(1))
    run = (greedy == TASK.tokens)[:, prefix:].long().cumprod(1).sum(1)
    assert torch.equal(found.continued(prefix), run)


def test_a_trained_network_is_continued_as_it_generates():
    from mechmem.models.networks.build import build_model

    model = build_model(mm.CausalTransformerConfig(layers=1, d_model=16, heads=2), TASK, 0)
    subject = mm.Subject(model, TASK, model.roles)
    found = mm.memorized_sequences(subject, 2)
    greedy = TASK.tokens.clone()
    with torch.no_grad():
        for place in range(2, 10):
            greedy[:, place] = model(greedy[:, :place]).argmax(1)
    assert torch.equal(mm.continuations(subject, range(len(greedy)), 2), greedy)
    assert torch.equal(found.continued(2), (greedy == TASK.tokens)[:, 2:].long().cumprod(1).sum(1))
    nats = nn.functional.cross_entropy(model(TASK.batch(TASK.ids)[0]), TASK.tokens[:, 1:].flatten(), reduction="none")
    torch.testing.assert_close(found.loss.flatten(), nats.detach(), rtol=1e-4, atol=1e-5)


def test_exposure_is_a_rank_among_the_never_shown_of_the_same_group():
    found = mm.memorized_sequences(lookup(), 3)
    exposures, ranks, losses = found.exposures(3), found.ranks(3), found.losses(3)
    assert exposures[numbers(4)].tolist() == pytest.approx([math.log2(13)] * 5)
    controls = TASK.sequences("control")
    tests = TASK.sequences("test")
    for number in range(len(TASK.tokens)):
        if TASK.times[number]:
            others = controls if TASK.group_names[number] == "passage" else tests
            assert ranks[number] == 1 + int((losses[others] <= losses[number]).sum())
        else:
            assert math.isnan(ranks[number])


def test_a_group_that_is_not_there_is_refused():
    found = mm.memorized_sequences(lookup(), 3)
    assert found.others("passage").any()
    with pytest.raises(UnknownNameError, match="no group of sequences 'passages'. Did you mean 'passage'"):
        found.others("passages")


def test_a_network_that_knows_nothing_has_no_exposure_to_speak_of():
    rows = torch.randint(9, (300, 6), generator=torch.Generator().manual_seed(0))
    task = mm.SequenceTask(rows, split=["train"] * 100 + ["test"] * 100 + ["control"] * 100)

    class Hashed(nn.Module):
        """Draws logits from the prefix."""

        def forward(self, prefixes):
            place = (prefixes * 7 ** torch.arange(prefixes.shape[1])).sum(1)
            return torch.sin(place[:, None] * torch.arange(1, 10) * 12.9898)

    found = mm.memorized_sequences(mm.Subject(Hashed(), task), 1)
    assert float(found.exposures(1).nanmean()) == pytest.approx(1 / math.log(2), abs=0.4)


def test_the_share_over_repeats_has_intervals():
    frame = mm.memorized_sequences(lookup(), [2, 3]).by_times()
    row = frame.query("group == 'passage' and times == 4 and prefix == 3").iloc[0]
    assert (row.n, row.exact, row.high) == (5, 1, 1) and 0.5 < row.low < 0.6
    assert set(frame.part) == {"train", "test", "control"}
    figure = mm.memorized_sequences(lookup(), [2, 3]).plot()
    assert {trace.name for trace in figure.data if trace.showlegend is not False} == {
        "first 2 tokens given",
        "first 3 tokens given",
    }


def test_the_result_is_saved_whole(tmp_path):
    found = mm.memorized_sequences(lookup(), 3)
    found.save(tmp_path / "found.safetensors")
    again = mm.load_result(tmp_path / "found.safetensors")
    assert found.to_frame().equals(again.to_frame())
    found.export(tmp_path / "found.csv")


def test_every_power_of_two_is_a_prefix_by_default():
    assert mm.memorized_sequences(lookup()).prefixes == (1, 2, 4, 8)


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        (10, "prefix must be shorter than the sequences of 10 tokens, got 10"),
        (0, "prefix must be a whole number of at least 1"),
        ([], "prefix must be at least one number of tokens"),
        ([2, 2], "prefix: 2 is given twice"),
        ("2", "prefix must be"),
    ],
)
def test_other_prefixes_are_refused(prefix, message):
    with pytest.raises(ConfigError, match=message):
        mm.memorized_sequences(lookup(), prefix)


def test_other_subjects_are_refused():
    other = mm.Subject(nn.Linear(2, 5), mm.ModularTask(mm.ModularConfig(p=5)))
    for call in (
        lambda: mm.memorized_sequences(other),
        lambda: mm.continuations(other, [0], 2),
        lambda: mm.sequence_edits(other, ["low_rank"]),
    ):
        with pytest.raises(MissingNeedError, match="needs a task of sequences, and this is a ModularTask"):
            call()
    with pytest.raises(ConfigError, match="shorter than the sequences"):
        mm.continuations(lookup(), [0], 10)
    with pytest.raises(UnknownNameError):
        mm.continuations(lookup(), [10**6], 2)

    class Lost(nn.Module):
        def forward(self, prefixes):
            return torch.full((len(prefixes), 8), math.nan)

    with pytest.raises(NotFiniteError):
        mm.memorized_sequences(mm.Subject(Lost(), TASK), 2)


class Table(nn.Module):
    """The logits of the next token follow from the last one; `columns` of them."""

    def __init__(self, columns):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Embedding(columns, columns)

    def forward(self, tokens):
        return self.head(tokens)


def test_losses_are_those_of_a_model_with_more_tokens_than_the_task():
    model = Table(11)
    subject = mm.Subject(mm.NextToken(model, TASK), TASK)
    found = mm.memorized_sequences(subject, 2)
    logits = model.head(TASK.tokens[:, :-1]).detach()
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), TASK.tokens[:, 1:].flatten(), reduction="none")
    torch.testing.assert_close(found.loss.flatten(), expected)
    assert torch.equal(found.right, logits.argmax(2) == TASK.tokens[:, 1:])
    # Elsewhere only the task's tokens count.
    assert subject.model(TASK.batch(TASK.ids[:3])[0]).shape == (3, 8)
    among = nn.functional.cross_entropy(logits[..., :8].flatten(0, 1), TASK.tokens[:, 1:].flatten(), reduction="none")
    scores = mm.example_scores(subject, ["loss"]).scores["loss"]
    torch.testing.assert_close(scores.values.float(), among[TASK.train_ids])
    # A token that only the model knows is a wrong continuation.
    with torch.no_grad():
        model.head.weight[:, 9] = 50.0
    assert not mm.memorized_sequences(subject, 2).right.any()
    said = mm.continuations(subject, [0], 2)
    assert (said[0, 2:] == 9).all()


def test_a_language_model_by_itself_is_told_its_wrapper():
    with pytest.raises(
        ConfigError, match=r"index out of range in self; .* of this task as mm.NextToken\(model, task\)"
    ):
        mm.memorized_sequences(Table(8), 2, TASK)


def test_a_task_with_all_of_the_models_tokens_has_the_same_losses_everywhere():
    whole = mm.SequenceTask(TASK.tokens, split=TASK.parts, vocabulary=11)
    subject = mm.Subject(mm.NextToken(Table(11), whole), whole)
    narrow = mm.Subject(mm.NextToken(Table(11), TASK), TASK)
    found, other = mm.memorized_sequences(subject, 2), mm.memorized_sequences(narrow, 2)
    torch.testing.assert_close(found.loss, other.loss)
    torch.testing.assert_close(
        mm.example_scores(subject, ["loss"]).scores["loss"].values.float(), found.loss.flatten()[whole.train_ids]
    )


def test_a_model_that_learned_to_look_ahead_is_refused():
    class Mixed(nn.Module):
        """Adds what it makes of the next token, which counts for nothing at first."""

        def __init__(self):
            super().__init__()
            self.table, self.ahead = nn.Embedding(8, 8), nn.Parameter(torch.zeros(()))

        def forward(self, tokens):
            found = self.table(tokens)
            return found + self.ahead * found.roll(-1, 1)

    model = Mixed()
    subject = mm.Subject(mm.NextToken(model, TASK), TASK)
    mm.memorized_sequences(subject, 2)
    with torch.no_grad():
        model.ahead.fill_(1)
    with pytest.raises(ConfigError, match="not causal"):
        mm.memorized_sequences(subject, 2)
