"""What is wrong with a site is seen."""

import pytest
from browser import needs_chromium
from site_check import broken_links, wrong_with

PAGE = """<!doctype html><html lang="en"><head><title>x</title><style>{style}</style></head><body>
<p><a href="other.html#there">other</a></p><pre style="overflow: auto">{code}</pre>{more}</body></html>"""
OTHER = '<!doctype html><html lang="en"><title>y</title><p id="there"><a href="index.html">back</a></p>'
RED = "data:image/gif;base64,R0lGODlhAQABAIAAAP8AAP///yH5BAAAAAAALAAAAAABAAEAAAICRAEAOw=="
FAULTS = {
    "leads to no place": {"more": '<a href="other.html#nowhere">nowhere</a>'},
    "there is no missing.html": {"more": '<a href="missing.html">missing</a>'},
    "pixels wider than a window of 360": {"more": '<div style="width: 650px">wide</div>'},
    "code is cut off at 360 pixels": {"code": "x" * 200},
    "no key reaches": {"more": '<button tabindex="-1">unreachable</button>'},
    "nothing stands for": {"more": f'<img src="{RED}">'},
    "asks for http": {"more": '<script src="http://127.0.0.1:9/counter.js"></script>'},
    "undefinedFunction is not defined": {"more": "<script>undefinedFunction()</script>"},
}


def site(folder, style="", code="", more=""):
    (folder / "index.html").write_text(PAGE.format(style=style, code=code, more=more))
    (folder / "other.html").write_text(OTHER)
    return folder


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if "there is" in fault or "leads" in fault])
def test_a_broken_link_is_found(fault, tmp_path):
    assert not list(broken_links(site(tmp_path)))
    (said,) = broken_links(site(tmp_path, **FAULTS[fault]))
    assert fault in said


@pytest.mark.slow
@needs_chromium
def test_a_clean_site_is_clean(tmp_path):
    assert not list(wrong_with(site(tmp_path, code="short")))


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault, tmp_path):
    found = list(wrong_with(site(tmp_path, **FAULTS[fault])))
    assert any(fault in said for said in found)
