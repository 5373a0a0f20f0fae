"""Figures of saved results in pages that Sphinx builds."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from browser import needs_chromium

import mechmem as mm

pytestmark = pytest.mark.slow
FIGURE = """# Figures

Before.

```{mechmem-figure} results/rule.safetensors
:alt: Three tables <one> with "diagonals"
:name: the-rule

The rule, *discovered*.
```

See {ref}`the figure <the-rule>`.
"""
PICTURE = '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><rect width="5" height="5"/></svg>'


@pytest.fixture
def site(tmp_path):
    """A project with a saved result, and a picture of it."""
    (tmp_path / "conf.py").write_text('extensions = ["myst_parser", "mechmem.sphinxext"]\nproject = "x"\n')
    (tmp_path / "index.md").write_text("# Home\n\n```{toctree}\nfigures\n```\n")
    (tmp_path / "figures.md").write_text(FIGURE)
    (tmp_path / "results").mkdir()
    mm.discover_rule(mm.planted_network(7, width=60).subject).save(tmp_path / "results" / "rule.safetensors")
    (tmp_path / "results" / "rule.svg").write_text(PICTURE)
    return tmp_path


def build(site, builder="html"):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", builder, site, site / builder]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_figure_is_interactive_and_has_picture_caption_and_table(site):
    done = build(site)
    assert done.returncode == 0, done.stderr
    page = (site / "html" / "figures.html").read_text()
    assert page.count('class="mechmem-plot"') == 1 and '<script type="application/json">{"data":[{' in page
    assert 'aria-label="Three tables &lt;one&gt; with &quot;diagonals&quot;"' in page
    assert re.search(r"<noscript>\\s*<img[^>]*_images/rule.svg".replace("\\\\", "\\"), page)
    assert "The rule, <em>discovered</em>." in page and page.count("<tr>") == 49
    assert 'href="#the-rule"' in page and 'id="the-rule"' in page
    assert "https://" not in page.split("mechmem-plot")[1].split("</figure>")[0]
    static = site / "html" / "_static"
    assert (static / "plotly.min.js").stat().st_size > 10**6 and (static / "mechmem.js").exists()
    assert "plotly.min.js" in page and "plotly.min.js" not in (site / "html" / "index.html").read_text()


def test_restructured_text_and_other_formats(site):
    (site / "figures.md").unlink()
    text = "Figures\n=======\n\n.. mechmem-figure:: results/rule.safetensors\n   :no-table:\n\n   Its caption.\n"
    (site / "figures.rst").write_text(text)
    assert build(site).returncode == 0
    page = (site / "html" / "figures.html").read_text()
    assert "mechmem-plot" in page and "<details>" not in page
    assert 'aria-label="Told nothing' in page  # the result's own sentence stands for the figure
    (site / "results" / "rule.pdf").write_bytes(b"%PDF-1.4")
    assert build(site, "latex").returncode == 0
    assert "{rule.pdf}" in (site / "latex" / "x.tex").read_text().replace("{{rule}.pdf}", "{rule.pdf}")
    assert "Its caption." in (site / "latex" / "x.tex").read_text()


def test_an_analysis_of_a_run(site, tiny_run):
    (site / "figures.md").write_text("# Run\n\n```{mechmem-figure} run\n:analysis: training_curves\n```\n")
    (site / "run").symlink_to(tiny_run.run.path)
    (site / "run.svg").write_text(PICTURE)
    done = build(site)
    assert done.returncode == 0, done.stderr
    assert "mechmem-plot" in (site / "html" / "figures.html").read_text()


@needs_chromium
def test_a_sweep_drawn_along_other_settings(site):
    (site / "sweep").symlink_to(Path(__file__).parents[1] / "examples" / "runs" / "phases")
    drawn = ":plot: x=label_noise y=train_fraction color=raw:train_noisy\n:no-table:"
    (site / "figures.md").write_text(f"# Phases\n\n```{{mechmem-figure}} sweep\n{drawn}\n```\n")
    done = build(site)
    assert done.returncode == 0, done.stderr
    assert "raw: train noisy accuracy" in (site / "html" / "figures.html").read_text()


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("results/rule.safetensors\n:plot: x=a", "no argument of plot 'x'"),
        ("results/rule.safetensors\n:plot: x", "plot takes name=value, e.g. color=structure:verdict, got 'x'"),
        ("results/rul.safetensors", "there is no results/rul.safetensors"),
        ("results", "name an :analysis: of the run in it"),
        ("conf.py", "cannot read"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(argument, said, site):
    (site / "figures.md").write_text(FIGURE.replace("results/rule.safetensors", argument).replace("See {ref}", ""))
    done = build(site)
    assert done.returncode == 1 and said in done.stderr and "figures.md:5: ERROR" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_figure_of_plotly(site):
    mm.load_result(site / "results" / "rule.safetensors").export(site / "results" / "rule.json")
    (site / "figures.md").write_text("# Figure\n\n```{mechmem-figure} results/rule.json\n:alt: Three tables\n```\n")
    done = build(site)
    assert done.returncode == 0, done.stderr
    page = (site / "html" / "figures.html").read_text()
    assert 'aria-label="Three tables"' in page and "<summary>Table" not in page
    (site / "results" / "rule.json").write_text("{}}")
    assert "figures.md:3: ERROR: mechmem-figure: rule.json holds no plotly figure" in build(site).stderr


def test_a_notebook(site):
    (site / "figures.md").unlink()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(FIGURE)])
    nbformat.write(notebook, site / "figures.ipynb")
    conf = (site / "conf.py").read_text().replace("myst_parser", "myst_nb")
    (site / "conf.py").write_text(f'{conf}nb_execution_mode = "off"\n')
    done = build(site)
    assert done.returncode == 0, done.stderr
    page = (site / "html" / "figures.html").read_text()
    assert page.count('class="mechmem-plot"') == 1 and "The rule, <em>discovered</em>." in page


EXAMPLE = '''"""
What does it show?
==================

A question.
"""

import plotly.graph_objects as go

import mechmem as mm

rule = mm.load_result("rule.safetensors")
print("not the figure", rule.found.name)

# %%
# The result.
rule

# %%
# A figure.
go.Figure(go.Bar(y=[1, 2]), {"title": {"text": "Two bars"}})
'''


@pytest.mark.parametrize("drawn", [pytest.param(True, marks=needs_chromium), False])
def test_an_example_of_a_gallery(drawn, site, monkeypatch):
    """Figures are interactive; with Chromium they have pictures, and the example has a thumbnail."""
    examples = site / "examples"
    examples.mkdir()
    (examples / "GALLERY_HEADER.rst").write_text("Gallery\n=======\n")
    (examples / "shown.py").write_text(EXAMPLE)
    (site / "results" / "rule.safetensors").rename(examples / "rule.safetensors")
    (site / "figures.md").unlink()
    (site / "index.md").write_text("# Home\n\n```{toctree}\ngallery/index\n```\n")
    settings = {
        "examples_dirs": "examples",
        "gallery_dirs": "gallery",
        "filename_pattern": "",
        "image_scrapers": ("mechmem.sphinxext.gallery",),
        "ignore_repr_types": "mechmem|plotly",
        "reset_modules": (),
    }
    extensions = ["myst_parser", "sphinx_gallery.gen_gallery", "mechmem.sphinxext"]
    conf = f'extensions = {extensions}\nproject = "x"\nsphinx_gallery_conf = {settings}\n'
    conf += 'exclude_patterns = ["examples", "gallery/*.ipynb"]\n'
    if not drawn:
        monkeypatch.setenv("BROWSER_PATH", str(site / "no-browser"))
        conf += 'suppress_warnings = ["mechmem.picture"]\n'
    (site / "conf.py").write_text(conf)
    done = build(site)
    assert done.returncode == 0, done.stderr
    page = (site / "html" / "gallery" / "shown.html").read_text()
    assert page.count('class="mechmem-plot"') == 2 and page.count("<summary>Table") == 1
    assert 'aria-label="Told nothing' in page and 'aria-label="Two bars"' in page
    assert page.count("<noscript><img") == (2 if drawn else 0)
    assert (site / "gallery" / "images" / "thumb" / "sphx_glr_shown_thumb.svg").exists() == drawn
