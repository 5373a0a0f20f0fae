"""Score tables: what stands in them, what does not and why, and how far scores agree."""

import warnings

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from plugin_names import score
from scipy import stats

import mechmem as mm
from mechmem.errors import ConfigError, ScoreError, UnknownNameError
from mechmem.neurons.table import DEFAULT_SCORES, NeuronTable, neuron_scores


def table(values, names=None, reasons=None):
    """A table of made-up values. Shape (score, neuron)."""
    values = torch.from_numpy(np.array(values, dtype=float))
    names = names or tuple(f"score{i}" for i in range(len(values)))
    return NeuronTable(names, values, "hook_hidden", ("more",) * len(values), {}, reasons or {})


@pytest.fixture(scope="module")
def found(planted):
    return neuron_scores(planted.subject, (*DEFAULT_SCORES, "random"))


def test_holds_every_score_as_it_is_alone(found, planted):
    assert not found.reasons and len(found.names) == 6
    for name in found.names:
        alone = score(name)(planted.subject)
        assert torch.equal(found[name].values, alone.values.double())
        assert (found[name].score, found[name].higher, found[name].note) == (name, alone.higher, alone.note)
    frame = found.to_frame()
    assert list(frame.columns) == ["neuron", *found.names] and len(frame) == len(planted.memorizing)
    assert np.array_equal(frame["ipr"], found["ipr"].values)


def test_takes_a_model_and_its_task(planted):
    model, task = planted.subject.model, planted.subject.task
    one = neuron_scores(model, "weight_norm", task=task)
    assert one.names == ("weight_norm",) and torch.equal(
        one.values, neuron_scores(planted.subject, ["weight_norm"]).values
    )
    with pytest.raises(ConfigError, match="its task"):
        neuron_scores(model, "weight_norm")
    blind = neuron_scores(model, ("strength", "weight_norm(w)"), task=task, roles=mm.Roles(readout=model.roles.readout))
    assert blind.names == ("weight_norm(of=w)",) and "role:activation" in blind.reasons["strength"]


def test_a_score_that_cannot_be_computed_has_a_reason():
    clean = mm.planted_network(5)
    found = neuron_scores(clean.subject, ("ipr", "ablation_effect(train_noisy)", "random"))
    assert found.names == ("ipr", "random")
    assert "is empty" in found.reasons["ablation_effect(split=train_noisy)"]
    with pytest.raises(ScoreError, match="could not be computed: .*is empty"):
        found["ablation_effect(split=train_noisy)"]
    with pytest.raises(UnknownNameError, match="strength"):
        found["strength"]
    with pytest.raises(ScoreError, match="no score could be computed: .*train_noisy"):
        neuron_scores(clean.subject, ["ablation_effect(train_noisy)"])


def test_scores_of_another_layer_do_not_stand_beside_the_first(planted):
    roles = mm.Roles(**{**vars(planted.subject.roles), "hidden": ("hook_pre", "hook_hidden")})
    found = neuron_scores(
        planted.subject.model, ("random", "random(1,point=hook_pre)"), task=planted.subject.task, roles=roles
    )
    assert found.names == ("random",) and "'hook_pre'" in found.reasons["random(seed=1,point=hook_pre)"]


@pytest.mark.parametrize(
    ("names", "error"),
    [([], ConfigError), (["ipr", "ipr(one_sided)"], ConfigError), (["irp"], UnknownNameError)],
)
def test_names_are_checked_before_anything_is_computed(planted, names, error):
    with pytest.raises(error):
        neuron_scores(planted.subject, names)


def test_agreement_is_spearmans_with_an_interval_that_holds_it(found):
    frame = found.agreement(resamples=200)
    assert len(frame) == 15 and (frame["n"] == found.values.shape[1]).all()
    for row in frame[frame["reason"] == ""].itertuples():
        left, right = found[row.score].values.numpy(), found[row.other].values.numpy()
        assert row.correlation == pytest.approx(stats.spearmanr(left, right).statistic, abs=1e-12)
        assert row.low <= row.correlation <= row.high
    assert frame.equals(found.agreement(resamples=200))


def test_the_interval_is_about_as_wide_as_theory_says():
    draw = np.random.default_rng(0)
    shared = draw.normal(size=400)
    row = table([shared + draw.normal(size=400), shared + draw.normal(size=400)]).agreement().iloc[0]
    # Fisher's z, with the variance of Fieller, Hartley and Pearson (1957) for rank correlations.
    half = 1.96 * (1.06 / 397) ** 0.5
    low, high = np.tanh(np.arctanh(row["correlation"]) + np.array([-half, half]))
    assert row["low"] == pytest.approx(low, abs=0.03) and row["high"] == pytest.approx(high, abs=0.03)


def test_only_the_order_counts():
    draw = np.random.default_rng(1)
    values = draw.normal(size=50)
    same = table([values, np.exp(3 * values), -values]).agreement(resamples=50)
    assert np.allclose(same["correlation"], [1, -1, -1]) and np.allclose(same["low"], [1, -1, -1])


def test_a_constant_score_agrees_with_nothing_and_says_why():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = table([[1.0, 2.0, 3.0, 4.0], [7.0] * 4, [0.0, 0.0, 0.0, 1.0]], names=("a", "flat", "rare"))
        frame = made.agreement(resamples=100)
        figure = made.plot()
    reasons = dict(zip(zip(frame["score"], frame["other"], strict=True), frame["reason"], strict=True))
    assert "flat has the same value" in reasons["a", "flat"] and "flat" in reasons["flat", "rare"]
    assert frame["correlation"].isna().tolist() == [True, False, True]
    # Most resamples of a score with one value apart are constant: no correlation, and no NaN.
    kept = frame[frame["reason"] == ""].iloc[0]
    assert kept["low"] == 0 <= kept["correlation"] <= kept["high"]
    z = np.asarray(figure.data[0].z)
    assert np.isnan(z[1]).all() and np.isnan(z[:, 1]).all() and z[0, 0] == 1 and z[0, 2] == z[2, 0]


def test_draws_the_matrix_with_its_numbers(found):
    figure = found.plot()
    (heat,) = figure.data
    assert isinstance(figure, go.Figure) and (heat.zmin, heat.zmax) == (-1, 1)
    middle = heat.colorscale[len(heat.colorscale) // 2]
    assert middle == (0.5, "#ffffff"), "no correlation is white"
    assert list(figure.layout.xaxis.ticktext) == list(found.names)
    place = found.names.index("weight_norm")
    wanted = stats.spearmanr(found["ipr"].values, found["weight_norm"].values).statistic
    assert heat.z[0][place] == pytest.approx(wanted, abs=1e-6) and heat.text[0][place] == f"{wanted:.2f}"


def test_survives_saving(found, tmp_path):
    found.save(tmp_path / "table.safetensors")
    loaded = NeuronTable.load(tmp_path / "table.safetensors")
    assert loaded.to_frame().equals(found.to_frame()) and loaded.names == found.names
    assert dict(loaded.reasons) == dict(found.reasons)


def test_a_score_that_is_no_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="names must be a string or a list of strings, got .3"):
        mm.neuron_scores(mm.planted_network(5).subject, [3])  # pyright: ignore[reportArgumentType]
