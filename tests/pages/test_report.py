import dataclasses
import html.parser
import json

import numpy as np
import pandas as pd
import pytest
import torch
from plotly.offline import get_plotlyjs

import mechmem as mm
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.pages import report
from mechmem.pages.report import SECTIONS, write_report
from mechmem.plotting.accuracy import dot_plot
from mechmem.scorecard.controls import LogitTable

TITLES = [section.title for section in SECTIONS]


@dataclasses.dataclass(frozen=True)
class Card:
    """What a report asks of a scorecard."""

    name: str
    sentence: str = "It computes the rule."
    verdict: str = "rule"
    task: dict = dataclasses.field(default_factory=lambda: {"kind": "modular", "p": 7, "noise": {"fraction": 0.3}})

    def plot(self):
        row = {"extractor": "raw", "series": "test", "value": 0.5, "low": 0.4, "high": 0.6}
        return dot_plot(pd.DataFrame([row]), chance=1 / 7)

    def _repr_html_(self):
        return "<table><tr><td>the table</td></tr></table>"


class Page(html.parser.HTMLParser):
    """What a browser would find: text, scripts, styles and everything that could be fetched."""

    def __init__(self, text: str):
        super().__init__()
        self.text, self.scripts, self.styles, self.fetched, self.tags = "", [], "", [], []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.inside = tag
        fetching = {"src", "srcset", "data", "poster", "action"} | ({"href"} if tag != "a" else set())
        self.fetched += [value for name, value in attrs if name in fetching]
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside == "style":
            self.styles += data
        else:
            self.text += data

    @property
    def figures(self):
        return [json.loads(script) for script in self.scripts if script.startswith("{")]


@pytest.fixture(scope="module")
def bare(planted):
    """Only logits, on a task that is not on a group: nothing but the grid can be shown."""
    task = planted.subject.task
    train = torch.zeros(len(task.ids), dtype=torch.bool)
    train[task.train_ids] = True
    plain = mm.ArrayTask(task.operands, task.given(task.ids), task.true(task.ids), train)
    return Subject(LogitTable(torch.eye(7)[plain.given(plain.ids)], plain), plain)


@pytest.fixture(scope="module")
def page(tiny_run, bare, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "deep" / "report.html"
    write_report([(tiny_run, Card("first")), (bare, Card("a <b>&</b> </script>", "It shows nothing <here>."))], path)
    return path.read_text(encoding="utf-8")


def test_the_file_holds_plotly_once_and_fetches_nothing(page):
    found = Page(page)
    assert page.count(get_plotlyjs()) == 1 and page.count("* plotly.js v") == 1
    assert not found.fetched
    assert "url(" not in found.styles and "@import" not in found.styles
    assert not {"link", "iframe", "img", "object", "embed", "base"} & set(found.tags)
    own = page.replace(get_plotlyjs(), "")
    assert "://" not in own
    assert "default-src 'none'" in own, "the browser refuses to load anything, whatever plotly asks for"


def test_every_section_of_a_run_is_drawn_with_a_caption(page):
    found = Page(page)
    first = found.text.split("a <b>&</b>")[-2]
    shown = [section for section in SECTIONS if "turn_over" not in getattr(section.analysis, "needs", ())]
    places = [first.index(text) for section in shown for text in (section.title, section.caption)]
    assert places == sorted(places)
    assert report.SCORECARD_CAPTION in first and "the table" in first
    assert found.tags.count("figure") == found.tags.count("figcaption") == len(found.figures) == 1 + len(shown) + 4
    assert all(figure["data"] and figure["layout"]["height"] for figure in found.figures)


def test_what_is_impossible_says_why_in_its_place(page):
    second = Page(page).text.split("a <b>&</b>")[-1]
    for title, reason in (
        ("Training", "'training_curves' needs run."),
        ("Neurons by frequency", "'neuron_spectrum' needs group, role:input_embedding, role:readout (multiplication"),
        ("Spectrum of the logits", "'logit_spectrum' needs group (multiplication"),
        ("What the margins are made of", "'suppression' needs group, operation (multiplication"),
    ):
        section = second[second.index(title) :]
        assert section.index(reason) < section.index(TITLES[-1])


def test_a_part_that_is_missing_from_a_figure_says_why(planted, tmp_path):
    write_report([(planted.subject, Card("planted"))], tmp_path / "r.html")
    text = Page((tmp_path / "r.html").read_text(encoding="utf-8")).text
    assert "no untrained twin: the network has neither a run with step 0 nor a retrainer." in text


def test_names_and_sentences_are_text_not_markup(page):
    found = Page(page)
    assert "a <b>&</b> </script>" in found.text and "It shows nothing <here>." in found.text
    assert "b" not in found.tags and "here" not in found.tags


def test_text_inside_a_figure_cannot_end_its_script(tiny_run, tmp_path):
    class Hostile(Card):
        def plot(self):
            return super().plot().update_layout(title_text="</script><img src=x>")

    write_report([(tiny_run, Hostile("x"))], tmp_path / "r.html")
    found = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "img" not in found.tags
    assert found.figures[0]["layout"]["title"]["text"] == "</script><img src=x>"


def test_several_networks_are_summed_up_side_by_side_and_one_is_not(page, tiny_run, tmp_path):
    summary = page[page.index('class="summary"') : page.index("<article")]
    assert "It computes the rule." in summary and "It shows nothing" in summary
    write_report([(tiny_run, Card("only"))], tmp_path / "r.html")
    assert 'class="summary"' not in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_task_is_listed_without_internals(page):
    text = " ".join(Page(page).text.split())
    assert "p7 noise fraction0.3" in text and "kind" not in text


def test_arrays_are_stored_as_numbers_in_binary(page):
    heat = next(t for figure in Page(page).figures for t in figure["data"] if t["type"] == "heatmap")
    assert heat["z"]["dtype"] == "f4" and isinstance(heat["z"]["bdata"], str)


@pytest.mark.slow
def test_figures_of_a_network_stay_small(planted, tmp_path):
    wide = planted.subject.with_model(mm.planted_network(7, width=6000).subject.model)
    write_report([(wide, Card("wide"))], tmp_path / "r.html")
    own = (tmp_path / "r.html").stat().st_size - len(get_plotlyjs().encode())
    assert own < 150_000


@pytest.mark.slow
def test_a_report_that_fails_leaves_the_old_one_whole(tiny_run, tmp_path):
    class Broken(Card):
        def plot(self):
            raise MissingNeedError("no scorecard figure")

    path = tmp_path / "r.html"
    write_report([(tiny_run, Card("first"))], path)
    before = path.read_bytes()
    with pytest.raises(MissingNeedError):
        write_report([(tiny_run, Card("first")), (tiny_run, Broken("second"))], path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_report_leaves_the_network_as_it_was(planted, tmp_path):
    state = {name: value.clone() for name, value in planted.subject.model.state_dict().items()}
    write_report([(planted.subject, Card("planted"))], tmp_path / "r.html")
    for name, value in planted.subject.model.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


def test_a_report_takes_networks_with_their_scorecards(planted, tmp_path):
    for wrong in ([planted.subject], planted.subject, [(planted.subject,)], (planted.subject, Card("first"))):
        with pytest.raises(ConfigError, match=r"takes pairs, \(subject, mm.audit\(subject\)\), .*; got a "):
            write_report(wrong, tmp_path / "r.html")
    assert not list(tmp_path.iterdir())
