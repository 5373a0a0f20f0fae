"""Right answers by split against the audit's own accuracies, and splits that cannot be scored."""

import math

import pytest
import torch
from two_paths import two_paths

from mechmem.models.reading.split_hits import accuracy_row, split_hits
from mechmem.scorecard.audit import split_accuracies
from mechmem.scorecard.readouts.logits import Logits
from mechmem.tasks.config import SPLITS


def test_equals_the_scorecard(tiny_run):
    cells = split_accuracies(Logits()(tiny_run), tiny_run.task)
    hits, n = split_hits(tiny_run.model, tiny_run.task)
    for place, split in enumerate(SPLITS):
        wanted = cells[split].estimate
        assert accuracy_row(int(hits[place]), int(n[place])) == {
            "value": wanted.value,
            "low": wanted.low,
            "high": wanted.high,
            "n": wanted.n,
        }


@pytest.mark.parametrize(("settings", "wanted"), [({"noise": 0}, [12, 0, 0, 6]), ({"known": False}, [0, 0, 0, 6])])
def test_splits_without_examples_or_labels_read_nothing(settings, wanted):
    subject = two_paths(**settings)
    hits, n = split_hits(subject.model, subject.task)
    assert n.tolist() == wanted and int(hits[3]) == 6
    assert math.isnan(accuracy_row(int(hits[1]), int(n[1]))["value"])


def test_scores_that_are_not_finite_are_no_answers():
    subject = two_paths()
    subject.task.inputs[-1, -1] = torch.nan
    hits, n = split_hits(subject.model, subject.task)
    assert hits.tolist() == [8, 4, 0, -1] and n.tolist() == [8, 4, 4, 6]
    assert math.isnan(accuracy_row(-1, 6)["value"]) and accuracy_row(-1, 6)["n"] == 6
