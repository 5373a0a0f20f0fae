"""The examples run as they stand, with fewer steps, and print what they are there to show."""

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NUMBER = r"(?:-?\d+\.\d+|NaN|inf)"


def row(name, numbers):
    """A line of a table: its name, a pattern, and so many numbers."""
    return rf"^ *{name}(?: +{NUMBER}){{{numbers}}}$"


def effect(unit):
    """The line that says what patching a unit does."""
    return rf"^  patch {unit}: effect {NUMBER} \[{NUMBER}, {NUMBER}\]$"


AUDITED = (
    r"^ *extractor +train_clean +train_noisy +test +untrained_test +one_step_test +noise_only_test$",
    *(row(name, 6) for name in ("raw", r"frequency\+quadratic", "additive_free", "diagonal")),
    r" at this scale \(κ.*\); the most that is read out is \d+",
    r"^report: .*/report\.html$",
)
PRINTED = {
    "benign_memorization": (
        r"^random labels, images as they are$",
        r"^random labels, images augmented$",
        r"^ *trained +untrained +cross_validated$",
        row(r"layers\.2\.hook_hidden", 3),
        rf"{row('hook_features', 5)[:-1]} +359 +not fitted$",
        row(r"trained projector\.hook_hidden test 359", 5),
        row(r"untrained projector\.hook_hidden test 359", 5),
    ),
    "hidden_accuracy": (*AUDITED, rf"^vote of the training labels by answer: {NUMBER}$"),
    "hidden_knowledge": (
        row("inputs", 3),
        row(r"layers\.2\.hook_hidden", 3),
        r"^chosen by cross-validation: layers\.2\.hook_hidden$",
        rf"{row('0 layers.2.linear train_noisy', 3)[:-1]} 518$",
        row("train_noisy 518", 5),
    ),
    "memorized_examples": (
        r"^before training: isolated: nothing leaks$",
        *(row(score, 5) for score in ("loss", "self_influence", "margin", "forgetting_events", "tracin")),
        row("train_noisy  False", 1),
    ),
    "over_training": (
        r"^ *fit_noisy( +NaN){3} train_noisy never reached 0\.9 in 30 steps",
        rf"{row('precedence noisy − clean', 3)[:-1]} +769$",
        rf"^.*: P\(noisy before clean\) = {NUMBER}$",
        r"^ *frequency\+quadratic +raw +S +kappa +Z$",
        row("0", 5),
        row("30", 5),
    ),
    "own_networks": (
        r"^Sequential: 7 hook points$",
        rf"^  ablate half of 4\.hook_out: train_noisy {NUMBER} -> {NUMBER}$",
        effect(r"4\.hook_out\[neuron \d+\]"),
        r"^ResNet18: 9 hook points$",
        effect(r"resnet\.encoder\.stages\.\d\.layers\.\d\.layer\.hook_out"),
        r"^BERT: 7 hook points$",
        effect(r"bert\.encoder\.layer\.1\.output\.dense\.hook_out"),
    ),
    "patching": (
        rf"{row('hook_hidden denoising', 3)[:-1]} +85(?: +{NUMBER}){{2}}$",
        rf"{row('frequency 1 denoising', 3)[:-1]} +85(?: +{NUMBER}){{2}}$",
        r"^\d+ of 192 neurons carry half of the difference between two examples$",
    ),
    "your_own_network": (*AUDITED, "^my network shows "),
}
"""Lines that each example prints, as patterns."""

PAGES = {
    "benign_memorization": ["as_they_are/probes", "augmented/invariance", "augmented/probes"],
    "hidden_accuracy": ["report"],
    "hidden_knowledge": ["class_manifolds", "depth", "layer_similarity", "probes", "rewinding"],
    "memorized_examples": ["influence", "influential_examples", "memorized_examples", "quality"],
    "over_training": ["over_training"],
    "own_networks": [
        f"{network}_{what}" for network in ("BERT", "ResNet18", "Sequential") for what in ("ablated", "patched")
    ],
    "patching": ["frequencies", "neurons", "points"],
    "your_own_network": ["report"],
}
"""The pages that each example writes."""


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES} == set(PRINTED) == set(PAGES)


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_its_findings_and_writes_its_pages(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script.name, "--steps", "30", "--out", str(tmp_path)])
    runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().out
    missing = [pattern for pattern in PRINTED[script.stem] if not re.search(pattern, printed, re.MULTILINE)]
    assert not missing, f"{missing} are not in what is printed:\n{printed}"
    pages = {path.relative_to(tmp_path).with_suffix("").as_posix(): path for path in tmp_path.rglob("*.html")}
    assert sorted(pages) == PAGES[script.stem]
    assert all(path.stat().st_size > 2_000 for path in pages.values())
    histories = list(tmp_path.glob("*/history.jsonl"))
    assert all(history.read_text().count("\n") > 2 for history in histories)
    # Networks with random weights are not trained.
    assert histories or script.stem == "own_networks"
