"""A review as a person does it: by keyboard and by mouse, and saved as a file that is applied."""

import pandas as pd
import pytest
import torch
from browser import chromium, needs_chromium
from torch import nn

import mechmem as mm

pytestmark = [pytest.mark.slow, needs_chromium]

NAMES = ["ape", "bee", 'cat, "tame"']


@pytest.mark.parametrize("width", [360, 940])
def test_decisions_by_key_and_by_mouse_are_saved_and_applied(width, tmp_path):
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    items = [(4 * torch.eye(3)[label] + 0.1 * torch.randn(3, generator=draw), NAMES[label]) for label in labels]
    task = mm.DatasetTask(items, noise=mm.LabelNoise(0.2))
    model = nn.Linear(3, 3)
    model.load_state_dict({"weight": torch.eye(3), "bias": torch.zeros(3)})
    issues = mm.label_issues(mm.Subject(model, task), count=6, neighbours=5)
    mm.write_review(issues, task, tmp_path / "review.html")
    with chromium(viewport={"width": width, "height": 900}, accept_downloads=True) as visit:
        page = visit.open(tmp_path / "review.html")
        assert page.locator("li").count() == 6 and visit.sideways() == 0
        page.locator("li").first.focus()
        for key in "kxs":
            page.keyboard.press(key)
        fourth = page.locator("li").nth(3)
        given = NAMES[int(issues.given[3])]
        other = next(name for name in NAMES if name not in (given, NAMES[int(issues.suggested[3])]))
        fourth.locator("select").select_option(other)
        fifth = page.locator("li").nth(4)
        fifth.locator("select").select_option(NAMES[int(issues.given[4])])
        assert fifth.locator("input:checked").get_attribute("value") == "keep"
        assert "5 of 6 decided, not saved yet" in page.locator("output").inner_text()
        assert fourth.locator("input:checked").count() == 1
        with page.expect_download() as saved:
            page.locator("button.save").click()
        saved.value.save_as(tmp_path / "decisions.csv")
        assert page.locator("output").inner_text() == "5 of 6 decided"
        assert not visit.errors and not visit.requests
    table = pd.read_csv(tmp_path / "decisions.csv", dtype=str, keep_default_na=False)
    ids = issues.ids[:5]
    assert table["id"].tolist() == [str(each) for each in ids.tolist()]
    assert table["decision"].tolist() == ["keep", "leave out", "relabel", "relabel", "keep"]
    assert table["label"].tolist() == ["", "", NAMES[int(issues.suggested[2])], other, ""]
    clean = mm.cleaned(task, tmp_path / "decisions.csv")
    assert int(ids[1]) not in clean.train_ids.tolist() and clean.given(ids[3:4]) == NAMES.index(other)
