"""Runs and results of version 0.1.0, saved before the package was laid out in rooms, still open with the same figures.

`saved/` holds one small run (a + b mod 5, width 8, 20 steps), results of it, and a digest of each one's figures, all
written by that version.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from figures import digest

import mechmem as mm
from mechmem.core.plugins import plugins
from mechmem.core.storage import load_record
from mechmem.errors import UncheckedWarning

SAVED = Path(__file__).with_name("saved")
DIGESTS = json.loads((SAVED / "digests.json").read_text(encoding="utf-8"))
RESULTS = sorted(path.stem for path in SAVED.glob("*.safetensors"))


@pytest.fixture(autouse=True, scope="module")
def every_result_is_known():
    """Load the classes, as whoever opens a result has."""
    plugins("analyses")
    return [getattr(mm, name) for name in mm.__all__]


def test_every_file_has_a_digest():
    assert {*RESULTS, "run"} == set(DIGESTS) and len(RESULTS) == 7


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_of_the_version_before_has_the_same_figures(name):
    with pytest.warns(UncheckedWarning, match="was not checked"):
        result = load_record(SAVED / f"{name}.safetensors")
    assert digest(result.to_frame()) == DIGESTS[name]
    assert result.plot().data


def test_a_run_of_the_version_before_opens():
    with pytest.warns(UncheckedWarning, match="was not checked") as said:
        run = mm.load(SAVED / "run")
    assert said[0].filename == __file__
    assert digest(*run.model.state_dict().values()) == DIGESTS["run"]
    assert run.run.checkpoint_steps() == [0, 1, 20] and len(run.run.history()) == 4
    with pytest.warns(UncheckedWarning):
        card = mm.Scorecard.load(SAVED / "scorecard.safetensors")
    last = run.run.history().iloc[-1]
    for split in ("train_clean", "train_noisy", "test"):
        assert card.row("raw").splits[split].estimate.value == last[split]


def test_digests_tell_figures_apart():
    with pytest.warns(UncheckedWarning):
        frame = load_record(SAVED / "scores.safetensors").to_frame()
    assert digest(frame) == digest(frame.rename(columns={"ipr": "other"}))
    assert digest(frame) != digest(frame.assign(ipr=frame["ipr"] + 1e-12))


@pytest.mark.slow
def test_a_result_is_opened_before_its_module_was_imported(tmp_path):
    mm.discover_rule(mm.planted_network(5, width=40).subject).save(tmp_path / "rule.safetensors")
    program = "import sys, mechmem as mm; print(type(mm.load_result(sys.argv[1])).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "rule.safetensors"], capture_output=True, text=True
    )
    assert done.stdout == "DiscoveredRule\n", done.stderr
