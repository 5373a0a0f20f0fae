"""Check that a demo's directory holds what the README promises: both scorecards, the report, and figures in bounds.

Usage: python check_demo.py DIRECTORY
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

CLASSES = 59
CHANCE = 1 / CLASSES
SPLITS = ("train_clean", "train_noisy", "train_noisy_true", "test")
CONTROLS = ("untrained_test", "one_step_test", "noise_only_test")

# (extractor, split) → (least, most). "Chance" and "gone" allow for the few hundred held-out cells they are read on.
BOUNDS = {
    "hidden_rule": {
        ("raw", "train_clean"): (1.0, 1.0),
        ("raw", "train_noisy"): (1.0, 1.0),
        ("raw", "test"): (0.10, 0.30),
        ("frequency", "test"): (0.90, 1.0),
        ("frequency+quadratic", "test"): (0.99, 1.0),
        ("frequency+quadratic", "train_noisy"): (0.0, 0.01),
        ("additive_free", "test"): (0.80, 1.0),
    },
    "heavy_noise": {
        ("raw", "train_clean"): (1.0, 1.0),
        ("raw", "train_noisy"): (1.0, 1.0),
        ("raw", "test"): (0.0, 0.04),
        ("frequency", "test"): (0.90, 1.0),
        ("frequency+quadratic", "test"): (0.99, 1.0),
        ("frequency+quadratic", "train_noisy"): (0.0, 0.01),
        ("additive_free", "test"): (0.0, CHANCE + 0.03),
    },
}
VERDICTS = {"hidden_rule": "rule", "heavy_noise": "labels_only"}


def main(directory: Path) -> int:
    """Write every check and return how many failed."""
    results = list(checks(directory))
    failed = sum(not passed for _, passed in results)
    lines = [f"{'ok  ' if passed else 'FAIL'} {what}" for what, passed in results]
    lines.append(f"{failed} checks of the demo failed" if failed else "the demo's figures hold")
    sys.stdout.write("\n".join(lines) + "\n")
    return failed


def checks(directory: Path) -> Iterator[tuple[str, bool]]:
    """Yield (what was checked, whether it holds)."""
    yield from report_checks(directory / "report.html")
    for network, bounds in BOUNDS.items():
        path = directory / network / "scorecard.json"
        yield f"{network}: scorecard.json exists", path.is_file()
        if path.is_file():
            yield from scorecard_checks(network, json.loads(path.read_text(encoding="utf-8")), bounds)


def report_checks(path: Path) -> Iterator[tuple[str, bool]]:
    """One page that needs nothing else: no file beside it, no address it loads from."""
    yield "report.html exists", path.is_file()
    if not path.is_file():
        return
    page = path.read_text(encoding="utf-8")
    loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)\s*=\s*[\"']?(?!data:|#)([^\"'>\s]+)", page)
    yield f"report.html loads nothing from elsewhere {loaded[:3] or ''}".rstrip(), not loaded
    yield "report.html names both networks", all(re.search(name.replace("_", "[ _]"), page, re.I) for name in BOUNDS)


def scorecard_checks(
    network: str, card: Mapping[str, Any], bounds: Mapping[tuple[str, str], tuple[float, float]]
) -> Iterator[tuple[str, bool]]:
    """Rows, controls, label vote and verdict of one network."""
    rows = {row["extractor"]: row for row in card["rows"]}
    for (extractor, split), (least, most) in bounds.items():
        value = rows.get(extractor, {}).get(split)
        shown = "missing" if value is None else f"{value:.4f}"
        yield (
            f"{network}: {extractor} {split} {shown} in [{least:.3g}, {most:.3g}]",
            value is not None and least <= value <= most,
        )
    for extractor in ("raw", "frequency", "frequency+quadratic", "additive_free"):
        row = rows.get(extractor, {})
        yield f"{network}: {extractor} has its controls", all(row.get(control) is not None for control in CONTROLS)
    complete = all({"knows", "n_test", *SPLITS, *CONTROLS} <= row.keys() for row in card["rows"])
    yield f"{network}: every row has every field", complete
    vote = card["label_vote"]["test"]
    yield f"{network}: label vote {vote:.4f} at least 0.95", vote >= 0.95
    structure = card["structure"]
    z, verdict = structure["Z"], structure["verdict"]
    yield f"{network}: verdict {verdict}", verdict == VERDICTS[network]
    if VERDICTS[network] == "rule":
        yield f"{network}: Z {z:.1f} at least 20", z >= 20
        yield f"{network}: held-out vote {structure['heldout_vote']:.3f} at least 0.9", structure["heldout_vote"] >= 0.9
    else:
        yield f"{network}: Z {z:.1f} at most 3", z <= 3


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(min(main(Path(sys.argv[1])), 1))
