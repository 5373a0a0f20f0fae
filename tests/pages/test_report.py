import dataclasses
import html.parser
import importlib.metadata
import json
import re
from typing import get_args

import numpy as np
import pytest
import torch
from plotly.offline import get_plotlyjs

import mechmem as mm
from mechmem.core.needs import KNOWLEDGE
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError, RunDirectoryError
from mechmem.pages.facts import facts
from mechmem.pages.report import MOST_ROWS, write_report
from mechmem.pages.sections import SCORECARD_CAPTION, SECTIONS
from mechmem.scorecard import glossary
from mechmem.scorecard.controls import LogitTable
from mechmem.scorecard.rows import CONTROL_TITLES
from mechmem.scorecard.scorecard import Scorecard
from mechmem.scorecard.verdict import Verdict

TITLES = [section.title for section in SECTIONS]


def entry(subject, name):
    """A network under a name, and its scorecard."""
    named = dataclasses.replace(subject, name=name)
    return named, mm.audit(named, ["raw"])


class Page(html.parser.HTMLParser):
    """What a browser would find: text, scripts, styles, tags with their attributes, and all that could be fetched."""

    def __init__(self, text: str):
        super().__init__()
        self.text, self.scripts, self.styles, self.fetched, self.tags, self.attributes = "", [], "", [], [], []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
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


def articles(page):
    """The parts of a page that are about one network."""
    return [Page(f"<article {part.split('</article>')[0]}") for part in page.split("<article ")[1:]]


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
    write_report([entry(tiny_run, "first"), entry(bare, "a <b>&</b> </script>")], path)
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


def test_every_section_of_a_run_is_drawn_with_a_caption_and_its_table(page):
    found, (first, second) = Page(page), articles(page)
    shown = [section for section in SECTIONS if "turn_over" not in getattr(section.analysis, "needs", ())]
    places = [first.text.index(text) for section in shown for text in (f"{section.title}\n", section.caption)]
    assert places == sorted(places)
    assert SCORECARD_CAPTION in first.text and "Scorecard of first" in first.text
    assert len(first.figures) == 1 + len(shown) and len(second.figures) == 4
    assert found.tags.count("figure") == found.tags.count("figcaption") == len(found.figures)
    assert found.text.count("The table behind the figure") == len(found.figures)
    assert all(figure["data"] and figure["layout"]["height"] for figure in found.figures)


def test_what_is_impossible_says_why_in_its_place(page):
    second = articles(page)[1].text
    for title, reason in (
        ("Training", "'training_curves' needs run."),
        ("Neurons by frequency", "'neuron_spectrum' needs group, role:input_embedding, role:readout (multiplication"),
        ("Spectrum of the logits", "'logit_spectrum' needs group (multiplication"),
        ("What the margins are made of", "'suppression' needs group, operation (multiplication"),
    ):
        section = second[second.index(f"{title}\n") :]
        assert section.index(reason) < section.index(TITLES[-1])


def test_a_part_that_is_missing_from_a_figure_says_why(planted, tmp_path):
    write_report([entry(planted.subject, "planted")], tmp_path / "r.html")
    text = Page((tmp_path / "r.html").read_text(encoding="utf-8")).text
    assert "no untrained twin: the network has neither a run with step 0 nor a retrainer." in text


def test_names_and_sentences_are_text_not_markup(page):
    found = Page(page)
    assert "a <b>&</b> </script>: no verdict" in found.text
    assert "b" not in found.tags


def test_text_inside_a_figure_cannot_end_its_script(tiny_run, tmp_path, monkeypatch):
    plot, hostile = Scorecard.plot, "</script><img src=x>"
    monkeypatch.setattr(Scorecard, "plot", lambda card: plot(card).update_layout(title_text=hostile))
    write_report([entry(tiny_run, "x")], tmp_path / "r.html")
    found = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "img" not in found.tags
    assert found.figures[0]["layout"]["title"]["text"] == hostile


def test_contents_lead_to_every_figure_and_name_verdicts_where_there_are_several(page, tiny_run, tmp_path):
    places = {attributes["id"] for _, attributes in Page(page).attributes if "id" in attributes}
    contents = page[page.index("<nav") : page.index("</nav>")]
    links = [attributes["href"] for tag, attributes in Page(contents).attributes if tag == "a"]
    assert {link.removeprefix("#") for link in links} <= places and len(set(links)) == len(links)
    assert len(links) == 2 + len(Page(page).figures)
    assert glossary.VERDICTS["refused"].one in Page(contents).text
    write_report([only := entry(tiny_run, "only")], tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    contents = Page(text[text.index("<nav") : text.index("</nav>")])
    assert "Scorecard" in contents.text and glossary.VERDICTS[only[1].verdict].one not in contents.text


def test_nothing_is_said_again_for_the_next_network(tiny_run, tmp_path):
    entries = [entry(tiny_run, "first"), entry(tiny_run, "second")]
    write_report(entries, tmp_path / "r.html")
    text = Page((tmp_path / "r.html").read_text(encoding="utf-8")).text
    for said in (
        SCORECARD_CAPTION,
        *(section.caption for section in SECTIONS[:-1]),
        *(card.sentence for _, card in entries),
    ):
        assert text.count(said) == 1, said
    assert text.count("How to read this figure") == len(SECTIONS)


def test_the_page_explains_what_it_shows(page):
    text = Page(page).text
    meanings = [*glossary.CONTROLS.values(), *glossary.RANDOM_CHOICES.values(), *glossary.STATISTICS.values()]
    meanings += [*KNOWLEDGE.values(), glossary.TOLD, *(each.when for each in glossary.VERDICTS.values())]
    assert all(text.count(meaning) >= 1 for meaning in meanings)
    assert all(text.count(f"The network {each.one}") == 1 for each in glossary.VERDICTS.values())
    assert set(glossary.CONTROLS) == set(CONTROL_TITLES) and {*glossary.VERDICTS, "mixed"} == set(get_args(Verdict))


def test_tables_have_captions_and_headers(page):
    tables = re.findall(r"<table.*?</table>", page.replace(get_plotlyjs(), ""), re.DOTALL)
    assert len(tables) == 2 + len(Page(page).figures)
    for table in tables:
        assert re.search(r"<caption>[^<]+</caption><thead>", table)
        scopes = [attributes.get("scope") for tag, attributes in Page(table).attributes if tag == "th"]
        assert set(scopes) <= {"col", "colgroup", "row"} and "col" in scopes
        rows = re.findall(r"<tr>(<t[hd][^>]*>)", table[table.index("<tbody>") :])
        assert rows and set(rows) == {'<th scope="row">'}
        assert "&lt;NA&gt;" not in table


def test_a_long_table_says_how_many_rows_it_has(planted, tmp_path):
    wide = mm.planted_network(17, train_fraction=0.7).subject
    write_report([entry(wide, "wide")], tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert f"(289 rows, of which the first and the last {MOST_ROWS // 2} are shown)" in text
    assert max(table.count("<tr>") for table in text.split("<tbody>")) == MOST_ROWS + 1  # and a row of dots


def test_what_is_known_of_a_run_stands_beside_its_task(page, tiny_run, tiny_config):
    text = " ".join(articles(page)[0].text.split())
    size = sum(each.numel() for each in tiny_run.model.parameters())
    assert f"NetworkHookedMLP; layers 1; width 12; activation relu; {size:,} parameters" in text
    assert f"{tiny_config.optimizer}, learning rate 0.01, weight decay 0.1; 30 steps of cross entropy" in text
    assert "precision fp32; seed 0" in text
    assert f"mechmem {importlib.metadata.version('mechmem')}, torch {torch.__version__}, Python" in text
    assert f"Task{tiny_run.task.description}" in text and "a + b mod 5: " in tiny_run.task.description
    assert "p5 train fraction0.7" in text and "noise fraction0.3" in text and "stop whennone" in text
    assert "kind of networkmlp" in text


def test_of_a_users_own_network_class_size_and_roles_are_told(planted):
    roles = mm.Roles(
        readout=mm.Role("weight", "classes neuron -> neuron classes"), bias=mm.Role("bias", "classes -> classes")
    )
    known = facts(Subject(torch.nn.Linear(3, 2), planted.subject.task, roles))
    assert known["Network"] == "Linear; 8 parameters; roles: readout, bias"
    assert known["Training"] == "not known" and "Trained with" not in known
    assert facts(Subject(torch.nn.Linear(3, 2), planted.subject.task))["Network"].endswith("roles: none")


def test_a_recorded_loop_and_an_early_end_are_told(tiny_run, tmp_path):
    config = dataclasses.replace(tiny_run.run.config, stop_when="train_clean >= 0.0")
    assert "ended at step 1 (train_clean >= 0.0" in facts(mm.train(config, progress=False))["Training"]
    recorder = mm.Recorder(tiny_run.model, tiny_run.task, steps=2, roles=tiny_run.roles, out=tmp_path / "own")
    for step in range(3):
        recorder(step)
    recorded = facts(Subject(tiny_run.model, tiny_run.task, run=recorder.run()))
    assert recorded["Training"] == "a training loop of the user's own, recorded up to step 2"
    assert recorded["Trained with"].startswith("mechmem ")


@pytest.mark.parametrize("name", ["r.pdf", "r", "r.html.gz", ".html"])
def test_another_suffix_is_refused_before_the_work(tiny_run, name, tmp_path, monkeypatch):
    monkeypatch.setattr(Scorecard, "plot", lambda card: pytest.fail("worked before the path was checked"))
    with pytest.raises(ConfigError, match="path must end in .html or .htm"):
        write_report([entry(tiny_run, "x")], tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_somebody_elses_page_is_kept(tiny_run, tmp_path):
    path = tmp_path / "thesis.htm"
    path.write_text("<title>my thesis</title>")
    with pytest.raises(RunDirectoryError, match="something else than a report"):
        write_report([entry(tiny_run, "x")], path)
    assert path.read_text() == "<title>my thesis</title>"
    write_report([entry(tiny_run, "x")], tmp_path / "other.HTM")


def test_arrays_are_stored_as_numbers_in_binary(page):
    heat = next(t for figure in Page(page).figures for t in figure["data"] if t["type"] == "heatmap")
    assert heat["z"]["dtype"] == "f4" and isinstance(heat["z"]["bdata"], str)


@pytest.mark.slow
def test_figures_of_a_network_stay_small(planted, tmp_path):
    wide = planted.subject.with_model(mm.planted_network(7, width=3000).subject.model)
    write_report([entry(wide, "wide")], tmp_path / "r.html")
    found = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert sum(len(script) for script in found.scripts if script.startswith("{")) < 150_000
    assert (tmp_path / "r.html").stat().st_size - len(get_plotlyjs().encode()) < 500_000


@pytest.mark.slow
def test_a_report_that_fails_leaves_the_old_one_whole(tiny_run, tmp_path, monkeypatch):
    path, first, second = tmp_path / "r.html", entry(tiny_run, "first"), entry(tiny_run, "second")
    write_report([first], path)
    before, plot = path.read_bytes(), Scorecard.plot

    def broken(card):
        if card.name == "second":
            raise MissingNeedError("no scorecard figure")
        return plot(card)

    monkeypatch.setattr(Scorecard, "plot", broken)
    with pytest.raises(MissingNeedError):
        write_report([first, second], path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_report_leaves_the_network_as_it_was(planted, tmp_path):
    state = {name: value.clone() for name, value in planted.subject.model.state_dict().items()}
    write_report([entry(planted.subject, "planted")], tmp_path / "r.html")
    for name, value in planted.subject.model.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


def test_a_report_takes_networks_with_their_scorecards(planted, tmp_path):
    for wrong in (
        [planted.subject],
        planted.subject,
        [(planted.subject,)],
        (planted.subject, mm.audit(planted.subject, "raw")),
    ):
        with pytest.raises(ConfigError, match=r"takes pairs, \(subject, mm.audit\(subject\)\), .*; got a "):
            write_report(wrong, tmp_path / "r.html")
    assert not list(tmp_path.iterdir())
