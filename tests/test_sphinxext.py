"""Figures of saved results in pages that Sphinx builds."""

import re
import subprocess
import sys

import pytest

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


@pytest.mark.parametrize(
    ("argument", "said"),
    [
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
