"""Torch's own settings: gradients, inference mode, autocast and the default dtype, which a notebook may have changed.

Training is that of the config under all of them; what is differentiated works without gradients and in inference mode.
"""

import contextlib
import dataclasses

import pytest
import torch
from torch.nn import functional as F

import mechmem as mm
from mechmem.models.hooks.running import as_configured


@contextlib.contextmanager
def doubles():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def low():
    return torch.autocast("cpu", dtype=torch.bfloat16)


WITHOUT_GRADIENTS = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}
SETTINGS = {**WITHOUT_GRADIENTS, "autocast": low, "float64": doubles}


@pytest.fixture(scope="module")
def turning():
    """The config of a network with turn-over dropout on images."""
    task = mm.ImageConfig(data="digits", train=40, test=20, noise=mm.LabelNoise(0.2))
    model = mm.ImageMLPConfig((12,), biases=False, masks=mm.TurnOver())
    return mm.TrainConfig(task, model, steps=3, batch_size=20, optimizer="sgd", lr=0.02, checkpoints=1)


def bits(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, two):
    return one.keys() == two.keys() and all(
        torch.equal(value, two[name]) and value.dtype == two[name].dtype for name, value in one.items()
    )


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_config_is_trained_to_the_same_bits(setting, precision, tiny_config, tmp_path):
    config = dataclasses.replace(tiny_config, precision=precision)
    wanted = mm.train(config, progress=False)
    with SETTINGS[setting]():
        found = mm.train(config, out=tmp_path / "run", progress=False)
        opened = mm.load(tmp_path / "run")
        twins = [each.retrainer.twin("noise_only") for each in (found, wanted)]
        assert same(bits(found.model), bits(opened.model))
    assert same(bits(found.model), bits(wanted.model)) and same(*map(bits, twins))
    assert same(bits(mm.load(tmp_path / "run").model), bits(wanted.model))
    assert all(parameter.requires_grad for parameter in found.model.parameters())


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("how", ["loop", "stacked"])
def test_subset_networks_are_the_same(setting, how, tiny_config):
    def trained():
        return mm.train_subsets(tiny_config, networks=2, how=how, logits=True, progress=False)

    wanted = trained()
    with SETTINGS[setting]():
        found = trained()
    assert torch.equal(found.predictions, wanted.predictions)
    assert torch.equal(found.test_logits, wanted.test_logits) and found.test_logits.dtype == torch.float32


def test_the_caller_s_settings_are_as_before(tiny_config):
    with torch.inference_mode(), low(), doubles():
        for leave in (contextlib.nullcontext(), pytest.raises(ZeroDivisionError)):
            with leave, as_configured():
                state = torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"), torch.get_default_dtype()
                assert state == (False, False, torch.float32) and torch.is_grad_enabled()
                if not isinstance(leave, contextlib.nullcontext):
                    raise ZeroDivisionError
            assert torch.is_inference_mode_enabled() and torch.is_autocast_enabled("cpu")
            assert torch.get_default_dtype() is torch.float64 and not torch.is_grad_enabled()


def summed(logits, given):
    return F.cross_entropy(logits, given, reduction="sum")


DIFFERENTIATED = {
    "gradients": lambda run, image: mm.activations(run, gradients=summed).gradients["hook_hidden"],
    "scores": lambda run, image: mm.example_scores(image, ["input_curvature"]).to_frame(),
    "tracin": lambda run, image: mm.example_scores(image, ["tracin"]).to_frame(),
    "influence_functions": lambda run, image: mm.example_scores(
        image, ["grad_dot", "datainf", "ekfac_influence", "trak"]
    ).to_frame(),
    "flipping": lambda run, image: mm.neuron_scores(run, ["neuron_flipping"]).to_frame(),
    "gradient_accounting": lambda run, image: mm.analyse(run, "gradient_accounting").to_frame(),
    "norm_drive": lambda run, image: mm.analyse(run, "norm_drive").to_frame(),
    "layer_retraining": lambda run, image: mm.analyse(run, "layer_retraining(steps=2)").to_frame(),
    "clock_or_pizza": lambda run, image: mm.analyse(run, "clock_or_pizza").to_frame(),
    "influence": lambda run, image: mm.influence(image).values,
    "isolation": lambda run, image: mm.isolation(image.run.config),
}


@pytest.mark.parametrize("setting", WITHOUT_GRADIENTS)
@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_what_is_differentiated_needs_no_gradients_of_the_caller_s(name, setting, tiny_run, turning):
    image = mm.train(turning, progress=False)
    wanted = DIFFERENTIATED[name](tiny_run, image)
    with WITHOUT_GRADIENTS[setting]():
        found = DIFFERENTIATED[name](tiny_run, image)
    assert torch.equal(found, wanted) if isinstance(wanted, torch.Tensor) else str(found) == str(wanted)


def test_a_training_loop_of_the_user_s_trains_the_control(tiny_run, tiny_config):
    subject = mm.Subject(tiny_run.model, tiny_run.task, tiny_run.roles)

    def fit(task):
        model = mm.train(dataclasses.replace(tiny_config, steps=1), progress=False).model
        summed(model(task.batch(task.train_ids)[0]), task.given(task.train_ids)).backward()
        return model

    with torch.no_grad():
        card = mm.audit(subject, ["raw"], train=fit)
    assert card.rows[0].controls["noise_only"].estimate is not None
