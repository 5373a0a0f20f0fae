"""What the page to explore shows, as data: against planted truth, other analyses, and sums by hand."""

import dataclasses
import html.parser
import json

import numpy as np
import pytest
import torch
from plotly.offline import get_plotlyjs
from small_transformer import small_transformer
from torch import nn

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError, RunDirectoryError
from mechmem.models.reading.forward import all_logits
from mechmem.pages import explore as page_module
from mechmem.pages.explored import explored
from mechmem.pages.explored_cells import HELPFUL, MOST_SYMBOLS
from mechmem.pages.packed import LARGEST, packed, unpacked


@pytest.fixture(scope="module")
def seen(planted):
    return explored(planted.subject)


@pytest.fixture(scope="module")
def tiny(tiny_run):
    return explored(tiny_run)


class Guess(nn.Module):
    """Logits that depend on nothing but the pair, of a network without roles."""

    def __init__(self, symbols, classes):
        super().__init__()
        self.table = nn.Parameter(torch.randn(symbols, symbols, classes, generator=torch.Generator().manual_seed(0)))

    def forward(self, pairs):
        return self.table[pairs[:, 0], pairs[:, 1]]


def told_nothing(name="own"):
    """A network on pairs of which only training labels are known; some pairs are missing, and one is there twice."""
    pairs = torch.cat([torch.cartesian_prod(torch.arange(4), torch.arange(5))[:-2], torch.tensor([[0, 0]])])
    given = torch.arange(19) % 3
    train = (torch.arange(19) < 12) | (torch.arange(19) == 18)
    given[18] = 2
    return mm.Subject(Guess(5, 3), mm.ArrayTask(pairs, given, None, train), name=name)


@pytest.mark.parametrize(
    "values",
    [
        torch.arange(256),
        torch.arange(-1, 300).reshape(7, 43),
        torch.tensor([2**16 - 1, 0]),
        torch.tensor([-(2**31), 2**31 - 1]),
        torch.tensor([[True, False]]),
        torch.zeros(0, 3, dtype=torch.long),
    ],
    ids=lambda values: str(tuple(values.shape)),
)
def test_whole_numbers_are_packed_exactly(values):
    about = json.loads(json.dumps(packed(values)))
    assert "scale" not in about
    assert torch.equal(unpacked(about), values.long())


def test_fractions_are_packed_to_half_a_scale_of_the_largest(draw):
    values = torch.randn(50, 3, generator=draw, dtype=torch.float64) * 1e-3
    values[7, 1] = torch.nan
    about = packed(values)
    back = unpacked(about)
    assert about["scale"] == pytest.approx(float(values[~values.isnan()].abs().max()) / LARGEST)
    assert torch.equal(back.isnan(), values.isnan())
    assert float((back - values).nan_to_num().abs().max()) <= about["scale"] / 2 * (1 + 1e-9)
    assert torch.equal(unpacked(packed(torch.zeros(4))), torch.zeros(4).double())


def test_outcomes_are_those_of_the_analysis_and_answers_those_of_each_checkpoint(tiny_run, tiny):
    assert tiny.course.steps == tuple(tiny_run.run.checkpoint_steps()) and tiny.course.own == len(tiny.course.steps) - 1
    for step, answers, outcome in zip(tiny.course.steps, tiny.course.answers, tiny.course.outcome, strict=True):
        then = mm.load(tiny_run.run.path, step=step)
        found = mm.analyse(then, "cell_outcomes")
        assert torch.equal(answers, all_logits(then).argmax(1)[tiny.cells.rows])
        assert torch.equal(outcome, found.outcome[tiny.cells.rows])
    assert len(set(map(tuple, tiny.course.answers.tolist()))) > 1, "training moved some answer"


def test_accuracies_are_those_of_the_history(tiny_run, tiny):
    history = tiny_run.run.history().set_index("step")
    shared = [place for place, step in enumerate(tiny.course.steps) if step in history.index]
    assert len(shared) >= 3
    assert list(tiny.course.accuracy) == ["train_clean", "train_noisy", "train_noisy_true", "test"]
    for split, values in tiny.course.accuracy.items():
        wanted = history.loc[[tiny.course.steps[place] for place in shared], split].to_numpy()
        np.testing.assert_allclose(values[shared], wanted)


def test_a_cell_is_fitted_from_the_first_state_on_after_which_it_keeps_its_label(tiny_run, tiny):
    # On held-out examples the given labels are the true ones.
    labels = tiny_run.task.given(tiny_run.task.ids)[tiny.cells.rows]
    for cell, (answers, label) in enumerate(zip(tiny.course.answers.T.tolist(), labels.tolist(), strict=True)):
        wrong = [state for state, answer in enumerate(answers) if answer != label]
        wanted = max(wrong, default=-1) + 1
        assert tiny.course.fitted[cell] == (wanted if wanted < len(answers) else -1)
    noisy = labels != tiny_run.task.true(tiny_run.task.ids)[tiny.cells.rows]
    assert int(tiny.course.fitted[noisy].max()) >= 0 and int(tiny.course.fitted.min()) < 0


def test_the_network_s_own_state_is_found_among_those_saved(tiny_run, tiny):
    first = explored(mm.load(tiny_run.run.path, step=tiny.course.steps[1]))
    assert first.course.own == 1 and first.course.steps == tiny.course.steps
    assert torch.equal(first.course.answers, tiny.course.answers)
    model = tiny_run.copy_model()
    with torch.no_grad():
        model.W_out.mul_(-1)
    edited = explored(tiny_run.with_model(model))
    assert edited.course.steps == (*tiny.course.steps, None) and edited.course.own == len(tiny.course.steps)
    assert torch.equal(edited.cells.answer, edited.course.answers[-1])
    assert "none of the saved states" in edited.missing["influences"]


@pytest.mark.parametrize("bias", [False, True])
def test_contributions_of_neurons_sum_to_the_logit(bias, planted, subject_with_bias):
    subject = subject_with_bias if bias else planted.subject
    seen = explored(subject)
    found, logits = seen.contributions, all_logits(subject).double()[seen.cells.rows]
    wanted = logits.gather(1, seen.cells.answer[:, None])[:, 0] - logits.mean(1)
    torch.testing.assert_close(found.total, wanted)
    torch.testing.assert_close(found.values.sum(1) + found.rest + found.bias, wanted, rtol=1e-4, atol=1e-5)
    assert bool(found.bias.abs().max() > 0) is bias


@pytest.fixture(scope="module")
def subject_with_bias():
    noise = mm.LabelNoise(0.3)
    config = mm.TrainConfig(mm.ModularConfig(p=7, noise=noise), mm.MLPConfig(30, bias=True), steps=40, lr=0.02)
    return mm.train(config, progress=False)


def test_contributors_are_the_strongest_for_and_against_and_held_cells_the_other_way_around(planted, seen):
    subject, found, answer = planted.subject, seen.contributions, seen.cells.answer
    weights = subject.model.W_out.detach()
    hidden = mm.activations(subject, "hook_hidden", ids=subject.task.ids)["hook_hidden"][seen.cells.rows]
    each = hidden * (weights - weights.mean(1, keepdim=True)).T[answer]
    torch.testing.assert_close(each.gather(1, found.neurons), found.values)
    torch.testing.assert_close(found.values[:, :8], each.topk(8, 1).values)
    torch.testing.assert_close(found.values[:, 8:], each.topk(8, 1, largest=False).values.flip(1))
    for neuron, (held, values) in enumerate(zip(found.held, found.held_values, strict=True)):
        there = held >= 0
        torch.testing.assert_close(each[held[there], neuron], values[there])
        assert torch.equal(there, values > 0) and bool((values[:-1] >= values[1:]).all())
        assert int(there.sum()) == min(40, int((each[:, neuron] > 0).sum()))


def test_a_planted_memorized_cell_is_held_by_its_own_two_neurons(planted, seen):
    number = {int(row): cell for cell, row in enumerate(seen.cells.rows)}
    first = int(planted.memorizing.nonzero()[0])
    for pair, id_ in enumerate(planted.cells.tolist()):
        cell = number[int(planted.subject.task.rows(torch.tensor([id_])))]
        assert seen.contributions.neurons[cell, 0] == first + 2 * pair
        assert seen.contributions.held[first + 2 * pair, 0] == cell
        assert seen.course.outcome[0, cell] == 1


def test_a_network_of_few_neurons_shows_each_once(tiny):
    assert tiny.width == 12
    assert all(sorted(row) == list(range(12)) for row in tiny.contributions.neurons.tolist())
    torch.testing.assert_close(tiny.contributions.rest, torch.zeros(25).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("op", ["add", "subtract", "multiply"])
def test_parts_are_the_means_of_the_logits_over_rows_columns_and_answers(op):
    subject = mm.planted_network(5, op=op, memorized_fraction=0.3, dtype=torch.float64).subject
    seen = explored(subject)
    place, parts, logits = seen.parts.place, seen.parts.parts, seen.logits
    a, b = seen.cells.of("operands").unbind(1)
    inside = (place >= 0).all(1)
    outside = (a * b == 0) if op == "multiply" else torch.zeros(25, dtype=torch.bool)
    assert torch.equal(~inside, outside)
    mean = logits[inside].mean(0)
    true = subject.task.true(subject.task.ids)[seen.cells.rows]
    for cell in inside.nonzero()[:, 0].tolist():
        of = [parts.row[place[cell, 0]], parts.column[place[cell, 1]], parts.rule[place[cell, 2]]]
        alike = (a == a[cell], b == b[cell], true == true[cell])
        wanted = [logits[inside & same].mean(0) - mean * (part > 0) for part, same in enumerate(alike)]
        for got, want in zip(of, wanted, strict=True):
            torch.testing.assert_close(got, want)
    torch.testing.assert_close(logits.sum(1), torch.zeros(25).double())


def test_waves_classes_and_map_are_those_of_the_analyses(planted, seen):
    subject, waves = planted.subject, seen.waves
    for neuron in (0, 1, int(planted.memorizing.nonzero()[0])):
        card = mm.neuron(subject, neuron)
        assert waves.label(neuron) == card.label and waves.key[neuron] == card.key
        torch.testing.assert_close(waves.values[neuron], card.values)
        torch.testing.assert_close(waves.fitted[neuron], card.fitted)
        torch.testing.assert_close(waves.spectrum[neuron], card.spectrum)
        assert float(waves.error[neuron]) == pytest.approx(card.alignment["add"], nan_ok=True)
    rule = planted.frequency > 0
    assert torch.equal(waves.key[rule], planted.frequency[rule])
    spectrum = mm.analyse(subject, "neuron_spectrum")
    assert torch.equal(seen.map.share, spectrum.share) and seen.map.labels == spectrum.labels
    assert bool((spectrum.key[seen.map.order].diff() >= 0).all()) and len(seen.map.order.unique()) == seen.width
    assert torch.equal(seen.clusters.cluster, mm.analyse(subject, "neuron_clusters").cluster)


def test_influences_are_the_strongest_shares_of_the_sum_along_training(tiny_run, tiny):
    from mechmem.examples.along_training import influence_along_training

    ids = tiny_run.task.ids[tiny.cells.rows]
    wanted = influence_along_training(tiny_run, ids, tiny.cells.answer).values
    share = wanted / wanted.abs().sum(1, keepdim=True)
    sources = tiny_run.task.rows(tiny_run.task.sources)
    assert "TracIn" in tiny.influences.method and "this run used adamw" in tiny.influences.method
    for row, numbers, values in zip(share, tiny.influences.sources, tiny.influences.share, strict=True):
        there = numbers >= 0
        column = {int(place): number for number, place in enumerate(sources)}
        found = [column[int(tiny.cells.rows[number])] for number in numbers[there]]
        torch.testing.assert_close(row[found], values[there])
        first = [value for value in values[:HELPFUL].tolist() if value]
        assert first == sorted(row[row > 0].tolist(), reverse=True)[:HELPFUL]
        assert values[-1] == row.min().clamp(max=0)


def test_turn_over_dropout_takes_the_place_of_gradients():
    noise, masks = mm.LabelNoise(0.3), mm.TurnOver()
    config = mm.TrainConfig(mm.ModularConfig(p=5, noise=noise), mm.MLPConfig(24, masks=masks), steps=60, lr=0.02)
    subject = mm.train(config, progress=False)
    seen = explored(subject)
    wanted = mm.influence(subject, targets=subject.task.ids)
    assert "Turn-over dropout" in seen.influences.method
    for cell, row in enumerate(seen.cells.rows):
        if seen.influences.sources[cell, 0] >= 0:
            source = subject.task.ids[seen.cells.rows[seen.influences.sources[cell, 0]]]
            assert wanted.helpful(int(subject.task.ids[row]), 1) == source


def test_a_transformer_shows_what_it_has_and_says_why_not_the_rest():
    seen = explored(small_transformer())
    assert set(seen.missing) == {"contributions", "influences", "waves"}
    assert seen.contributions is None and seen.waves is None and seen.parts is not None and seen.logits is not None
    assert seen.map.what == "variance of its activation" and torch.equal(seen.map.share, seen.clusters.explained)
    assert seen.width == 20 and "residual stream" in seen.missing["waves"]


def test_a_network_of_which_little_is_known_shows_its_cells():
    subject = told_nothing()
    seen = explored(subject)
    assert set(seen.missing) == {"contributions", "influences", "parts", "waves", "clusters", "map"}
    assert seen.width == 0 and seen.course.steps == (None,) and list(seen.course.accuracy) == ["test", "train"]
    assert len(seen.cells.rows) == 18, "of two examples with one pair the last is shown"
    assert int(seen.cells.of("given")[0]) == 2 and seen.course.outcome[0, 0] == 3
    right = all_logits(subject).argmax(1)[subject.task.train_ids] == subject.task.given(subject.task.train_ids)
    assert float(seen.course.accuracy["train"][0]) == pytest.approx(float(right.double().mean()))


def test_a_group_that_is_not_cyclic_has_contributions_and_a_map():
    config = mm.TrainConfig(mm.GroupConfig("S3"), mm.MLPConfig(16), steps=5, checkpoints=2)
    seen = explored(mm.train(config, progress=False))
    assert set(seen.missing) == {"parts", "waves", "clusters"}
    assert all("S3" in reason for reason in seen.missing.values())
    assert seen.map.what == "energy of its vectors" and seen.contributions is not None


def test_an_answer_that_is_no_number_is_wrong_and_not_as_given(tiny_run):
    class Lost(type(tiny_run.run)):
        def model_at(self, step):
            model = super().model_at(step)
            if step == 0:
                with torch.no_grad():
                    model.W_out.fill_(torch.nan)
            return model

    run = Lost(tiny_run.run.path)
    seen = explored(dataclasses.replace(tiny_run, run=run))
    assert seen.course.answers[0].tolist() == [-1] * 25 and seen.course.outcome[0].tolist() == [2] * 25
    assert bool(seen.course.accuracy["test"][0].isnan()) and "NaN" not in json.dumps(seen.to_json())


def test_images_and_grids_too_large_are_refused_before_anything_is_written(tiny_run, tmp_path):
    image_task = mm.ImageTask(mm.ImageConfig(train=40, test=20))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    images = mm.Subject(model, image_task)
    with pytest.raises(
        MissingNeedError, match=r"a grid of pairs \(a, b\), but the inputs of ImageTask.* are not pairs"
    ):
        mm.explore(images, tmp_path / "page.html")
    task = mm.ModularTask(mm.ModularConfig(p=MOST_SYMBOLS + 1))
    with pytest.raises(ConfigError, match="subject: explore shows grids of at most 128 symbols, got 129"):
        mm.explore(mm.Subject(Guess(129, 2), task), tmp_path / "page.html")
    (tmp_path / "notes.html").write_text("<title>my own</title>")
    with pytest.raises(RunDirectoryError, match="holds something else than a page of mechmem"):
        mm.explore(tiny_run, tmp_path / "notes.html")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.html"]


def test_logits_and_weights_that_are_too_many_for_a_page_are_left_out(tiny_run, monkeypatch):
    for module in ("explored_cells", "explored_neurons"):
        monkeypatch.setattr(f"mechmem.pages.{module}.MOST_NUMBERS", 100)
    seen = explored(tiny_run)
    assert seen.missing["logits"] == "a page holds at most 100 logits, and these cells have 125"
    assert seen.missing["waves"] == "a page holds at most 100 weights, and these neurons have 180"


class Page(html.parser.HTMLParser):
    """Tags, addresses and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.fetched, self.text, self.data, self._in = [], [], "", "", ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        about = dict(attrs)
        self.tags.append(tag)
        self.fetched += [about[name] for name in ("src", "href", "action") if name in about]
        self._in = "data" if about.get("id") == "explored" else tag

    def handle_endtag(self, tag):
        self._in = ""

    def handle_data(self, data):
        if self._in == "data":
            self.data += data
        elif self._in not in ("script", "style"):
            self.text += data


def test_the_page_holds_what_was_measured_and_fetches_nothing(tiny_run, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "explored", lambda subject, progress: tiny)
    mm.explore(tiny_run, tmp_path / "deep" / "page.html")
    text = (tmp_path / "deep" / "page.html").read_text(encoding="utf-8")
    found = Page(text)
    assert not found.fetched and not {"link", "iframe", "img", "object", "base"} & set(found.tags)
    assert "default-src 'none'" in text and text.count(get_plotlyjs()) == 1
    assert "://" not in text.replace(get_plotlyjs(), "")
    data = json.loads(found.data)
    assert torch.equal(unpacked(data["answers"]), tiny.course.answers)
    assert torch.equal(unpacked(data["contributions"]["held"]), tiny.contributions.held)
    torch.testing.assert_close(
        unpacked(data["logits"]), tiny.logits, rtol=0, atol=float(tiny.logits.abs().max()) / LARGEST
    )
    assert data["steps"] == list(tiny.course.steps) and data["width"] == 12
    words = " ".join(found.text.split())
    assert "25 cells (a, b) of a + b mod 5: 18 trained on (5 with a wrong label), 7 held out." in words
    assert "needs JavaScript" in words and "Not shown" not in words and tiny.influences.method in words


def test_names_are_text_and_every_missing_view_is_named_with_its_reason(tmp_path):
    subject = told_nothing("a <b>&</b> </script>")
    mm.explore(subject, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    found = Page(text)
    assert "Explore a <b>&</b> </script>" in found.text and found.tags.count("title") == 1
    assert json.loads(found.data)["name"] == "a <b>&</b> </script>", "it does not end the element that holds the data"
    notes = text.count('<p class="note">')
    assert notes == len(explored(subject).missing) + 1, "and that there are no other checkpoints"
    assert "influences: influence along training needs the run&#39;s saved states" in text


def test_a_page_is_written_over_a_page(planted, seen, tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "explored", lambda subject, progress: seen)
    for _ in range(2):
        mm.explore(planted.subject, tmp_path / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_exploring_leaves_the_network_as_it_was(planted):
    before = {name: each.clone() for name, each in planted.subject.model.state_dict().items()}
    explored(planted.subject)
    assert all(torch.equal(each, before[name]) for name, each in planted.subject.model.state_dict().items())
