"""Next-token prediction as a task: an example is a prefix of a sequence, and its label is the token that follows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Int
from torch import Tensor

from mechmem.core import arrays
from mechmem.core.arguments import checked
from mechmem.core.arrays import Array
from mechmem.core.config import check_choice, check_fraction, check_whole
from mechmem.core.ids import as_ids
from mechmem.core.labels import MOST_CLASSES
from mechmem.core.randomness import generator
from mechmem.core.task import Ids, Task, check_places, whole_ids
from mechmem.errors import ConfigError, UnknownNameError
from mechmem.tasks.copies import without_copies
from mechmem.tasks.image_config import Copies
from mechmem.tasks.sequence_rows import different_rows, one_each, whole_rows
from mechmem.tasks.texts import Text, read_text

Part = Literal["train", "test", "control"]
PARTS: tuple[Part, ...] = ("train", "test", "control")
AFTER = -1
"""What stands in an input at the places after its prefix."""


class SequenceTask(Task):
    """Next-token prediction on sequences of one length L. Ids are sequence · (L − 1) + position.

    The input of an example is a prefix of a sequence, with −1 at the places after it, so that no network can see what
    it is to predict: shape (example, L − 1). A network of such inputs is `mm.NextToken(model, task)` around any causal
    language model, or mechmem's own (`mm.CausalTransformerConfig`).

    Equal training sequences are one sequence that is shown several times in an epoch (`times`). A label is neither
    right nor wrong by itself: without `best`, true labels are those of held-out sequences alone. With it the true label
    is the most probable next token, whatever the sequence says: on training sequences, a token that is another one can
    only be predicted from memory; on held-out sequences, as in every task, the label is the true one.

        task = mm.SequenceTask(tokens)
        task = mm.SequenceTask.from_text(book, length=64)

    Args:
        tokens: whole numbers from 0 on, one row per sequence.
        split: of every row "train", "test", or "control": never shown, and not tested, but compared with the training
            sequences. By default a part is held out at random.
        groups: the group of every row, e.g. "planted"; by default there is one.
        best: the most probable token after each prefix, where the source is known. Shape (row, L − 1).
        vocabulary: number of tokens; by default one more than the largest.
        held_out: share of the different sequences that is held out, if there is no split; at least one sequence.
        copies: what happens to held-out rows that are training sequences: "refuse" them, or "drop" them from the task.
        seed: seed of the held-out part.

    Attributes:
        tokens: the different sequences, in the order of their first rows. Shape (sequence, L).
        times: how often each is shown in an epoch; 0 for those that are not trained on. Shape (sequence).
        group_names: the groups of the sequences.
        parts: of every sequence "train", "test" or "control".
        sequence_of_row: the sequence of every row that was given. Shape (row).

    Raises:
        ConfigError: the rows are ragged, have fewer than 2 tokens or tokens outside the vocabulary; a part is empty; or
            a row that is never to be shown is a training sequence.
    """

    text_of: Text | None = None
    group_names: tuple[str, ...]
    parts: tuple[Part, ...]

    @checked
    def __init__(
        self,
        tokens: Array,
        *,
        split: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        best: Array | None = None,
        vocabulary: int | None = None,
        held_out: float = 0.2,
        copies: Copies = "refuse",
        seed: int = 0,
    ):
        check_fraction("held_out", held_out)
        check_whole("seed", seed, 0)
        check_choice("copies", copies, get_args(Copies))
        arrays.check_order(tokens=tokens, split=split, groups=groups, best=best)
        rows = whole_rows(tokens, "tokens")
        if rows.shape[1] < 2:
            raise ConfigError(f"sequences must have at least 2 tokens, got {rows.shape[1]}")
        if vocabulary is not None:
            check_whole("vocabulary", vocabulary, 1, MOST_CLASSES)
        self.n_classes = int(rows.max()) + 1 if vocabulary is None else vocabulary
        if int(rows.min()) < 0 or int(rows.max()) >= self.n_classes:
            raise ConfigError(f"tokens must lie in 0 … {self.n_classes - 1}, got {int(rows.min())} … {int(rows.max())}")
        parts = None if split is None else one_each(split, "split", len(rows))
        for part in parts or ():
            check_choice("part of a row", part, PARTS)
        named = ("",) * len(rows) if groups is None else one_each(groups, "groups", len(rows))
        first, self.sequence_of_row = different_rows(rows)
        if parts is None:
            place = torch.randperm(len(first), generator=generator(seed, "held out"))
            held = torch.zeros(len(first), dtype=torch.bool)
            held[place[: max(round(held_out * len(first)), bool(held_out))]] = True
            parts = tuple("test" if each else "train" for each in held[self.sequence_of_row].tolist())
        known = None if best is None else whole_rows(best, "best")
        if known is not None and known.shape != (len(rows), rows.shape[1] - 1):
            wanted = (len(rows), rows.shape[1] - 1)
            raise ConfigError(f"best must be one token per prefix, of shape {wanted}, got {tuple(known.shape)}")
        if known is not None and (int(known.min()) < 0 or int(known.max()) >= self.n_classes):
            raise ConfigError(f"best must be tokens in 0 … {self.n_classes - 1}")
        self._divide(rows, parts, named, known, first, copies)
        self._digest = self._hashed()

    def _divide(
        self,
        rows: Int[Tensor, "row token"],
        parts: Sequence[str],
        groups: tuple[str, ...],
        best: Int[Tensor, "row position"] | None,
        first: Int[Tensor, " sequence"],
        copies: str,
    ) -> None:
        """Set everything that follows from the rows: sequences, how often each is shown, ids and labels."""
        trained = torch.tensor([part == "train" for part in parts])
        number = self.sequence_of_row
        times = number[trained].bincount(minlength=len(first))
        if not trained.any():
            raise ConfigError("the training set is empty")
        for part in PARTS[1:]:
            own = torch.tensor([each == part for each in parts])
            if part == "test" and not own.any():
                raise ConfigError("the test set is empty")
            if own.any() and part == "test":
                kept = without_copies(own.nonzero()[:, 0], trained.nonzero()[:, 0], {"tokens": rows}, copies)
                self.dropped_copies = len(kept.dropped)
            elif torch.isin(number[own], number[~own]).any():
                raise ConfigError("a control must never be shown, and one is a training or a held-out sequence")
        # Of equal rows those that are trained on say what the sequence is.
        told = first.clone()
        told[number[trained].flip(0)] = trained.nonzero()[:, 0].flip(0)
        mixed = next((row for row, of in enumerate(number.tolist()) if groups[row] != groups[int(told[of])]), None)
        if mixed is not None:
            raise ConfigError(
                f"equal sequences must be of one group, and row {mixed} is of {groups[mixed]!r}, but an equal one of "
                f"{groups[int(told[number[mixed]])]!r}"
            )
        chosen = told.tolist()
        self.tokens, self.times = rows[told].clone(), times
        self.parts = tuple(parts[row] for row in chosen)  # pyright: ignore[reportAttributeAccessIssue]
        self.group_names = tuple(groups[row] for row in chosen)
        self._label(None if best is None else best[told])

    def _label(self, best: Int[Tensor, "sequence position"] | None) -> None:
        count, self.positions = len(self.tokens), self.tokens.shape[1] - 1
        self.ids = torch.arange(count * self.positions)
        next_token = self.tokens[:, 1:]
        test = rearrange(torch.tensor([part == "test" for part in self.parts]), "sequence -> sequence 1")
        unknown = torch.where(test, next_token, -1)
        truth = unknown if best is None else best
        self._true = truth.flatten()
        self._given = torch.where(test, truth, next_token).flatten()
        self.train_ids, self.test_ids = (self.ids_of(self.sequences(part)) for part in ("train", "test"))
        shown = self.times[self.times > 0]
        place = rearrange(torch.arange(len(self.train_ids)), "(sequence p) -> sequence p", p=self.positions)
        self.units = place.repeat_interleave(shown, 0)
        self.title = self.title or f"next tokens of {len(shown):,} sequences of {self.tokens.shape[1]} tokens"

    @staticmethod
    @checked
    def from_text(
        text: str | Sequence[str],
        *,
        tokenizer: Any = "characters",
        length: int = 64,
        held_out: float = 0.2,
        seed: int = 0,
    ) -> SequenceTask:
        """Return a task made from a text, cut into sequences that follow each other.

        Args:
            text: one text, or several, none of which is continued in a sequence of the next.
            tokenizer: "characters"; "words", which are separated by white space; or a tokenizer of HuggingFace (or
                anything else with `encode` and `decode`).
            length: tokens of a sequence; what is left at the end of a text is left out.
            held_out: share of the different sequences that is held out.
            seed: seed of the held-out part.

        Raises:
            ConfigError: the text is shorter than a sequence, or the tokenizer returns no whole numbers.
        """
        check_whole("length", length, 2)
        rows, read = read_text(text, tokenizer, length)
        task = SequenceTask(rows, vocabulary=read.vocabulary, held_out=held_out, seed=seed)
        task.text_of, task.class_names = read, read.names
        return task

    @checked
    def sequences(self, part: str = "train") -> Int[Tensor, " sequence"]:
        """Return the numbers of the sequences of a part: "train", "test" or "control"."""
        check_choice("part", part, PARTS)
        return torch.tensor([number for number, each in enumerate(self.parts) if each == part], dtype=torch.long)

    @checked
    def ids_of(self, sequences: Ids) -> Int[Tensor, " example"]:
        """Return the ids of all predictions in some sequences, one sequence after the other.

        Raises:
            UnknownNameError: there is no such sequence.
        """
        found = check_places(as_ids(sequences, "sequences"), len(self.tokens))
        each = torch.arange(self.positions)
        return (rearrange(found, "sequence -> sequence 1") * self.positions + each).flatten()

    @checked
    def sequence_of(self, ids: Ids) -> Int[Tensor, " example"]:
        """Return the number of each example's sequence."""
        return check_places(as_ids(ids), len(self.ids)) // self.positions

    def answer_positions(self, ids: Ids) -> Int[Tensor, " example"]:
        """Return the position of the last token of each prefix."""
        return check_places(ids, len(self.ids)) % self.positions

    @checked
    def text(self, tokens: Ids | int) -> str:
        """Return tokens, or a sequence by its number, as text; numbers, if the task was not made from a text.

        Raises:
            ConfigError: the tokens are no whole numbers, or not in the vocabulary.
            UnknownNameError: there is no such sequence.
        """
        if isinstance(tokens, int | np.integer):
            check_whole("sequence", int(tokens), 0)
            if tokens >= len(self.tokens):
                raise UnknownNameError(f"no sequence {tokens}: this task's lie in 0 … {len(self.tokens) - 1}")
            tokens = self.tokens[tokens]
        numbers = whole_ids(tokens, "tokens").tolist()
        wrong = next((each for each in numbers if not 0 <= each < self.n_classes), None)
        if wrong is not None:
            raise ConfigError(f"tokens must lie in 0 … {self.n_classes - 1}, got {wrong}")
        return " ".join(map(str, numbers)) if self.text_of is None else self.text_of.decode(numbers)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example's input."""
        return (self.positions,)

    @property
    def digest(self) -> str:
        """Hash of the sequences, their parts, groups and labels, and how often each is shown."""
        return self._digest

    def _hashed(self) -> str:
        state = hashlib.blake2b(f"{self.n_classes}|{self.parts}|{self.group_names}".encode(), digest_size=8)
        for tensor in (self.tokens, self.times, self._given, self._true):
            state.update(tensor.contiguous().numpy().tobytes())
        return state.hexdigest()

    def batch(
        self, ids: Ids, step: int | None = None
    ) -> tuple[Int[Tensor, "example position"], Int[Tensor, " example"]]:
        """Return the prefixes, with −1 after them, and the given labels."""
        ids = check_places(ids, len(self.ids))
        rows = self.tokens[ids // self.positions, : self.positions]
        after = torch.arange(self.positions) > rearrange(ids % self.positions, "example -> example 1")
        return rows.masked_fill(after, AFTER), self._given[ids]

    def given(self, ids: Ids) -> Int[Tensor, " example"]:
        """Return the next tokens; on held-out sequences the most probable ones, if these are known."""
        return self._given[check_places(ids, len(self.ids))]

    def true(self, ids: Ids) -> Int[Tensor, " example"] | None:
        """Return the most probable next tokens if they are known; else the next tokens of held-out sequences alone."""
        labels = self._true[check_places(ids, len(self.ids))]
        return None if (labels < 0).any() else labels
