"""Quality of scores of examples on planted tables."""

import dataclasses
import io

import numpy as np
import pytest
import rich.console
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

import mechmem as mm
from mechmem.cli.terminal import examples_table
from mechmem.errors import MissingNeedError, ScoreError, UnknownNameError
from mechmem.examples.detection import below_chance


def table(n=400, rate=0.2, known=True, seed=0):
    """Loss finds wrong labels moderately, "good" better, "low" as well from the low end, "blind" not at all."""
    draw = np.random.default_rng(seed)
    noisy = draw.random(n) < rate
    columns = {
        "loss": noisy + draw.normal(size=n),
        "good": 3 * noisy + draw.normal(size=n),
        "blind": draw.normal(size=n),
    }
    columns["low"] = -columns["good"]
    ids = torch.arange(n)
    scores = {
        name: mm.ExampleScores(name, ids, torch.tensor(values), suspect="low" if name == "low" else "high")
        for name, values in columns.items()
    }
    given = torch.zeros(n, dtype=torch.long)
    true = torch.tensor(noisy).long() if known else None
    operands = torch.stack([ids // 20, ids % 20], 1)
    nothing = {name: torch.full((n,), torch.nan, dtype=torch.float64) for name in scores}
    reasons = {"lost": "it is not there"}
    return mm.ExampleTable(ids, scores, nothing, 1, given, true, operands, 21, reasons), columns, noisy


def test_each_score_stands_beside_the_loss():
    found, columns, noisy = table()
    frame = mm.detect_label_noise(found).to_frame().set_index(["score", "figure"])
    for name, values in columns.items():
        area = roc_auc_score(noisy, -values if name == "low" else values)
        row = frame.loc[(name, "auroc")]
        assert row["value"] == pytest.approx(area) and row["low"] < area < row["high"]
        assert row["loss"] == pytest.approx(roc_auc_score(noisy, columns["loss"]))
        assert row["more"] == pytest.approx(row["value"] - row["loss"])
    assert frame.loc[("good", "auroc"), "more_low"] > 0 > frame.loc[("blind", "auroc"), "more_high"]
    assert frame.loc["low", "value"].tolist() == pytest.approx(frame.loc["good", "value"].tolist())
    top = np.argsort(-columns["good"])[: noisy.sum()]
    assert frame.loc[("good", "precision"), "value"] == pytest.approx(noisy[top].mean())
    assert (frame.loc["loss", "more"] == 0).all()


def test_intervals_cover_the_truth():
    truth = stats.norm.cdf(3 / 2**0.5)
    inside = 0
    for seed in range(60):
        frame = mm.detect_label_noise(table(n=150, seed=seed)[0], resamples=200).to_frame()
        row = frame[(frame["score"] == "good") & (frame["figure"] == "auroc")].iloc[0]
        inside += row["low"] <= truth <= row["high"]
    assert inside >= 48


def test_scores_are_compared_with_a_reference():
    found, columns, _ = table()
    frame = found.against("good").set_index("score")
    assert frame.loc["low", "correlation"] == pytest.approx(1)
    row = frame.loc["loss"]
    assert row["correlation"] == pytest.approx(stats.spearmanr(columns["good"], columns["loss"]).statistic)
    assert row["low"] < row["correlation"] < row["high"]
    infinite = dataclasses.replace(found.scores["good"], values=found.scores["good"].values.clamp(max=1e300) * 1)
    infinite.values[:5] = torch.inf
    extended = dataclasses.replace(found, scores={**found.scores, "good": infinite})
    assert np.isfinite(extended.against("good")["correlation"]).all()
    assert extended["good"].most(5).tolist() == [0, 1, 2, 3, 4]


def test_a_table_draws_and_survives_saving(tmp_path):
    found, columns, noisy = table()
    found.save(tmp_path / "table.safetensors")
    assert mm.ExampleTable.load(tmp_path / "table.safetensors").to_frame().equals(found.to_frame())
    # A resample that misses the only wrong label has no figure, and where there is no other, no interval.
    single = dataclasses.replace(found, true=(found.ids == 3).long())
    low = [mm.detect_label_noise(single, resamples=2, seed=seed).to_frame()["low"].isna().any() for seed in range(40)]
    assert any(low) and not all(low)
    quality = mm.detect_label_noise(found, resamples=50)
    quality.save(tmp_path / "detection.safetensors")
    assert mm.Detection.load(tmp_path / "detection.safetensors").to_frame().equals(quality.to_frame())
    assert len(quality.plot().data) == 9
    grid = found.grid("good")
    # Symbols that no training example has are there too.
    assert grid.data[0].z.shape == (21, 21) and np.isnan(grid.data[0].z[20]).all()
    assert grid.data[0].z[3, 7] == pytest.approx(columns["good"][67], rel=1e-6)
    assert len(grid.data[1].x) == noisy.sum()
    assert len(found.plot().data)


@pytest.mark.usefixtures("unchecked_shapes")
def test_what_cannot_be_asked_is_refused():
    with pytest.raises(MissingNeedError, match="needs to know which labels are wrong"):
        mm.detect_label_noise(table(known=False)[0])
    with pytest.raises(MissingNeedError, match="no label is wrong"):
        mm.detect_label_noise(table(rate=0)[0])
    with pytest.raises(MissingNeedError, match="no label is correct"):
        mm.detect_label_noise(table(rate=1)[0])
    found = table()[0]
    with pytest.raises(UnknownNameError, match="good"):
        found.grid("goood")
    with pytest.raises(ScoreError, match="not there"):
        found["lost"]
    with pytest.raises(MissingNeedError, match="grid"):
        dataclasses.replace(found, operands=None).grid("good")
    with pytest.raises(ScoreError, match="not numbers"):
        mm.ExampleScores("x", torch.arange(2), torch.tensor([0.0, torch.nan]))
    with pytest.raises(ScoreError, match="values for"):
        mm.ExampleScores("x", torch.arange(2), torch.zeros(3))


def test_an_order_that_is_the_wrong_way_round_says_so():
    found, columns, noisy = table()
    turned = dataclasses.replace(found.scores["good"], suspect="low")
    listed = dataclasses.replace(found, scores={**found.scores, "turned": turned})
    area = 1 - roc_auc_score(noisy, columns["good"])
    assert below_chance(listed, "turned").startswith(f"AUROC {area:.3f}, below chance")
    assert all(below_chance(listed, name) == "" for name in ("loss", "good", "low"))
    assert below_chance(dataclasses.replace(listed, true=None), "turned") == ""
    assert below_chance(dataclasses.replace(listed, true=listed.given), "turned") == ""
    out = io.StringIO()
    most = {name: each.most(2).tolist() for name, each in listed.scores.items()}
    rich.console.Console(file=out, width=200).print(examples_table(listed, None, "not asked", most))
    lines = {line.partition(":")[0]: line.rstrip() for line in out.getvalue().splitlines()}
    ids = ", ".join(map(str, most["turned"]))
    assert (
        lines["turned"].startswith(f"turned: {ids} (AUROC {area:.3f}, below chance") and "chance" not in lines["good"]
    )
