"""Texts as rows of tokens."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechmem.core.in_words import shown
from mechmem.errors import ConfigError


@dataclasses.dataclass(frozen=True, eq=False)
class Text:
    """How tokens are read as text.

    Attributes:
        vocabulary: number of tokens.
        names: the tokens, in the order of their numbers, if they are known.
        between: what stands between two tokens.
        tokenizer: what made the tokens, if not mechmem.
    """

    vocabulary: int
    names: tuple[str, ...] | None
    between: str = ""
    tokenizer: Any = None

    def decode(self, tokens: Sequence[int]) -> str:
        """Return tokens as text."""
        if self.tokenizer is not None:
            return str(self.tokenizer.decode(list(tokens)))
        return self.between.join((self.names or ())[each] for each in tokens)


def read_text(text: str | Sequence[str], tokenizer: Any, length: int) -> tuple[Int[Tensor, "row token"], Text]:
    """Return texts as rows of tokens, and how these are read.

    Args:
        text: one text or several.
        tokenizer: "characters", "words", or an object with `encode` and `decode`.
        length: tokens of a row; what is left at the end of a text is left out.

    Raises:
        ConfigError: no text has so many tokens, the text is the path of a file, or the tokenizer returns no whole
            numbers.
    """
    texts = [text] if isinstance(text, str) else list(text)
    if not all(isinstance(each, str) for each in texts):
        raise ConfigError(f"text must be a string, or several, got {shown(text)}")
    if isinstance(text, str) and len(text) < 1000 and os.path.isfile(text):
        raise ConfigError(f"text must be the text itself, and {shown(text)} is the path of a file: read it first")
    if isinstance(tokenizer, str):
        numbered, read = _split(texts, tokenizer)
    else:
        numbered, read = _encoded(texts, tokenizer)
    rows = [each[start : start + length] for each in numbered for start in range(0, len(each) - length + 1, length)]
    if not rows:
        longest = max(map(len, numbered), default=0)
        raise ConfigError(f"text must have at least {length} tokens, the length of a sequence, and has {longest}")
    return torch.tensor(rows), read


def _split(texts: list[str], by: str) -> tuple[list[list[int]], Text]:
    if by not in ("characters", "words"):
        raise ConfigError(f"tokenizer must be 'characters', 'words', or an object with encode and decode, got {by!r}")
    parts = [list(each) if by == "characters" else each.split() for each in texts]
    names = tuple(sorted({part for each in parts for part in each}))
    number = {name: place for place, name in enumerate(names)}
    return [[number[part] for part in each] for each in parts], Text(
        len(names), names, "" if by == "characters" else " "
    )


def _encoded(texts: list[str], tokenizer: Any) -> tuple[list[list[int]], Text]:
    if not callable(getattr(tokenizer, "encode", None)) or not callable(getattr(tokenizer, "decode", None)):
        raise ConfigError(
            f"tokenizer must be 'characters', 'words', or an object with encode and decode, got {shown(tokenizer)}"
        )
    # HuggingFace's would put marks at the beginning and end of a text, which are not in the text.
    plain = {"add_special_tokens": False} if hasattr(tokenizer, "add_special_tokens") else {}
    found = [getattr(encoded, "ids", encoded) for encoded in (tokenizer.encode(each, **plain) for each in texts)]
    numbered = [each.tolist() if hasattr(each, "tolist") else each for each in found]
    for each in numbered:
        if not isinstance(each, list) or not all(type(token) is int and token >= 0 for token in each):
            raise ConfigError(f"tokenizer.encode must return whole numbers from 0 on, and returned {shown(each)}")
    largest = max((max(each, default=0) for each in numbered), default=0)
    size = tokenizer.get_vocab_size() if hasattr(tokenizer, "get_vocab_size") else _length(tokenizer)
    return numbered, Text(max(size, largest + 1), None, tokenizer=tokenizer)


def _length(tokenizer: Any) -> int:
    try:
        return len(tokenizer)
    except TypeError:
        return 0
