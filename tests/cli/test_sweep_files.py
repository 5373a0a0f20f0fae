"""The sweeps that come with mechmem are what their first lines say."""

import functools
from pathlib import Path

import pytest

from mechmem.cli.sweep_files import told
from mechmem.cli.sweeps import Sweep

FILES = sorted((Path(__file__).parents[2] / "examples" / "sweeps").glob("*.toml"))


@functools.cache
def cells_of(path):
    return told(Sweep(file=path)).cells()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_a_sweep(path):
    cells = cells_of(path)
    said = {"doshi_2024": 17 * 17 * 4, "doshi_2024_quarter": 9 * 9 * 4, "liu_lu_2026": 6 * 8 * 3}[path.stem]
    assert len(cells) == said and len({cell.config.digest for cell in cells}) == said


def test_the_quarter_is_part_of_the_whole():
    whole, quarter = map(cells_of, FILES[:2])
    assert {cell.config.digest for cell in quarter} < {cell.config.digest for cell in whole}
    one = quarter[0].config
    assert (one.task.p, one.model.width, one.model.activation, one.loss) == (97, 500, "quadratic", "mse")
    assert (one.task.noise.distribution, one.betas, one.steps, one.stop_when) == ("any", (0.9, 0.98), 2000, "settled")
