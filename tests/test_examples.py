"""The examples run as they stand, with fewer steps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


AUDITED = ("raw", "frequency+quadratic", "untrained_test", "at this scale", "report:")
SAID = {
    "hidden_accuracy": (AUDITED, "report.html"),
    "your_own_network": (AUDITED, "report.html"),
    "own_networks": (("ResNet18: 9 hook points", "ablate half of", "patch ", "figures:"), "BERT_patched.html"),
    "over_training": (("fit_noisy", "P(noisy before clean)", "kappa", "figure:"), "over_training.html"),
    "hidden_knowledge": (("untrained", "chosen by", "train_noisy", "nowhere", "figures:"), "probes.html"),
    "benign_memorization": (("untrained", "gap", "invariance", "figures:"), "augmented/probes.html"),
    "memorized_examples": (("isolated", "self_influence", "same_label", "figures:"), "influential_examples.html"),
    "patching": (("denoising", "frequency 1", "of 192 neurons", "figures:"), "neurons.html"),
}
"""What each example has to say, and the page that it writes."""


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES} == set(SAID)


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(script, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, str(script), "--steps", "30", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | {"NO_COLOR": "1"})
    assert done.returncode == 0, done.stderr
    texts, page = SAID[script.stem]
    for expected in texts:
        assert expected in done.stdout
    assert (out / page).stat().st_size > 2_000
    histories = list(out.glob("*/history.jsonl"))
    assert all(history.read_text().count("\n") > 2 for history in histories)
    # Networks with random weights are not trained.
    assert histories or script.stem == "own_networks"
