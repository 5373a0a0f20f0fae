"""What the recipes on memorized examples measure themselves."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import stats

import mechmem as mm
from mechmem.core.randomness import generator
from mechmem.recipes.claims import SCALES
from mechmem.recipes.papers.kobayashi_2020 import measured as kobayashi
from mechmem.recipes.papers.liu_lin_jaggi_2021 import measured as liu
from mechmem.recipes.papers.maini_2023 import measured as maini
from mechmem.recipes.papers.merullo_2025 import measured as merullo
from mechmem.recipes.trials import recipe

RECIPES = ("kobayashi_2020", "liu_lin_jaggi_2021", "maini_2023", "merullo_2025")
CONFIG = mm.TrainConfig(
    task=mm.ImageConfig("digits", train=100, test=60, noise=mm.LabelNoise(0.2)),
    model=mm.ImageMLPConfig((48, 48), biases=False, masks=mm.TurnOver()),
    optimizer="sgd",
    lr=0.03,
    weight_decay=0.0,
    batch_size=25,
    steps=200,
    evaluations=15,
    checkpoints=5,
)


@pytest.fixture(scope="module")
def run():
    return mm.train(CONFIG, progress=False)


@pytest.fixture(scope="module")
def tied():
    model = mm.ImageMLPConfig((64, 64), masks=mm.ExampleTied())
    return mm.train(dataclasses.replace(CONFIG, model=model, optimizer="adam", lr=3e-3), progress=False)


def single(rows):
    return {quantity: value for quantity, x, value in rows if math.isnan(x)}


def test_half_is_fitted_where_the_median_example_is(run):
    steps = np.sort(mm.example_scores(run, "learning_speed")["learning_speed"].values.numpy())
    found = single(liu.learned(run))[liu.HALF]
    assert (steps <= 10**found * (1 + 1e-9)).sum() >= 50 > (steps < 10**found * (1 - 1e-9)).sum()
    curve = {x: value for _, x, value in liu.learned(run) if not math.isnan(x)}
    assert curve[200] == pytest.approx(np.isfinite(steps).mean())


def test_own_subnetworks_are_those_of_the_examples(run):
    found, ids = single(liu.own_and_flipped(run)), run.task.train_ids
    for part in ("own", "flipped"):
        with mm.subnetwork(run, part, ids), torch.no_grad():
            right = run.model(run.task.batch(ids)[0]).argmax(1) == run.task.given(ids)
        assert found[f"train of {part}"] == pytest.approx(float(right.double().mean()))
    assert found["train of own"] > found["train of flipped"]


def test_the_loss_that_is_gone_early_is_a_share(run):
    found = single(liu.remembered(run))
    assert 0 < found[liu.EARLY] < 1 and found["self-influence"] > 0


@pytest.mark.slow
def test_the_truth_is_that_of_the_network_without_masks(run, monkeypatch):
    monkeypatch.setattr(liu, "NETWORKS", 6)
    found = single(liu.truth(run))
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, masks=None))
    memorized = mm.train_subsets(config, networks=6, progress=False).memorization().values
    plain = mm.train(config, progress=False)
    scores = mm.example_scores(plain, ["loss", "margin"])
    expected = {"self_influence": mm.influence(run, targets=run.task.sources).values.diagonal()} | {
        name: scores[name].suspicion for name in ("loss", "margin")
    }
    for name, values in expected.items():
        assert found[f"correlation of {name}"] == pytest.approx(stats.spearmanr(values, memorized).statistic)
    assert set(found) == {f"correlation of {name}" for name in ("self_influence", *liu.CHEAP)}


@pytest.mark.slow
def test_the_harmful_examples_are_those_that_worsen_others_and_not_themselves(run):
    found = single(kobayashi.cleansed(run))
    task = run.task
    order = torch.randperm(100, generator=generator(CONFIG.seed, "cleansing"))
    targets = task.sources[order][: kobayashi.TARGETS]
    values = mm.influence(run, targets=targets).values.numpy()
    own = targets.numpy()[:, None] == task.sources.numpy()[None, :]
    harm = np.where(own, 0, values).mean(0)
    worst = task.sources[torch.from_numpy(np.argsort(harm)[:20].copy())]
    assert found["share of wrong labels among the harmful"] == pytest.approx(
        float((task.true(worst) != task.given(worst)).double().mean())
    )
    again = mm.train(dataclasses.replace(CONFIG, left_out=tuple(sorted(worst.tolist()))), progress=False)
    right = again.model(task.batch(task.test_ids)[0]).argmax(1) == task.true(task.test_ids)
    assert found["test without harmful"] == pytest.approx(float(right.double().mean()))


def test_the_most_helpful_examples_are_of_the_targets_class(run):
    assert single(kobayashi.explained(run))[kobayashi.SAME_LABEL] > 0.2


def test_memory_units_hold_what_dropping_them_forgets(tied):
    found = single([*maini.own(tied), *maini.dropped(tied)])
    assert found["train noisy of own"] > found["train noisy of drop_memory"] + 0.3


def test_a_network_without_memory_units_has_none_to_drop(run):
    assert not list(maini.dropped(run))


def test_flipping_and_rewinding_are_measured_by_kind_of_label():
    plain = mm.train(dataclasses.replace(CONFIG, model=mm.CNNConfig((6, 8)), optimizer="adam", lr=0.01), progress=False)
    found = single([*maini.flipping(plain), *maini.rewinding(plain), *maini.gradients(plain)])
    scores = mm.example_scores(plain, f"flip_cost(most={maini.MOST})")
    frame = scores.to_frame()
    cost = frame.iloc[:, -1].clip(upper=maini.MOST + 1)
    chosen = (frame["split"] == "train_clean") & (cost > 0)
    assert found["units to flip, clean"] == pytest.approx(cost[chosen].mean())
    assert -1 <= found[maini.COSINE] <= 1 and {maini.LAST, maini.OTHERS} <= found.keys()


def test_edits_are_read_at_their_price(run):
    found = {(quantity, x): value for quantity, x, value in merullo.edited(run)}
    curves = mm.edit_curves(run, list(merullo.edits(run).values()))
    for told in ("truth", "nothing"):
        row = curves.at_price(0.03, told).set_index("edit").loc["curvature_directions"]
        assert found[merullo.left(merullo.CURVATURE, told), 0.03] == row["train_noisy"]
        assert found[merullo.gained(merullo.CURVATURE, told), 0.03] == pytest.approx(row["test_change"])
    assert len(found) == 5 * 2 * 3 * len(merullo.EDITS)


def test_the_ends_of_a_basis_are_measured_on_the_inputs_of_the_last_layer(run):
    found, task = single(merullo.separated(run)), run.task
    ids = task.train_ids
    held = mm.activations(run, "layers.0.hook_hidden", ids=ids)["layers.0.hook_hidden"].double()
    answered = mm.extractor("raw")(run)(ids).argmax(1) == task.given(ids)
    wrong = task.given(ids) != task.true(ids)
    right = torch.linalg.svd(run.model.layers[1].linear.weight.detach().double())[2].T
    ratios = []
    for part in (right[:, :5], right[:, 24:]):
        memorized, clean = (
            held[answered & chosen].matmul(part).square().sum(1).mean().sqrt() for chosen in (wrong, ~wrong)
        )
        ratios.append(float(memorized / clean))
    assert found[merullo.contrast(merullo.RANKS)] == pytest.approx(ratios[1] / ratios[0], rel=1e-5)
    assert found[merullo.contrast(merullo.CURVATURE)] > 0


def test_memory_units_are_dropped_where_there_are_some(tied, run):
    assert "train noisy of drop_memory" in single(merullo.edited_or_dropped(tied))
    assert not single(merullo.edited_or_dropped(run))


@pytest.mark.parametrize("name", RECIPES)
def test_arms_of_a_claim_differ_and_every_scale_has_its_trials(name):
    for scale in SCALES:
        for claim in [claim for claim in recipe(name).claims if not claim.pending]:
            trials = claim.trials(scale)
            assert len({trial.config.digest for trial in trials}) == len(trials) > 0
