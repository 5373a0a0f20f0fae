import copy
import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError
from mechmem.models.networks.build import build_model
from mechmem.models.networks.subnetworks import mask_layers, of_examples
from mechmem.tasks.build import build_task
from mechmem.training import loop

PAIRS = mm.ModularConfig(p=7, noise=mm.LabelNoise(0.3))
PICTURES = mm.ImageConfig(data="digits", train=60, test=30)
NETWORKS = {
    "mlp": (PAIRS, mm.MLPConfig(width=24, layers=2)),
    "transformer": (PAIRS, mm.TransformerConfig(d_model=16, heads=2, layers=2, layer_norm=True)),
    "image mlp": (PICTURES, mm.ImageMLPConfig((40, 32, 40), biases=False)),
    "cnn": (PICTURES, mm.CNNConfig((6, 8), projector=10)),
    "resnet": (PICTURES, mm.ResNetConfig(4, (1, 1))),
}


def built(name, masks):
    config, model = NETWORKS[name]
    task = build_task(config)
    return build_model(dataclasses.replace(model, masks=masks), task, 0), task


def test_turn_over_is_dropout_by_the_mask_of_the_example():
    layer = mm.TurnOverDropout(50, keep=0.3)
    values, ids = torch.randn(4, 50), torch.tensor([3, 9, 3, 2**40])
    mask = layer.mask(ids, 0.3).float()
    with mm.subnetwork(layer, "own", ids):
        torch.testing.assert_close(layer(values), values * mask / 0.3)
    with mm.subnetwork(layer, "flipped", ids):
        torch.testing.assert_close(layer(values), values * (1 - mask) / 0.7)
    with mm.subnetwork(layer, "full"):
        assert torch.equal(layer(values), values)
    assert torch.equal(mask[0], mask[2]) and not torch.equal(mask[0], mask[1])


def test_example_tied_dropout_shares_the_first_units():
    layer = mm.ExampleTiedDropout(50, shared=0.2, memory=0.1)
    values, ids = torch.randn(4, 50), torch.arange(4)
    with mm.subnetwork(layer, "own", ids):
        found = layer(values)
    assert torch.equal(found[:, :10], values[:, :10])
    assert torch.equal(found[:, 10:], values[:, 10:] * layer.mask(ids, 0.1)[:, 10:])
    torch.testing.assert_close(layer.eval()(values), torch.cat([values[:, :10], values[:, 10:] * 0.1], 1))
    with mm.subnetwork(layer, "shared"):
        torch.testing.assert_close(layer(values), torch.cat([values[:, :10] * 1.5, torch.zeros(4, 40)], 1))


@pytest.mark.parametrize(
    "units, shared, first", [(50, 0.2, 10), (24, 0.2, 4), (13, 0.3, 3), (100, 0.29, 28), (3, 0.2, 1)]
)
def test_a_share_of_the_units_is_rounded_down_to_whole_ones(units, shared, first):
    layer = mm.ExampleTiedDropout(units, shared=shared, memory=0.1)
    with mm.subnetwork(layer, "shared"):
        assert (layer(torch.ones(1, units)) > 0).sum() == first


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("masks", [mm.TurnOver(keep=0.4), mm.ExampleTied()], ids=["turn over", "example tied"])
def test_an_example_runs_alike_in_every_batch(name, masks):
    model, task = built(name, masks)
    ids = task.train_ids[:9]
    inputs = task.batch(ids)[0]
    with mm.subnetwork(model, "own", ids):
        whole = model(inputs)
    order = torch.tensor([4, 0, 8, 2])
    with mm.subnetwork(model, "own", ids[order]):
        torch.testing.assert_close(model(inputs[order]), whole[order])
    with mm.subnetwork(model, "own", int(ids[3])):
        torch.testing.assert_close(model(inputs[3:4]), whole[3:4])
        assert not torch.allclose(model(inputs), whole)
    assert not torch.allclose(model(inputs), whole)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_full_network_is_the_one_without_masks(name):
    config, plain = NETWORKS[name]
    masked, task = built(name, mm.TurnOver())
    inputs = task.batch(task.train_ids)[0]
    assert torch.equal(masked(inputs), build_model(plain, task, 0)(inputs))


def test_units_that_are_masked_hold_zero_in_channels_and_positions():
    model, task = built("cnn", mm.TurnOver())
    ids = task.train_ids[:5]
    with mm.subnetwork(model, "own", ids), of_examples(mask_layers(model), ids):
        held = model.run_with_cache(task.batch(ids)[0])[1]["layers.0.hook_hidden"]
    gone = ~mask_layers(model)[0].mask(ids, 0.5)
    assert (held[gone] == 0).all() and (held[~gone].flatten(1).amax(1) > 0).float().mean() > 0.5
    model, task = built("transformer", mm.TurnOver())
    ids = task.train_ids[:5]
    with mm.subnetwork(model, "own", ids):
        cache = model.run_with_cache(task.batch(ids)[0])[1]
    gone = ~model.mask.mask(ids, 0.5)
    for point in ("blocks.0.hook_resid_pre", "blocks.1.hook_attn_out", "blocks.1.hook_resid_post"):
        assert (cache[point].transpose(1, 2)[gone] == 0).all()


def test_layers_are_chosen_by_number():
    model, _ = built("image mlp", mm.TurnOver(layers=(0, -1)))
    assert [isinstance(layer.mask, mm.TurnOverDropout) for layer in model.layers] == [True, False, True]
    model, _ = built("transformer", mm.TurnOver(layers=(1,), stream=False))
    assert len(mask_layers(model)) == 1
    for layers in ((3,), (-4,), (0, -3)):
        with pytest.raises(ConfigError, match="masked layers"):
            built("image mlp", mm.TurnOver(layers=layers))


@pytest.mark.parametrize("batch", [0, 16])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(batch, tmp_path, monkeypatch):
    config = mm.TrainConfig(
        task=PAIRS, model=mm.MLPConfig(width=24, masks=mm.TurnOver(keep=0.6)), steps=30, batch_size=batch, checkpoints=4
    )
    whole = mm.train(config, progress=False)
    step = loop.training_step

    def interrupted(model, optimizers, *rest):
        if optimizers.updates == 17:
            raise KeyboardInterrupt
        return step(model, optimizers, *rest)

    monkeypatch.setattr(loop, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mm.train(config, out=tmp_path / "run", progress=False)
    monkeypatch.undo()
    resumed = mm.train(config, out=tmp_path / "run", progress=False)
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert all(layer.ids is None and layer.part is None for layer in mask_layers(resumed.model))


def test_other_mask_seeds_and_layers_have_other_masks():
    seeds = [
        mm.TurnOverDropout(200, layer=layer, seed=seed).mask(torch.arange(3), 0.5)
        for layer in (0, 1)
        for seed in (0, 1)
    ]
    assert len({tuple(each.flatten().tolist()) for each in seeds}) == 4


def test_mechmem_tells_the_layers_which_examples_it_runs():
    model, task = built("mlp", mm.TurnOver())
    subject = mm.Subject(model, task, model.roles)
    ids = task.train_ids
    with mm.subnetwork(subject, "flipped", ids):
        expected = model(task.batch(ids)[0])
    with mm.subnetwork(subject, "flipped"):
        found = mm.activations(subject, "hook_logits")["hook_logits"]
        torch.testing.assert_close(mm.extractor("raw")(subject)(ids), expected)
    torch.testing.assert_close(found, expected)
    # What was kept of the flipped network is not handed out as the full one's.
    torch.testing.assert_close(mm.extractor("raw")(subject)(ids), model(task.batch(ids)[0]))
    torch.testing.assert_close(mm.extractor("flip_masks")(subject)(ids), expected)


def test_one_example_that_is_chosen_stands_for_all_that_mechmem_runs():
    model, task = built("mlp", mm.TurnOver())
    subject, ids = mm.Subject(model, task, model.roles), task.test_ids
    inputs = task.batch(ids)[0]
    for example in (5, 6):
        with mm.subnetwork(subject, "flipped", example):
            expected = model(inputs)
            # Also what is kept of a network is that of this example.
            torch.testing.assert_close(mm.extractor("raw")(subject)(ids), expected)
            torch.testing.assert_close(mm.activations(subject, "hook_logits", ids=ids)["hook_logits"], expected)
    torch.testing.assert_close(mm.extractor("raw")(subject)(ids), model(inputs))


def test_a_part_of_a_users_own_module_is_no_subnetwork():
    model = torch.nn.Linear(4, 3)
    model.part = torch.ones(2)
    inputs, labels = torch.randn(9, 4), torch.arange(9) % 3
    subject = mm.Subject(model, mm.ArrayTask(inputs, labels, labels, torch.arange(9) < 6))
    for _ in range(2):
        torch.testing.assert_close(mm.extractor("raw")(subject)(subject.task.ids), model(inputs).detach())


def test_flipped_answers_average_unused_masks_on_test_examples():
    model, task = built("mlp", mm.TurnOver())
    subject = mm.Subject(model, task, model.roles)
    ids = torch.cat([task.test_ids[:4], task.train_ids[:3]])
    found = mm.extractor("flipped(samples=3)")(subject)(ids).exp()
    unused = int(task.ids.max()) + 1
    inputs, total = task.batch(ids)[0], 0
    for sample in range(3):
        with mm.subnetwork(model, "flipped", unused + sample):
            total = total + model(inputs).double().softmax(1) / 3
    torch.testing.assert_close(found[:4], total[:4])
    with mm.subnetwork(model, "flipped", ids):
        torch.testing.assert_close(found[4:], model(inputs).double().softmax(1)[4:])


def test_memory_units_are_dropped_by_a_surgery():
    model, task = built("cnn", mm.ExampleTied())
    subject = mm.Subject(model, task, model.roles)
    with mm.subnetwork(subject, "shared"):
        expected = model(task.batch(task.test_ids)[0])
    found = mm.extractor("drop_memory")(subject)(task.test_ids)
    torch.testing.assert_close(found, expected)
    with pytest.raises(MissingNeedError, match="turn_over"):
        mm.extractor("flipped")(subject)


def test_a_network_is_as_it_was_after_a_with_that_fails():
    model, task = built("mlp", mm.TurnOver())
    before = copy.deepcopy([layer.part for layer in mask_layers(model)])
    with pytest.raises(RuntimeError), mm.subnetwork(model, "own", task.train_ids):
        raise RuntimeError
    assert [layer.part for layer in mask_layers(model)] == before
    assert all(layer.ids is None for layer in mask_layers(model))


@pytest.mark.usefixtures("unchecked_shapes")
def test_what_cannot_be_masked_is_one_clear_error():
    model, task = built("mlp", mm.TurnOver())
    inputs = task.batch(task.train_ids[:4])[0]
    with pytest.raises(MissingNeedError, match="need the ids of the examples"):
        model.train()(inputs)
    model.eval()
    with mm.subnetwork(model, "own"), pytest.raises(MissingNeedError, match="need the ids of the examples"):
        model(inputs)
    with mm.subnetwork(model, "own", [0, 1]), pytest.raises(ConfigError, match="2 example ids"):
        model(inputs)
    for ids in ([-1, 2], [0.5], [True], torch.zeros(2, 2, dtype=torch.long), "one"):
        with pytest.raises(ConfigError, match="example ids"), mm.subnetwork(model, "own", ids):
            pass
    subject = mm.Subject(model, task, model.roles)
    with pytest.raises(UnknownNameError, match="no example id 999"), mm.subnetwork(subject, "own", [0, 999]):
        pass
    with pytest.raises(UnknownNameError, match="did you mean|Did you mean"), mm.subnetwork(model, "fliped"):
        pass
    with pytest.raises(UnknownNameError), mm.subnetwork(model, "shared"):
        pass
    with (
        pytest.raises(MissingNeedError, match="no layer with example masks"),
        mm.subnetwork(torch.nn.Linear(2, 2), "own"),
    ):
        pass
    with pytest.raises(ConfigError, match="50 units"):
        mm.TurnOverDropout(50)(torch.zeros(3, 49))


@given(st.one_of(st.just(0.0), st.just(1.0), st.just(float("nan")), st.floats(1.0, 9), st.floats(-9, 0)))
@settings(max_examples=20, deadline=None)
def test_probabilities_outside_0_and_1_are_refused(keep):
    for make in (
        lambda: mm.TurnOver(keep=keep),
        lambda: mm.TurnOverDropout(4, keep),
        lambda: mm.ExampleTied(shared=keep),
        lambda: mm.ExampleTied(memory=keep),
        lambda: mm.ExampleTiedDropout(4, shared=keep),
        lambda: mm.ExampleTiedDropout(4, memory=keep),
    ):
        with pytest.raises(ConfigError, match="must lie"):
            make()


def test_configs_without_masks_keep_their_digests():
    # Digests of configs from before there were masks: runs of theirs must still open.
    assert mm.TrainConfig().digest == "fd7528550b029b1d"
    images = mm.TrainConfig(model=mm.ImageMLPConfig(), task=mm.ImageConfig())
    assert images.digest == "d30c3060f4af40a8"
    masked = mm.TrainConfig(model=mm.MLPConfig(masks=mm.TurnOver(layers=(0,))), clip_norm=0.0)
    assert mm.TrainConfig.from_dict(masked.to_dict()) == masked
    with pytest.raises(ConfigError, match="couples"):
        dataclasses.replace(masked, clip_norm=1.0)
