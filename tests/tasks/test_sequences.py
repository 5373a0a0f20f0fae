"""Sequences as a task: ids, prefixes, labels, repeats, texts, and the planted grammar."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mechmem as mm
from mechmem.errors import ConfigError, MechmemError, UnknownNameError

ROWS = [[0, 1, 2, 3], [3, 2, 1, 0], [0, 1, 2, 3], [1, 1, 1, 1], [2, 2, 2, 2]]
SPLIT = ["train", "train", "train", "test", "control"]


@pytest.fixture
def task():
    return mm.SequenceTask(ROWS, split=SPLIT, groups=["a", "a", "a", "a", "b"])


@st.composite
def several(draw):
    length, rows = draw(st.integers(2, 6)), draw(st.integers(2, 8))
    tokens = draw(st.lists(st.lists(st.integers(0, 3), min_size=length, max_size=length), min_size=rows, max_size=rows))
    return torch.tensor(tokens)


@given(several(), st.integers(0, 5))
def test_ids_are_sequences_and_positions(tokens, seed):
    try:
        task = mm.SequenceTask(tokens, vocabulary=4, seed=seed, held_out=0.5)
    except ConfigError as error:
        assert "set is empty" in str(error)  # all rows are one sequence
        return
    length = tokens.shape[1]
    assert torch.equal(task.tokens[task.sequence_of_row], tokens)
    assert len(task.tokens.unique(dim=0)) == len(task.tokens)
    assert torch.equal(task.ids, torch.arange(len(task.tokens) * (length - 1)))
    sequences = task.sequence_of(task.ids)
    positions = task.answer_positions(task.ids)
    assert torch.equal(task.ids_of(torch.arange(len(task.tokens))), task.ids)
    inputs, labels = task.batch(task.ids)
    for row, sequence, position, label in zip(inputs, sequences, positions, labels, strict=True):
        own = task.tokens[sequence]
        assert row.tolist() == own[: position + 1].tolist() + [-1] * (length - 2 - int(position))
        assert int(label) == int(own[position + 1])
    # Every row that is trained on is shown once more in an epoch.
    shown = torch.tensor([task.parts[sequence] == "train" for sequence in task.sequence_of_row.tolist()])
    assert int(task.times.sum()) == int(shown.sum()) == len(task.units)
    drawn = task.sequence_of(task.train_ids[task.units].flatten()).reshape(len(task.units), -1)
    assert torch.equal(drawn[:, 0].bincount(minlength=len(task.tokens)), task.times)
    assert not set(task.train_ids.tolist()) & set(task.test_ids.tolist())


def test_equal_rows_are_one_sequence_that_is_shown_more_often(task):
    assert task.tokens.tolist() == [ROWS[0], ROWS[1], ROWS[3], ROWS[4]]
    assert task.times.tolist() == [2, 1, 0, 0]
    assert task.sequence_of_row.tolist() == [0, 1, 0, 2, 3]
    assert task.parts == ("train", "train", "test", "control") and task.group_names == ("a", "a", "a", "b")
    assert task.units.tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5]]
    assert task.sequences("control").tolist() == [3] and task.test_ids.tolist() == [6, 7, 8]


def test_without_a_known_source_no_training_label_is_right_or_wrong(task):
    assert task.noisy is None and task.true(task.train_ids) is None
    assert torch.equal(task.true(task.test_ids), task.given(task.test_ids))
    assert "train_clean" not in str(task.summary)


def test_with_a_known_source_the_true_label_is_its_best_token():
    best = [[1, 2, 3], [2, 1, 0], [1, 2, 3], [1, 1, 2], [2, 2, 2]]
    task = mm.SequenceTask(ROWS, split=SPLIT, best=best)
    assert task.noisy.tolist() == [False] * 6
    assert task.given(task.test_ids).tolist() == [1, 1, 2]  # the source's, not the row's
    noisy = mm.SequenceTask(ROWS, split=SPLIT, best=[[0, 2, 3], *best[1:2], [0, 2, 3], *best[3:]])
    assert noisy.noisy.tolist() == [True, False, False, False, False, False]
    assert noisy.given(noisy.train_ids)[0] == 1


def test_the_digest_is_of_everything_that_defines_the_task(task):
    same = mm.SequenceTask(np.array(ROWS, dtype=np.uint8), split=SPLIT, groups=["a", "a", "a", "a", "b"])
    assert same.digest == task.digest
    others = [
        mm.SequenceTask(ROWS, split=SPLIT, groups=["a", "a", "a", "b", "b"]),
        mm.SequenceTask(ROWS[1:], split=SPLIT[1:], groups=["a", "a", "a", "b"]),  # shown once less
        mm.SequenceTask(ROWS, split=SPLIT, groups=["a", "a", "a", "a", "b"], vocabulary=9),
        mm.SequenceTask(ROWS, split=["train", "train", "train", "control", "test"], groups=["a", "a", "a", "a", "b"]),
    ]
    assert len({task.digest, *(each.digest for each in others)}) == 5


def test_rows_given_to_a_task_can_be_changed_afterwards():
    rows = torch.tensor(ROWS)
    task = mm.SequenceTask(rows, split=SPLIT)
    rows.zero_()
    assert task.tokens[0].tolist() == ROWS[0]


def test_held_out_copies_are_refused_or_dropped():
    split = ["train", "train", "test", "test", "control"]
    with pytest.raises(ConfigError, match='have the tokens of a training example.*copies="drop"'):
        mm.SequenceTask(ROWS, split=split)
    task = mm.SequenceTask(ROWS, split=split, copies="drop")
    assert task.dropped_copies == 1 and task.sequences("test").tolist() == [2]


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([[0, 1], [0, 1, 2]], {}, "rows of one length, got rows of 2 … 3"),
        ([[0], [1]], {}, "at least 2 tokens, got 1"),
        ([[0, -1], [0, 1]], {}, r"must lie in 0 … 1, got -1 … 1"),
        ([[0, 5], [0, 1]], {"vocabulary": 5}, r"must lie in 0 … 4, got 0 … 5"),
        ([[0.5, 1], [0, 1]], {}, "rows of whole numbers"),
        ([0, 1, 2], {}, "rows of whole numbers"),
        ([], {}, "one row per example"),
        ("some text", {}, "tokens must be a tensor, an array, a list"),
        (ROWS, {"split": ["train"] * 4}, "split must be one name per row, 5"),
        (ROWS, {"split": ["train"] * 4 + ["tset"]}, "'tset'"),
        (ROWS, {"split": ["train"] * 5}, "the test set is empty"),
        (ROWS, {"split": ["test"] * 5}, "the training set is empty"),
        (ROWS, {"split": ["train", "train", "control", "test", "test"]}, "a control must never be shown"),
        (ROWS, {"groups": ["a", "a", "b", "b", "b"]}, "equal sequences must be of one group"),
        (ROWS, {"groups": "abcde"}, "groups must be"),
        (ROWS, {"best": [[0, 1]] * 5}, "best must be one token per prefix"),
        (ROWS, {"best": [[0, 1, 9]] * 5}, "best must be tokens in 0 … 3"),
        (ROWS, {"held_out": 2}, "held_out"),
    ],
)
def test_bad_input_is_one_typed_error(rows, settings, message):
    with pytest.raises(MechmemError, match=message):
        mm.SequenceTask(rows, **settings)


def test_unknown_sequences_and_ids_are_refused(task):
    for call in (task.ids_of, lambda it: task.batch(torch.tensor(it)), task.sequence_of):
        with pytest.raises(UnknownNameError):
            call([99])
    with pytest.raises(UnknownNameError, match="no sequence 9"):
        task.text(9)
    with pytest.raises(ConfigError):
        task.ids_of([])


class Letters:
    """A tokenizer like HuggingFace's."""

    add_special_tokens = None

    def __init__(self, returned=None):
        self.returned = returned

    def encode(self, text, add_special_tokens=True):
        return [0] * add_special_tokens + [ord(each) - 96 for each in text] if self.returned is None else self.returned

    def decode(self, tokens):
        return "".join(chr(each + 96) for each in tokens)

    def __len__(self):
        return 30


@pytest.mark.parametrize("tokenizer", ["characters", "words", Letters()])
def test_a_text_is_cut_into_sequences_and_read_back(tokenizer):
    text = "abcabdabe" if tokenizer != "words" else "a b c  a b d\na b e"
    task = mm.SequenceTask.from_text(text, tokenizer=tokenizer, length=3, held_out=0.34)
    assert task.tokens.shape == (3, 3)
    between = " " if tokenizer == "words" else ""
    assert [task.text(number) for number in range(3)] == [between.join(each) for each in ("abc", "abd", "abe")]
    assert task.n_classes == (30 if isinstance(tokenizer, Letters) else 5)
    assert len(task.sequences("test")) == 1


def test_sequences_do_not_go_from_one_text_to_the_next():
    task = mm.SequenceTask.from_text(["abcd", "efgh", "ab"], length=3)
    assert [task.text(number) for number in range(2)] == ["abc", "efg"]


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("", {}, "text must have at least 64 tokens, the length of a sequence, and has 0"),
        ([], {}, "and has 0"),
        ("short", {}, "and has 5"),
        ("a text", {"length": 1}, "length must be a whole number of at least 2"),
        ("a text", {"tokenizer": "letters"}, "tokenizer must be 'characters', 'words'"),
        ("a text", {"tokenizer": 5}, "an object with encode and decode, got 5"),
        ("a text", {"tokenizer": Letters(["a", "b"])}, "encode must return whole numbers"),
        ("a text", {"tokenizer": Letters([-1])}, "encode must return whole numbers"),
        (5, {}, "text must be"),
    ],
)
def test_bad_texts_are_one_typed_error(text, settings, message):
    with pytest.raises(ConfigError, match=message):
        mm.SequenceTask.from_text(text, **settings)


CONFIG = mm.GrammarConfig(
    vocabulary=8, order=1, length=12, train=30, test=10, repeats=(1, 3), passages=4, controls=5, seed=2
)


def test_the_planted_grammar_has_what_its_config_says():
    task = mm.GrammarTask(CONFIG)
    assert len(task.sequences("train")) == 30 + 2 * 4 and len(task.sequences("control")) == 5
    passages = [number for number, group in enumerate(task.group_names) if group == "passage"]
    assert sorted(task.times[passages].tolist()) == [0] * 5 + [1] * 4 + [3] * 4
    assert torch.equal(task.given(task.test_ids), task.grammar.best(task.tokens[task.sequences("test")]).flatten())
    assert task.best_loss == pytest.approx(float(task.grammar.expected(12)[0].mean()))
    # Passages are not what the grammar expects.
    losses = task.grammar.losses(task.tokens).mean(1)
    assert float(losses[passages].mean()) > float(losses[task.sequences("test")].mean()) + 1


def test_the_planted_grammar_is_that_of_its_seed():
    first, again = mm.GrammarTask(CONFIG), mm.GrammarTask(CONFIG)
    assert torch.equal(first.tokens, again.tokens) and first.digest == again.digest == CONFIG.digest
    assert mm.GrammarConfig.from_dict(CONFIG.to_dict()) == CONFIG

    other = mm.GrammarTask(dataclasses.replace(CONFIG, seed=3))
    assert not torch.equal(first.grammar.tables[1], other.grammar.tables[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocabulary": 1}, "vocabulary"),
        ({"order": 9}, r"vocabulary \*\* order must be at most"),
        ({"repeats": (2, 2)}, "repeats must be different"),
        ({"repeats": (0,)}, "repeats"),
        ({"length": 1}, "length"),
        ({"length": 4, "vocabulary": 2}, "too few to tell"),
        ({"train": 10**8}, "tokens"),
        ({"sharpness": -1}, "sharpness"),
    ],
)
def test_impossible_grammars_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        mm.GrammarConfig(**settings)


@pytest.mark.parametrize("own", [True, False])
def test_tokens_that_are_none_have_no_text(own, task, unchecked_shapes):
    made = mm.SequenceTask.from_text("abcabdabe", length=3, held_out=0.4) if own else task
    largest = made.n_classes - 1
    assert made.text([0, 1]) == made.text((0, 1)) == made.text(np.array([0, 1])) == made.text(torch.tensor([0, 1]))
    assert made.text(np.int64(0)) == made.text(0)
    for tokens in (torch.tensor([99]), [-1], torch.tensor([0, largest + 1])):
        with pytest.raises(ConfigError, match=rf"tokens must lie in 0 … {largest}, got (99|-1|{largest + 1})"):
            made.text(tokens)
    for tokens in (torch.tensor([0.5]), [0.5], torch.tensor([[0]]), torch.tensor([True])):
        with pytest.raises(ConfigError, match="tokens must be"):
            made.text(tokens)
