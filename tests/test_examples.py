"""The examples run as they stand, with fewer steps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def test_there_are_examples():
    assert {path.stem for path in EXAMPLES} >= {"hidden_accuracy", "your_own_network"}


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(script, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, str(script), "--steps", "30", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | {"NO_COLOR": "1"})
    assert done.returncode == 0, done.stderr
    for expected in ("raw", "frequency+quadratic", "untrained_test", "at this scale", "report:"):
        assert expected in done.stdout
    assert (out / "report.html").stat().st_size > 10_000
    assert next(out.glob("*/history.jsonl")).read_text().count("\n") > 2
