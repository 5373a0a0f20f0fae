"""What reads logits alone reads a transformer's as it reads a table of them."""

import pandas as pd
import pytest
import torch
from small_transformer import small_transformer

import mechmem as mm
from mechmem.analyses.logits.frequency_reconstruction import FrequencyReconstruction
from mechmem.analyses.logits.operation_scan import OperationScan
from mechmem.scorecard.controls import LogitTable


@pytest.fixture(params=[("add", {}), ("subtract", {"tokens": 2}), ("multiply", {"layers": 2, "layer_norm": True})])
def both(request):
    op, settings = request.param
    subject = small_transformer(7, op, **settings)
    table = LogitTable(mm.extractor("raw")(subject)(subject.task.ids), subject.task)
    return subject, mm.Subject(table, subject.task)


@pytest.mark.parametrize("name", ["energy_ranked", "diagonal", "additive_free"])
def test_readouts(name, both):
    found, expected = (mm.extractor(name)(subject)(subject.task.test_ids) for subject in both)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("analysis", [FrequencyReconstruction(), OperationScan()])
def test_analyses(analysis, both):
    found, expected = (analysis(subject).to_frame() for subject in both)
    pd.testing.assert_frame_equal(found, expected)
