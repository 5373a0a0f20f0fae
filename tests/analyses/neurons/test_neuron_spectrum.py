import dataclasses

import numpy as np
import pytest
import torch

import mechmem as mm
from mechmem.analyses.neurons.neuron_spectrum import DRAWN_NEURONS, NeuronSpectrum, NeuronSpectrumResult
from mechmem.errors import MissingNeedError
from mechmem.models.networks.build import build_model
from mechmem.models.networks.mlp import HookedMLP


@pytest.mark.parametrize(("op", "p"), [("add", 7), ("add", 8), ("subtract", 5), ("subtract", 6), ("multiply", 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_planted_frequencies_are_found(op, p, dtype):
    planted = mm.planted_network(p, op=op, dtype=dtype)
    result = NeuronSpectrum()(planted.subject)
    rule = planted.frequency > 0
    n = p - 1 if op == "multiply" else p
    assert set(result.key[rule].tolist()) == set(range(1, n // 2 + 1)), "every frequency, the last included"
    torch.testing.assert_close(result.key[rule], planted.frequency[rule])
    torch.testing.assert_close(result.share.amax(0)[rule], torch.ones(int(rule.sum()), dtype=dtype))


def test_shares_equal_numpys(tiny_run):
    weights = {name: value.detach().double().numpy() for name, value in tiny_run.model.named_parameters()}
    vectors = np.stack([weights["W_in"][:5], weights["W_in"][5:], weights["W_out"].T])
    power = (np.abs(np.fft.rfft(vectors, axis=1)) ** 2)[:, 1:]
    shares = (power / power.sum(1, keepdims=True)).mean(0)
    np.testing.assert_allclose(NeuronSpectrum()(tiny_run).share, shares, rtol=1e-4, atol=1e-7)


def test_initialisation_is_the_runs_first_checkpoint(tiny_run, tiny_config):
    result = NeuronSpectrum()(tiny_run)
    fresh = build_model(tiny_config.model, tiny_run.task, tiny_config.seed)
    torch.testing.assert_close(result.initial, NeuronSpectrum()(tiny_run.with_model(fresh)).share)
    assert not result.initial_note
    assert not torch.allclose(result.initial, result.share, atol=1e-3)


def test_without_a_run_the_retrainer_makes_the_initialisation(tiny_run):
    result = NeuronSpectrum()(dataclasses.replace(tiny_run, run=None))
    torch.testing.assert_close(result.initial, NeuronSpectrum()(tiny_run).initial)


class Refusing:
    def twin(self, kind, *, progress=False):
        raise MissingNeedError(f"no {kind} twin here")


def test_without_either_the_reason_is_stated(planted):
    result = NeuronSpectrum()(planted.subject)
    assert result.initial is None and "neither a run with step 0 nor a retrainer" in result.initial_note
    assert len(result.plot().data) == 1
    refused = NeuronSpectrum()(dataclasses.replace(planted.subject, retrainer=Refusing()))
    assert refused.initial is None and "no untrained twin here" in refused.initial_note


def test_both_panels_are_sorted_by_their_own_key_frequency(tiny_run):
    result = NeuronSpectrum()(tiny_run)
    figure = result.plot()
    for trace, share in zip(figure.data, (result.share, result.initial), strict=True):
        assert np.all(np.diff(trace.z.argmax(0)) >= 0)
        assert list(trace.y) == [1, 2]
        drawn, given = (np.sort(np.asarray(z), axis=1) for z in (trace.z, share))
        np.testing.assert_allclose(drawn, given, rtol=1e-6)
    assert figure.layout.coloraxis.cmax == pytest.approx(float(torch.maximum(result.share, result.initial).max()))


def test_a_wide_network_is_drawn_as_an_even_sample_and_says_so():
    width = 2 * DRAWN_NEURONS + 37
    model = HookedMLP(mm.MLPConfig(width=width), 7)
    result = NeuronSpectrum()(mm.planted_network(7).subject.with_model(model))
    trace = result.plot().data[0]
    assert trace.z.shape == (3, DRAWN_NEURONS)
    assert (trace.x[0], trace.x[-1]) == (0, width - 1) and set(np.diff(trace.x)) <= {2, 3}
    assert f"{DRAWN_NEURONS} of {width} neurons" in result.plot().layout.annotations[0].text
    assert np.all(np.diff(trace.z.argmax(0)) >= 0)
    counts = np.bincount(trace.z.argmax(0)) / DRAWN_NEURONS
    np.testing.assert_allclose(counts, np.bincount(result.key.numpy())[1:] / width, atol=0.005)


@pytest.mark.parametrize("subject", ["tiny_run", "planted"])
def test_frame_and_file_hold_the_same(subject, request, tmp_path):
    found = request.getfixturevalue(subject)
    result = NeuronSpectrum()(getattr(found, "subject", found))
    frame = result.to_frame()
    assert list(frame["key_frequency"]) == result.key.tolist()
    assert frame["initial_key_frequency"].isna().all() == (subject == "planted")
    result.save(tmp_path / "r.safetensors")
    loaded = NeuronSpectrumResult.load(tmp_path / "r.safetensors")
    assert torch.equal(loaded.share, result.share) and loaded.initial_note == result.initial_note
    assert (loaded.initial is None) == (result.initial is None)
    assert result.initial is None or torch.equal(loaded.initial, result.initial)


def test_a_network_without_roles_is_refused(planted):
    with pytest.raises(MissingNeedError, match="role:input_embedding, role:readout"):
        NeuronSpectrum()(dataclasses.replace(planted.subject, roles=mm.Roles()))
