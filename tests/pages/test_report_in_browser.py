"""A report as a reader with a browser has it: drawn, reachable by keyboard, as wide as its window."""

import contextlib

import pytest
from browser import chromium, needs_chromium

import mechmem as mm

pytestmark = [pytest.mark.slow, needs_chromium]

PLACES = ".mechmem-plot"


def trained(noise, weight_decay):
    task = mm.ModularConfig(p=11, train_fraction=0.8, noise=mm.LabelNoise(noise))
    config = mm.TrainConfig(task, mm.MLPConfig(width=64), lr=0.01, weight_decay=weight_decay, steps=300)
    return mm.train(config, progress=False, title=f"noise {noise}")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    place = tmp_path_factory.mktemp("report") / "report.html"
    networks = [trained(0.2, 1.0), trained(0.8, 0.1)]
    extractors = ["raw", "shared_subspaces+additive_free", "frequency"]
    mm.write_report([(network, mm.audit(network, extractors)) for network in networks], place)
    return place


@contextlib.contextmanager
def opened(path, width=940, **options):
    """Open the report in a window of a width; in the end nothing may have been wrong or asked for."""
    with chromium(viewport={"width": width, "height": 900}, **options) as visit:
        yield visit, visit.open(path)
        assert not visit.errors and not visit.requests


@pytest.mark.parametrize("width", [360, 700, 940, 1600])
def test_every_figure_is_drawn_and_the_page_is_as_wide_as_its_window(width, path):
    with opened(path, width) as (visit, page):
        assert page.locator(f"{PLACES} .main-svg").count() >= page.locator(PLACES).count() > 10
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert visit.sideways() == 0


@pytest.mark.parametrize("width", [700, 940])
def test_figures_are_legible_and_not_cut(width, path):
    with opened(path, width) as (_, page):
        small, cut, bare = page.evaluate("""() => {
            const places = [...document.querySelectorAll('.mechmem-plot')];
            const letters = places.flatMap(place => [...place.querySelectorAll('text, tspan')]);
            const own = each => [...each.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
            const small = letters.filter(each => own(each) && parseFloat(getComputedStyle(each).fontSize) < 12);
            const cut = places.map(place => place.parentElement).filter(each => each.scrollWidth > each.clientWidth);
            // An axis beside another with the same quantity has no title of its own.
            const titled = (place, letter) => Object.keys(place._fullLayout)
                .some(key => key.startsWith(`${letter}axis`) && place.layout[key]?.title?.text);
            const bare = places.filter(place => !titled(place, "x") || !titled(place, "y"));
            const named = all => all.map(each => each.outerHTML.slice(0, 200));
            return [small.map(each => each.textContent), named(cut), named(bare)];
        }""")
        assert (small, cut, bare) == ([], [], [])


def test_every_toggle_is_reached_by_tab_and_opened_by_enter(path):
    with opened(path) as (_, page):
        count = page.locator("summary").count()
        assert count == 1 + 2 + page.locator(PLACES).count()
        reached = set()
        for _ in range(400):
            page.keyboard.press("Tab")
            place = page.evaluate("[...document.querySelectorAll('summary')].indexOf(document.activeElement)")
            if place >= 0 and place not in reached:
                page.keyboard.press("Enter")
                reached.add(place)
            if len(reached) == count:
                break
        assert reached == set(range(count))
        assert page.locator("details[open]").count() == count


def test_links_of_the_contents_lead_to_their_section(path):
    with opened(path) as (_, page):
        link = page.get_by_role("navigation", name="Contents").get_by_role("link", name="Every input").last
        link.focus()
        page.keyboard.press("Enter")
        heading = page.get_by_role("heading", name="Every input").last
        page.wait_for_function("place => Math.abs(place.getBoundingClientRect().top) < 5", arg=heading.element_handle())


@pytest.mark.parametrize("format", ["PNG", "SVG"])
def test_figures_can_be_saved(format, path, tmp_path):
    with opened(path, accept_downloads=True) as (_, page):
        with page.expect_download() as saved:
            page.get_by_role("button", name=f"Save as {format}: Training").first.click()
        assert saved.value.suggested_filename == f"training-noise-0-2.{format.lower()}"
        saved.value.save_as(tmp_path / "figure")
        assert (tmp_path / "figure").read_bytes().startswith({"PNG": b"\x89PNG", "SVG": b"<svg"}[format])


def test_without_javascript_there_are_tables_and_no_gaps(path):
    with opened(path) as (_, page):
        drawn = page.evaluate("document.documentElement.scrollHeight")
    with chromium(viewport={"width": 940, "height": 900}, java_script_enabled=False) as visit:
        visit.page.goto(path.absolute().as_uri())
        boxes = [place.bounding_box() for place in visit.page.locator(".mechmem-scroll").all()]
        assert boxes and all(box is None or box["height"] <= 1 for box in boxes)
        assert visit.page.locator("body").bounding_box()["height"] < 0.6 * drawn
        assert visit.page.locator("noscript p").is_visible()
        toggle = visit.page.get_by_text("The table behind the figure").first
        table = visit.page.locator("figure table").first
        assert not table.is_visible()
        toggle.focus()
        visit.page.keyboard.press("Enter")
        assert table.is_visible()
        assert not visit.errors and not visit.requests
