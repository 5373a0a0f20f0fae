"""Names of plugins in text: nested settings, quotes, and what cannot be read."""

import dataclasses
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechmem.core.names import build, split_outside
from mechmem.core.plugins import Plugin
from mechmem.errors import ConfigError, UnknownNameError


@dataclasses.dataclass(frozen=True)
class Sample(Plugin):
    name: ClassVar[str] = "sample"
    aliases: ClassVar[dict] = {"loud": {"volume": 11}}

    score: "str" = "ipr"
    volume: "int" = 1
    end: 'Literal["low", "high"]' = "high"
    share: "float | None" = None


CLASSES = {"sample": Sample, "loud": Sample}


def read(text):
    return build(CLASSES, text, text, "sample")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("sample", Sample()),
        (" sample ( ) ", Sample()),
        ("sample(strength)", Sample("strength")),
        ("sample(strength,3)", Sample("strength", 3)),
        ("sample( volume = 3 , end = low )", Sample(volume=3, end="low")),
        ("sample(volume=3,strength,low)", Sample("strength", 3, "low")),
        ("sample(share=0.3)", Sample(share=0.3)),
        ("sample(share=None)", Sample(share=None)),
        ("sample(share=1e-3)", Sample(share=1e-3)),
        ("sample(ipr(two_sided,of=w),2)", Sample("ipr(two_sided,of=w)", 2)),
        ("sample(score=ipr(of=w),end=low)", Sample("ipr(of=w)", end="low")),
        ("sample(score=a(b(c),d+e),volume=2)", Sample("a(b(c),d+e)", 2)),
        ("sample('a,b',2)", Sample("a,b", 2)),
        ("sample(score='a)=(b',volume=2)", Sample("a)=(b", 2)),
        ("loud", Sample(volume=11)),
        ("loud(strength,low)", Sample("strength", 11, "low")),
    ],
)
def test_what_is_written_is_what_is_built(text, wanted):
    assert read(text) == wanted


@pytest.mark.parametrize("text", ["1", "1.5", "None", "True", "blocks.0.hook_resid"])
def test_a_field_of_text_takes_anything_as_it_is_written(text):
    """Hook points of an nn.Sequential are called "0", "1", …"""
    assert read(f"sample(score={text})").score == text
    assert read(f"sample(score='{text}')").score == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a name with settings"),
        ("3x", "is not a name with settings"),
        ("sample,loud", "'sample,loud' is not one name; several are given one by one, without commas"),
        ("sample-score", "'sample-score' is not a name; they have underscores, as 'sample_score'"),
        ("sample(", "is not a name with settings"),
        ("sample)", "is not a name with settings"),
        ("sample(a))", "parentheses of .* do not match"),
        ("sample((a)", "parentheses of .* do not match"),
        ("sample(a)(b)", "parentheses of .* do not match"),
        ("sample(a,1,low,2,5)", "takes no further setting, got '5'"),
        ("sample(a,score=b)", "the setting 'score' of 'sample' is set twice"),
        ("sample(volume=1,volume=2)", "the setting 'volume' of 'sample' is set twice"),
        ("loud(volume=2)", "the setting 'volume' of 'loud' is set twice"),
    ],
)
def test_what_cannot_be_read_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        read(text)


def test_unknown_names_come_with_the_nearest():
    with pytest.raises(UnknownNameError, match="no sample 'sampel'. Did you mean 'sample'"):
        read("sampel(1)")
    with pytest.raises(UnknownNameError, match="no setting of 'sample' 'volum'. Did you mean 'volume'"):
        read("sample(volum=1)")
    with pytest.raises(UnknownNameError, match="no setting of 'sample' ''"):
        read("sample(=1)")


terms = st.recursive(
    st.sampled_from(["a", "b.0", "c_1", "1e-3"]),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"f({','.join(parts)}+x)"),
    max_leaves=8,
)


@given(st.lists(terms, min_size=1, max_size=5))
def test_splitting_undoes_joining(parts):
    assert split_outside("+".join(parts), "+") == parts
    assert read(f"sample(score={parts[0]})").score == parts[0]
