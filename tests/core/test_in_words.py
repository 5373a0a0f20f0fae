"""Words for what was given and what went wrong."""

import pytest

from mechmem.core.in_words import reason

WORDS = "expected one of " + ", ".join(f"device{number}" for number in range(40))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (AssertionError(), "AssertionError"),
        (RuntimeError(" \n"), "RuntimeError"),
        (ValueError("\nfirst line\nsecond line"), "first line"),
        (TypeError("x" * 200), "x" * 200),
    ],
)
def test_the_reason_is_the_first_line_of_an_error_or_its_class(error, said):
    assert reason(error) == said


def test_a_long_reason_is_cut_after_a_word():
    said = reason(RuntimeError(WORDS))
    assert len(said) <= 200 and said.endswith(", …") and WORDS.startswith(said.removesuffix(" …"))
    assert WORDS[len(said) - 2] == " "
