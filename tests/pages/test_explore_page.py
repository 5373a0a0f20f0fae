"""The page to explore in a browser: what is clicked, typed or shared is what is shown."""

import re

import pytest
import torch
from browser import Visit, chromium, needs_chromium

import mechmem as mm
from mechmem.pages import explore as page_module
from mechmem.pages.explored import explored

pytestmark = [pytest.mark.slow, needs_chromium]

HELD, HELPED, HARMED = 2, 4, 5
"""Places of the traces of marks on the grid."""


@pytest.fixture(scope="module")
def run():
    config = mm.TrainConfig(
        mm.ModularConfig(p=7, train_fraction=0.7, noise=mm.LabelNoise(0.3)),
        mm.MLPConfig(24),
        steps=120,
        lr=0.02,
        checkpoints=10,
    )
    return mm.train(config, progress=False)


@pytest.fixture(scope="module")
def seen(run):
    return explored(run)


@pytest.fixture(scope="module")
def path(run, seen, tmp_path_factory):
    page = tmp_path_factory.mktemp("explored") / "page.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_module, "explored", lambda subject, progress: seen)
        mm.explore(run, page)
    return page


@pytest.fixture(scope="module")
def visit(path):
    """A browser that stays open, since opening one takes longer than most tests."""
    with chromium(viewport={"width": 1280, "height": 900}) as visit:
        arrive(visit, path)
        yield visit


@pytest.fixture
def page(visit):
    """The open page as at first; at the end of a test nothing has gone wrong, and nothing was asked for."""
    visit.page.set_viewport_size({"width": 1280, "height": 900})
    visit.page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = false; })")
    go(visit.page, "")
    yield visit.page
    settled(visit.page)
    assert not visit.errors and not visit.requests


def arrive(visit, path, fragment=""):
    """Load a page, also if only the fragment differs from the one that is open."""
    visit.page.goto("about:blank")
    page = visit.open(path, fragment)
    page.wait_for_function("() => document.documentElement.dataset.drawn")
    page.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    return page


def go(page, fragment):
    """Change the fragment of an open page."""
    page.evaluate(
        "fragment => { location.hash = fragment; dispatchEvent(new HashChangeEvent('hashchange')); }", fragment
    )
    settled(page)


def settled(page):
    """Wait until what was selected is drawn, and in the address."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.wait_for_function("() => location.hash === document.documentElement.dataset.drawn")


def words(page):
    settled(page)
    return page.inner_text("#words")


def address(page):
    settled(page)
    return page.evaluate("location.hash")


def traces(page, figure):
    """What a figure draws: x, y and z of each of its traces, as lists."""
    settled(page)
    script = """id => document.getElementById(id).data.map(
        trace => ({x: Array.from(trace.x ?? []), y: Array.from(trace.y ?? []), z: trace.z, name: trace.name,
                   customdata: trace.customdata, color: trace.marker?.color}))"""
    return page.evaluate(script, figure)


def click(page, figure, x, y):
    """Click a place of a figure, in the units of its axes."""
    script = """([id, x, y]) => {
        const place = document.getElementById(id), {xaxis, yaxis} = place._fullLayout;
        place.scrollIntoView({block: "center", behavior: "instant"});
        const {left, top} = place.getBoundingClientRect();
        return [left + xaxis._offset + xaxis.d2p(x), top + yaxis._offset + yaxis.d2p(y)];
    }"""
    # Plotly takes a click for what lies under the pointer when it moves.
    at = page.evaluate(script, [figure, x, y])
    page.mouse.move(at[0] - 1, at[1])
    page.mouse.move(*at)
    page.mouse.click(*at)
    settled(page)


def cell(seen, a, b):
    (number,) = (seen.cells.of("operands") == torch.tensor([a, b])).all(1).nonzero()[:, 0].tolist()
    return number


def as_grid(values):
    return torch.tensor(values).reshape(7, 7).tolist()


def marked(trace):
    return {(a, b) for a, b in zip(trace["y"], trace["x"], strict=True)}


def pairs(seen, numbers):
    return {tuple(seen.cells.of("operands")[number].tolist()) for number in numbers if number >= 0}


@pytest.mark.parametrize("width", [360, 700, 1600])
def test_nothing_overflows_sideways_and_every_figure_is_drawn(width, page, visit, path):
    page.set_viewport_size({"width": width, "height": 800})
    arrive(visit, path)
    assert visit.sideways() == 0
    drawn = """drawings => drawings.map(
        each => [each.querySelectorAll('.main-svg').length, each.scrollWidth - each.clientWidth])"""
    found = page.eval_on_selector_all(".drawing", drawn)
    assert len(found) == 11 and all(count and beyond <= 0 for count, beyond in found)
    sizes = page.eval_on_selector_all(
        ".main-svg text", "texts => texts.map(each => parseFloat(getComputedStyle(each).fontSize))"
    )
    assert len(sizes) > 100 and min(sizes) >= 12


def test_the_slider_moves_the_grid_and_the_mark_on_the_curve(page, seen):
    last = len(seen.course.steps) - 1
    assert traces(page, "grid")[0]["z"] == as_grid(seen.course.outcome[last].tolist())
    page.focus("#step")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    state = last - 2
    assert traces(page, "grid")[0]["z"] == as_grid(seen.course.outcome[state].tolist())
    step = seen.course.steps[state]
    assert words(page).startswith(f"Step {step}.") and f"step={step}&" in address(page)
    assert page.evaluate("document.getElementById('accuracy').layout.shapes[0].x0") == step
    assert page.get_attribute("#step", "aria-valuetext") == f"step {step}"
    right = int((seen.course.outcome[state] == 0).sum())
    assert page.inner_text("#outcomes li:first-child b") == str(right)
    share = f"{100 * float(seen.course.accuracy['test'][state]):.3g} %"
    assert share in page.inner_text("#accuracies li:last-child")
    page.keyboard.press("Home")
    assert traces(page, "grid")[0]["z"] == as_grid(seen.course.outcome[0].tolist())
    assert seen.course.outcome[0].tolist() != seen.course.outcome[last].tolist()


def test_a_click_on_the_curve_moves_the_slider_to_the_nearest_checkpoint(page, seen):
    state = len(seen.course.steps) // 2
    click(page, "accuracy", 1.02 * seen.course.steps[state], 0.5)
    assert page.input_value("#step") == str(state)
    assert words(page).startswith(f"Step {seen.course.steps[state]}.")


def test_a_click_on_a_cell_fills_its_views(page, seen):
    click(page, "grid", 5, 2)  # b across, a downwards
    number = cell(seen, 2, 5)
    answer = int(seen.cells.answer[number])
    assert address(page).split("&")[1] == "cell=2,5"
    split = ["trained on", "held out"][int(seen.cells.of("split")[number])]
    outcome = ["right", "memorized", "otherwise wrong"][int(seen.course.outcome[-1, number])]
    assert f"Cell 2 + 5: answers {answer}, {outcome}, {split};" in words(page)
    assert page.input_value("#a") == "2" and page.input_value("#b") == "5"
    assert traces(page, "course")[-1]["y"] == seen.course.answers[:, number].tolist()
    (bars,) = traces(page, "contributors")
    found = seen.contributions
    assert sum(bars["x"]) == pytest.approx(float(found.total[number]), abs=0.01)
    neurons = [each for each in bars["customdata"] if each >= 0]
    assert neurons == found.neurons[number].tolist()
    *parts, total = traces(page, "parts")
    assert [part["name"] for part in parts] == ["effect of a", "effect of b", "rule", "remainder"]
    assert total["y"] == pytest.approx(seen.logits[number].tolist(), abs=0.01)
    for place, value in enumerate(total["y"]):
        assert sum(part["y"][place] for part in parts) == pytest.approx(value, abs=1e-4)
    assert parts[2]["y"] == pytest.approx(seen.parts.parts.rule[7 % 7].tolist(), abs=0.01)
    (bars,) = traces(page, "influences")
    sources, share = seen.influences.sources[number], seen.influences.share[number]
    assert bars["customdata"] == [each for each in sources.tolist() if each >= 0]
    drawn = traces(page, "grid")
    assert marked(drawn[HELPED]) == pairs(seen, sources[share > 0].tolist())
    assert marked(drawn[HARMED]) == pairs(seen, sources[share < 0].tolist())
    assert marked(drawn[-1]) == {(2, 5)}


def test_arrow_keys_move_in_the_grid_and_stop_at_its_edge(page):
    go(page, "#cell=0,5")
    page.focus("#grid")
    before = page.evaluate("scrollY")
    for key, at in (
        ("ArrowDown", "1,5"),
        ("ArrowRight", "1,6"),
        ("ArrowRight", "1,6"),
        ("ArrowUp", "0,6"),
        ("ArrowUp", "0,6"),
        ("ArrowLeft", "0,5"),
        ("Home", "0,0"),
        ("End", "0,6"),
    ):
        page.keyboard.press(key)
        assert f"cell={at}" in address(page)
    assert page.evaluate("scrollY") == before and "Cell 0 + 6:" in words(page)


def test_cells_and_neurons_are_typed_and_what_does_not_exist_is_marked_wrong(page):
    go(page, "#cell=3,4&neuron=5")
    page.fill("#b", "6")
    page.fill("#neuron", "11")
    assert address(page).endswith("cell=3,6&neuron=11")
    for field, value in (("#a", "7"), ("#neuron", "24"), ("#neuron", "")):
        page.fill(field, value)
        assert page.get_attribute(field, "aria-invalid") == "true"
        assert address(page).endswith("cell=3,6&neuron=11")
    page.fill("#a", "1")
    assert page.get_attribute("#a", "aria-invalid") == "false" and "cell=1,6" in address(page)


def test_a_click_on_a_bar_selects_the_neuron_and_marks_its_cells(page, seen):
    go(page, "#cell=3,4&neuron=0")
    (bars,) = traces(page, "contributors")
    neuron = bars["customdata"][1]
    click(page, "contributors", bars["x"][1] / 2, 1)
    assert address(page).endswith(f"neuron={neuron}") and page.input_value("#neuron") == str(neuron)
    label, key = seen.waves.label(neuron), int(seen.waves.key[neuron])
    assert f"Neuron {neuron}: {label}, key frequency {key}," in words(page)
    assert marked(traces(page, "grid")[HELD]) == pairs(seen, seen.contributions.held[neuron].tolist())
    for vector in range(3):
        fitted, weights = traces(page, f"wave-{vector}")
        assert weights["y"] == pytest.approx(seen.waves.values[neuron, vector].tolist(), abs=1e-3)
        assert fitted["y"] == pytest.approx(seen.waves.fitted[neuron, vector].tolist(), abs=1e-3)
        spectrum = traces(page, "spectrum")[vector]
        assert spectrum["y"] == pytest.approx(seen.waves.spectrum[neuron, vector].tolist(), abs=1e-3)
    page.uncheck("[data-marks=held]")
    assert marked(traces(page, "grid")[HELD]) == set()
    page.check("[data-marks=held]")


def test_a_click_on_a_bar_of_influence_selects_the_cell(page, seen):
    go(page, "#cell=3,4")
    (bars,) = traces(page, "influences")
    click(page, "influences", bars["x"][1] / 2, 1)
    a, b = seen.cells.of("operands")[bars["customdata"][1]].tolist()
    assert f"cell={a},{b}" in address(page)


def test_the_map_selects_neurons_by_click_and_by_keys(page, seen):
    order = seen.map.order.tolist()
    go(page, "#neuron=0")
    click(page, "map", 9, 2)
    assert address(page).endswith(f"neuron={order[9]}")
    page.focus("#map")
    page.keyboard.press("ArrowRight")
    assert address(page).endswith(f"neuron={order[10]}")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    assert address(page).endswith(f"neuron={order[0]}")
    assert page.evaluate("document.getElementById('map').layout.shapes[0].x0") == 0


def test_an_address_restores_what_was_selected(page, visit, path, seen):
    step = seen.course.steps[2]
    fragment = f"#step={step}&cell=6,1&neuron=17"
    arrive(visit, path, fragment)
    assert address(page) == fragment
    assert words(page).startswith(f"Step {step}. Cell 6 + 1:") and "Neuron 17:" in words(page)
    page.evaluate("location.hash = '#step=0&cell=0,2&neuron=3'")
    page.wait_for_function("() => document.documentElement.dataset.drawn === '#step=0&cell=0,2&neuron=3'")
    assert "Cell 0 + 2:" in words(page) and traces(page, "grid")[0]["z"] == as_grid(seen.course.outcome[0].tolist())


@pytest.mark.parametrize("fragment", ["", "#step=7.5&cell=9,9&neuron=24", "#cell=1&neuron=-1&step=", "#cells=1,2"])
def test_an_address_that_names_nothing_here_shows_the_end_of_training(fragment, page, seen):
    go(page, "#cell=5,5")
    go(page, fragment)
    first = int((seen.course.outcome[-1] == 1).nonzero()[0])
    a, b = seen.cells.of("operands")[first].tolist()
    neuron = int(seen.contributions.neurons[first, 0])
    assert address(page) == f"#step={seen.course.steps[-1]}&cell={a},{b}&neuron={neuron}"


def test_tables_hold_what_the_figures_show_and_select_by_their_buttons(page, seen):
    go(page, "#cell=3,4&neuron=0")
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    page.wait_for_function("() => document.querySelectorAll('details table').length === 10")
    number = cell(seen, 3, 4)
    rows = page.eval_on_selector_all("#contributors-table tbody tr", "rows => rows.map(row => row.innerText)")
    assert rows[-1].split("\t")[0].startswith("sum") and rows[0].startswith("neuron ")
    button = page.locator("#contributors-table button").first
    button.focus()
    page.keyboard.press("Enter")
    assert address(page).endswith(f"neuron={int(seen.contributions.neurons[number, 0])}")
    assert page.evaluate("document.activeElement.closest('details')?.id") == "contributors-table", "it keeps the focus"
    page.locator("#grid-table button", has_text=re.compile(r"^3 \+ 6$")).click()
    assert "cell=3,6" in address(page)
    page.locator("#accuracy-table button").first.click()
    assert address(page).startswith("#step=0&")
    assert len(page.query_selector_all("#map-table tbody tr")) == 24


def test_every_control_is_reached_by_the_keyboard_and_shows_its_focus(page):
    reached, outlines = [], []
    page.focus("#step")
    page.keyboard.press("Tab")  # a browser shows the focus only of whoever uses the keyboard
    page.keyboard.press("Shift+Tab")
    for _ in range(80):
        about = page.evaluate(
            """() => { const on = document.activeElement;
            return [on.id || on.dataset.marks || on.closest("details")?.id || on.textContent,
                    getComputedStyle(on).outlineStyle + getComputedStyle(on).outlineWidth]; }"""
        )
        reached.append(about[0])
        outlines.append(about[1])
        page.keyboard.press("Tab")
    wanted = {"step", "grid", "heldOut", "influences", "held", "a", "b", "neuron", "map", "Save PNG", "grid-table"}
    assert wanted <= set(reached)
    shown = {name: outline for name, outline in zip(reached, outlines, strict=True) if name in wanted}
    assert set(shown.values()) == {"solid3px"}, shown
    assert page.get_attribute("#words", "aria-live") == "polite"
    unnamed = page.evaluate(
        """[...document.querySelectorAll("input, button, [tabindex]")].filter(each =>
           !each.labels?.length && !each.getAttribute("aria-label") && !each.textContent.trim()).length"""
    )
    assert unnamed == 0


def test_without_scripts_the_page_says_what_it_would_show(visit, path):
    still = visit.page.context.browser.new_context(java_script_enabled=False).new_page()
    still.goto(path.absolute().as_uri())
    text = still.inner_text("body")
    assert "needs JavaScript to show its views" in text and "34 trained on" in text


def test_a_network_that_lacks_views_shows_the_rest(planted, visit, tmp_path):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 7))
    task = planted.subject.task
    inputs = task.operands.float()
    train = torch.isin(task.ids, task.train_ids)
    plain = mm.ArrayTask(inputs, task.given(task.ids), None, train, operands=task.operands)
    mm.explore(mm.Subject(model, plain), tmp_path / "page.html")
    other = Visit(visit.page.context.new_page())
    page = arrive(other, tmp_path / "page.html")
    assert page.evaluate("document.getElementById('step').disabled")
    assert "The network as given. Cell (0, 0): answers " in words(page)
    assert page.locator(".note:visible").count() == 7
    assert page.locator(".figure:visible").count() == 2, "the grid, and logits without parts"
    page.focus("#grid")
    page.keyboard.press("ArrowRight")
    assert address(page) == "#step=given&cell=0,1"
    assert not other.errors and not other.requests
