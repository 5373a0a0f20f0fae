import dataclasses
import math

import numpy as np
import pytest
import torch

import mechmem as mm
from mechmem.analyses.logits.logit_spectrum import LogitSpectrum, LogitSpectrumResult
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError
from mechmem.scorecard.controls import LogitTable
from mechmem.tasks.grid import grid_rows

TASKS = [("add", 7), ("add", 8), ("subtract", 7), ("subtract", 6), ("multiply", 7)]


def table_subject(op, p, make):
    """A subject whose logits on the grid of the group are make(i, j, position of the class), and 0 elsewhere."""
    task = mm.ModularTask(mm.ModularConfig(op=op, p=p))
    n = len(task.group.elements)
    i, j, c = torch.meshgrid(torch.arange(n), torch.arange(n), torch.arange(n), indexing="ij")
    logits = torch.zeros(p * p, p, dtype=torch.float64)
    values = torch.zeros(n, n, p, dtype=torch.float64)
    values[:, :, task.group.elements] = make(i, j, c).double()
    logits[grid_rows(task)] = values
    return Subject(LogitTable(logits, task), task)


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize(("op", "p"), TASKS)
def test_a_function_of_the_answer_lies_on_the_rules_diagonal_at_its_frequency(op, p):
    n = p - 1 if op == "multiply" else p
    sign = -1 if op == "subtract" else 1
    for k in range(1, n // 2 + 1):
        subject = table_subject(op, p, lambda i, j, c, k=k: torch.cos(2 * math.pi * k * (i + sign * j - c) / n))
        result = LogitSpectrum()(subject)
        frame = result.to_frame()
        held = frame[frame["before"] > 1e-9 * frame["before"].sum()]
        assert set(held["kind"]) == {"rule"}
        (mode,) = {(row.k1 % n, row.k2) for row in held.itertuples()}
        assert mode == ((sign * k) % n, k)
        assert float(result.before[result.on_rule].sum()) == pytest.approx(float(result.before.sum()))


@pytest.mark.parametrize(("op", "p"), TASKS)
def test_energies_equal_numpys(op, p):
    n = p - 1 if op == "multiply" else p
    values = noise(n, n, n)
    subject = table_subject(op, p, lambda i, j, c: values[i, j, c])
    classes = np.zeros((n, n, p))
    classes[:, :, subject.task.group.elements] = values
    classes -= classes.mean(-1, keepdims=True)
    full = (np.abs(np.fft.fft2(classes, axes=(0, 1))) ** 2).sum(-1) / n**2
    result = LogitSpectrum()(subject)
    assert float(result.before.sum()) == pytest.approx(np.sum(classes**2))
    for row in result.to_frame().itertuples():
        self_conjugate_column = row.k2 == 0 or 2 * row.k2 == n
        expected = full[row.k1, row.k2] * (1 if self_conjugate_column else 2)
        assert row.before == pytest.approx(expected)
        assert -n / 2 < row.k1 <= n / 2


def test_additive_modes_are_blank_and_do_not_count_in_the_shares():
    p, k = 7, 2
    rule = noise(p, p, p) * 0.01
    rows, columns = 50 * noise(p, 1, p), 50 * noise(2, p, p)[:1]

    def make(i, j, c):
        return rows[i, 0, c] + columns[0, j, c] + torch.cos(2 * math.pi * k * (i + j - c) / p) + rule[i, j, c]

    result = LogitSpectrum()(table_subject("add", p, make))
    frame = result.to_frame()
    assert frame.loc[frame["kind"] == "additive", "before"].sum() > 0.99 * frame["before"].sum()
    heat = result.plot().data[0]
    blank = np.isnan(heat.z)
    np.testing.assert_array_equal(blank, (heat.y[:, None] == 0) | (heat.x[None, :] == 0))
    row, column = np.unravel_index(np.nanargmax(heat.z), heat.z.shape)
    assert (heat.y[row], heat.x[column]) == (k, k)
    assert heat.z[row, column] > math.log10(0.9)
    assert "additive modes (blank): 100% of all energy" in result.plot().layout.annotations[0].text


def test_purely_additive_logits_can_be_drawn():
    result = LogitSpectrum()(table_subject("add", 7, lambda i, j, c: (i * c + j).double()))
    assert result.plot().data[0].z.shape == (7, 4)


@pytest.mark.parametrize("op", ["add", "subtract", "multiply"])
def test_filtration_leaves_a_planted_rule_as_it_is_and_drops_what_is_memorized(op):
    pure = LogitSpectrum(surgery="frequency")(mm.planted_network(7, op=op, dtype=torch.float64).subject)
    torch.testing.assert_close(pure.after, pure.before)
    mixed = mm.planted_network(7, op=op, memorized_fraction=0.4, dtype=torch.float64).subject
    result = LogitSpectrum()(mixed)
    other = ~(result.additive | result.on_rule)
    before, after = (float(energy[other].sum() / energy.sum()) for energy in (result.before, result.after))
    assert after < 0.5 * before
    assert [note.text.split("<br>")[0] for note in result.plot().layout.annotations] == [
        "the network's logits",
        "after frequency+quadratic",
    ]


def test_a_table_of_logits_shows_the_spectrum_before_and_says_why_there_is_none_after(tmp_path):
    result = LogitSpectrum()(table_subject("add", 5, lambda i, j, c: noise(5, 5, 5)[i, j, c]))
    assert result.after is None and "role:input_embedding" in result.after_note
    assert len(result.plot().data) == 1
    assert result.to_frame()["after"].isna().all()
    result.save(tmp_path / "r.safetensors")
    loaded = LogitSpectrumResult.load(tmp_path / "r.safetensors")
    assert torch.equal(loaded.before, result.before) and loaded.after is None
    assert loaded.after_note == result.after_note


def test_saved_and_loaded_it_is_the_same(planted, tmp_path):
    result = LogitSpectrum()(planted.subject)
    result.save(tmp_path / "r.safetensors")
    loaded = LogitSpectrumResult.load(tmp_path / "r.safetensors")
    assert torch.equal(loaded.before, result.before) and torch.equal(loaded.after, result.after)
    assert (loaded.surgery, loaded.sign) == ("frequency+quadratic", 1)


def test_bad_surgeries_are_refused_by_name():
    with pytest.raises(UnknownNameError, match="no extractor 'frequncy'. Did you mean 'frequency'"):
        LogitSpectrum(surgery="frequncy+quadratic")
    with pytest.raises(ConfigError, match="'activation' needs the settings"):
        LogitSpectrum(surgery="activation")
    with pytest.raises(ConfigError, match="not after a readout"):
        LogitSpectrum(surgery="frequency+diagonal")


def test_without_a_group_it_refuses(planted):
    task = planted.subject.task
    train = torch.zeros(len(task.ids), dtype=torch.bool)
    train[task.train_ids] = True
    plain = mm.ArrayTask(task.operands, task.given(task.ids), task.true(task.ids), train)
    with pytest.raises(MissingNeedError, match="needs group"):
        LogitSpectrum()(dataclasses.replace(planted.subject, task=plain))
