"""Networks trained on subsets: against the trainer on a task of that subset, one by one, stacked and in processes."""

import dataclasses

import pytest
import torch

import mechmem as mm
from mechmem.errors import ConfigError, RunDirectoryError, TrainingFailedError, UnknownNameError
from mechmem.training import subset_trainer, subsets
from mechmem.training.loop import optimize
from mechmem.training.minibatches import TrainingSet
from mechmem.training.optimizers import Optimizers
from mechmem.training.recorder import Recorder
from mechmem.training.stacking import Stack
from mechmem.training.subset_trainer import Plan, SubsetTrainer
from mechmem.training.subsets import SubsetNetworks, train_subsets

PAIRS = mm.TrainConfig(
    task=mm.ModularConfig(p=5, train_fraction=0.8, noise=mm.LabelNoise(0.3)),
    model=mm.MLPConfig(width=12),
    steps=15,
    lr=0.02,
)
IMAGES = mm.TrainConfig(
    task=mm.ImageConfig(train=60, test=30, noise=mm.LabelNoise(0.2)),
    model=mm.ImageMLPConfig((9, 7)),
    optimizer="sgd",
    lr=0.05,
    weight_decay=0.01,
    batch_size=16,
    steps=15,
)
VIEWS = dataclasses.replace(
    IMAGES, task=dataclasses.replace(IMAGES.task, augmentation=mm.Augmentation(degrees=20, views=2))
)
CHANGING = dataclasses.replace(IMAGES, task=dataclasses.replace(IMAGES.task, augmentation=mm.Augmentation(degrees=20)))
STACKABLE = {
    "adamw": PAIRS,
    "adam": dataclasses.replace(PAIRS, optimizer="adam", batch_size=6),
    "mse": dataclasses.replace(PAIRS, loss="mse", optimizer="sgd", momentum=0.0),
    "biased": dataclasses.replace(PAIRS, model=mm.MLPConfig(width=6, bias=True, layers=2, activation="gelu")),
    "tied": dataclasses.replace(PAIRS, model=mm.MLPConfig(width=6, tied=True, activation="quadratic")),
    "transformer": dataclasses.replace(
        PAIRS, model=mm.TransformerConfig(d_model=8, heads=2, layer_norm=True, biases="all"), batch_size=6
    ),
    "images": IMAGES,
    "whole": dataclasses.replace(IMAGES, batch_size=0, optimizer="adam"),
    "views": VIEWS,
    "changing": CHANGING,
    "convolutions": dataclasses.replace(IMAGES, model=mm.CNNConfig((3, 4)), steps=4),
}


def quiet(config, **settings):
    return train_subsets(config, progress=False, logits=True, **{"networks": 4, **settings})


class Wide(SubsetTrainer):
    """The same in float64, so that what is left of a difference is not rounding."""

    def __init__(self, plan):
        super().__init__(plan)
        held = self._shown._held
        if held is not None and held.inputs.is_floating_point():
            self._shown._held = dataclasses.replace(held, inputs=held.inputs.double())

    def model(self, number):
        return super().model(number).double()

    def weights(self, number):
        """The parameters after training one network."""
        kept = []
        answers, self._answers = self._answers, lambda numbers, model_of: kept.append(model_of(0))
        self.one(number, lambda _: None)
        self._answers = answers
        return dict(kept[0].named_parameters())


@pytest.mark.parametrize("name", [name for name in STACKABLE if name != "changing"])
def test_a_stack_takes_the_steps_of_its_networks(name, monkeypatch):
    monkeypatch.setattr("mechmem.models.hooks.running.FEWEST_ROWS", 4)
    monkeypatch.setattr("mechmem.training.stacking.FEWEST_ROWS", 4)
    monkeypatch.setattr("mechmem.models.hooks.running.BLOCK_ELEMENTS", 1)
    trainer = Wide(Plan(STACKABLE[name], 0.7, 3, False, "cpu"))
    stacked = []

    def kept(numbers, model_of):
        for number in range(len(numbers)):
            stacked.append({key: each.detach().clone() for key, each in model_of(number).named_parameters()})

    monkeypatch.setattr(trainer, "_evaluated", trainer.model(0))
    monkeypatch.setattr(trainer, "_answers", kept)
    trainer.stack([1, 2, 5], lambda _: None)
    for number, found in zip([1, 2, 5], stacked, strict=True):
        expected = trainer.weights(number)
        assert found.keys() == expected.keys()
        start = dict(trainer.model(number).named_parameters())
        assert any((start[key] - each).abs().max() > 1e-3 for key, each in expected.items())
        for key, each in expected.items():
            # The loss is float32 either way.
            torch.testing.assert_close(found[key], each.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", STACKABLE)
def test_the_two_ways_answer_alike(name):
    one_by_one, stacked = (quiet(STACKABLE[name], how=how) for how in ("loop", "stacked"))
    assert (one_by_one.how, stacked.how) == ("loop", "stacked")
    assert torch.equal(one_by_one.member, stacked.member)
    torch.testing.assert_close(one_by_one.test_logits, stacked.test_logits, rtol=1e-3, atol=1e-3)
    again = quiet(STACKABLE[name], how="stacked")
    assert torch.equal(again.test_logits, stacked.test_logits)


@pytest.mark.parametrize("batch_size", [0, 5])
@pytest.mark.parametrize("model", [mm.MLPConfig(width=12), mm.MLPConfig(width=12, dropout=0.3, batch_norm=True)])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_network_is_what_the_trainer_makes_of_its_subset(batch_size, model, optimizer, tmp_path):
    """The trainer itself, on a task whose training set is the subset."""
    config = dataclasses.replace(PAIRS, batch_size=batch_size, model=model, optimizer=optimizer)
    trainer = SubsetTrainer(Plan(config, 0.7, 0, True, "cpu"))
    task, number = trainer.task, 2
    train = torch.zeros(25, dtype=torch.bool)
    train[task.train_ids[trainer.places(number)]] = True
    inputs, given = task.batch(task.ids)
    alone = mm.ArrayTask(inputs, given, task.true(task.ids), train, n_classes=5)
    own = dataclasses.replace(config, seed=trainer.network_seed(number))
    network = trainer.model(number)
    recorder = Recorder(network, alone, steps=15, out=tmp_path / "run", roles=network.roles, evaluations=1)
    optimizers = Optimizers(own, network, network.roles)
    optimize(own, network, alone, optimizers, recorder, first=None, progress=False, title="")
    with torch.no_grad():
        expected = network(inputs)
    found = quiet(config, how="loop", networks=3)
    assert torch.equal(found.test_logits[number], expected[task.test_ids])
    assert torch.equal(found.predictions[number].long(), expected.argmax(1))


def test_subsets_have_one_size_and_differ():
    found = quiet(PAIRS, networks=40, fraction=0.6, steps=1)
    assert found.member.shape == (40, 20) and (found.member.sum(1) == 12).all()
    assert len(found.member.unique(dim=0)) == 40
    counts = found.member.sum(0)
    assert counts.min() > 12 and counts.max() < 36
    assert torch.equal(quiet(PAIRS, networks=7, fraction=0.6, steps=1).member, found.member[:7])
    assert not torch.equal(quiet(PAIRS, networks=7, fraction=0.6, steps=1, seed=1).member, found.member[:7])


def test_all_views_of_a_member_are_trained_on_and_no_others():
    trainer = SubsetTrainer(Plan(VIEWS, 0.5, 0, False, "cpu"))
    trained = trainer.task.train_ids[trainer.places(1)]
    assert len(trained) == 60
    sources, counts = trainer.task.source(trained).unique(return_counts=True)
    assert (counts == 2).all() and torch.equal(sources, trainer.task.sources[trainer.member(1)].sort().values)


@pytest.mark.parametrize("config", [CHANGING, VIEWS, IMAGES, PAIRS])
def test_steps_see_what_the_task_shows_at_them(config):
    task, places = SubsetTrainer(Plan(config, 0.7, 0, False, "cpu")).task, torch.tensor([4, 0, 11])
    shown = TrainingSet(task, torch.device("cpu"))
    for step in (0, 3):
        found, (inputs, given) = shown.at(places, step), task.batch(task.train_ids[places], step)
        assert torch.equal(found.inputs, inputs) and torch.equal(found.given, given)
        assert torch.equal(found.ids, task.source(task.train_ids[places]))
    assert shown.changes == (not torch.equal(shown.at(places, 0).inputs, shown.at(places, 3).inputs))
    assert shown.changes == (config is CHANGING)


def test_networks_do_not_depend_on_how_many_there_are_but_on_seeds():
    few, many = quiet(PAIRS, networks=2, how="loop"), quiet(PAIRS, networks=4, how="loop")
    assert torch.equal(few.test_logits, many.test_logits[:2])
    assert not torch.equal(many.test_logits[0], many.test_logits[1])
    for other in (dataclasses.replace(PAIRS, seed=1), PAIRS):
        changed = quiet(other, networks=2, how="loop", seed=int(other is PAIRS))
        assert (changed.test_logits - few.test_logits).abs().min() > 0


@pytest.mark.slow
def test_two_processes_train_the_same_networks():
    trained = quiet(PAIRS, workers=2, networks=2)
    assert trained.how == "loop" and torch.equal(quiet(PAIRS, how="loop", networks=2).test_logits, trained.test_logits)


REFUSED = {
    "muon": {"optimizer": "muon"},
    "bfloat16": {"precision": "bf16"},
    "BatchNorm": {"model": mm.MLPConfig(width=8, batch_norm=True)},
    "clipped": {"clip_norm": 1.0},
    "dropout": {"model": mm.MLPConfig(width=8, dropout=0.2)},
    "example masks": {"model": mm.MLPConfig(width=8, masks=mm.TurnOver())},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_stacked_is_trained_one_by_one(reason):
    config = dataclasses.replace(PAIRS, steps=2, **REFUSED[reason])
    with pytest.raises(ConfigError, match=reason):
        quiet(config, how="stacked")
    assert quiet(config, networks=2).how == "loop"
    with pytest.raises(ConfigError, match=reason):
        Stack(config, [SubsetTrainer(Plan(config, 0.7, 0, False, "cpu")).model(0)])


def test_the_way_is_chosen_by_the_size_of_a_step():
    assert quiet(PAIRS, steps=1).how == quiet(IMAGES, steps=1).how == "stacked"
    assert quiet(STACKABLE["convolutions"], steps=1).how == "loop"
    wide = dataclasses.replace(IMAGES, batch_size=0, model=mm.ImageMLPConfig((1200,)))
    assert quiet(wide, steps=1).how == ("stacked" if 42 * 1200 * 74 <= subset_trainer.FEW_PRODUCTS else "loop")
    wider = dataclasses.replace(wide, model=mm.ImageMLPConfig((1400,)))
    assert 42 * 1400 * 74 > subset_trainer.FEW_PRODUCTS and quiet(wider, steps=1).how == "loop"


@pytest.mark.slow
@pytest.mark.parametrize("how, units", [("loop", 5), ("stacked", 3)])
def test_an_interrupt_loses_what_was_being_trained(how, units, tmp_path, monkeypatch):
    monkeypatch.setattr(subset_trainer, "MOST_STACKED", 2)
    whole = quiet(PAIRS, how=how, networks=5)
    call = "one" if how == "loop" else "stack"
    original, calls = getattr(SubsetTrainer, call), []

    def cut(self, *arguments):
        calls.append(arguments)
        if len(calls) == units:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(SubsetTrainer, call, cut)
    with pytest.raises(KeyboardInterrupt):
        quiet(PAIRS, how=how, networks=5, out=tmp_path)
    resumed = quiet(PAIRS, how=how, networks=5, out=tmp_path)
    assert len(calls) == units + 1
    assert torch.equal(resumed.test_logits, whole.test_logits) and torch.equal(resumed.member, whole.member)
    assert torch.equal(quiet(PAIRS, how=how, networks=5, out=tmp_path).predictions, whole.predictions)
    assert len(calls) == units + 1
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.glob("*.safetensors"))) == units
    monkeypatch.setattr(SubsetTrainer, call, original)
    quiet(dataclasses.replace(PAIRS, lr=0.03), how=how, networks=5, out=tmp_path)
    quiet(PAIRS, how=how, networks=5, out=tmp_path, fraction=0.6)
    assert len(list(tmp_path.iterdir())) == 3


def test_more_networks_are_added_to_those_that_there_are(tmp_path, monkeypatch):
    quiet(PAIRS, how="loop", networks=2, out=tmp_path)
    original, numbers = SubsetTrainer.one, []
    monkeypatch.setattr(SubsetTrainer, "one", lambda *given: (numbers.append(given[1]), original(*given))[1])
    quiet(dataclasses.replace(PAIRS, checkpoints=3, stop_when="test >= 0.9"), how="loop", networks=4, out=tmp_path)
    assert numbers == [2, 3]


def test_results_are_not_written_into_a_run(tiny_run):
    with pytest.raises(RunDirectoryError, match="is a run"):
        quiet(PAIRS, networks=2, out=tiny_run.run.path)
    with pytest.raises(RunDirectoryError, match="is a run"):
        mm.real_and_random(PAIRS, out=tiny_run.run.path)


def test_a_damaged_file_is_refused(tmp_path):
    quiet(PAIRS, how="loop", networks=2, out=tmp_path)
    path = next(tmp_path.glob("*/networks_1*"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RunDirectoryError, match="cannot read"):
        quiet(PAIRS, how="loop", networks=2, out=tmp_path)
    path.write_bytes(next(tmp_path.glob("*/networks_0*")).read_bytes())
    mm_subsets = subsets.storage.read_tensors(path)
    subsets.storage.write_tensors(path, {"member": mm_subsets["member"]})
    with pytest.raises(RunDirectoryError, match="damaged"):
        quiet(PAIRS, how="loop", networks=2, out=tmp_path)


@pytest.mark.parametrize("how", ["loop", "stacked"])
def test_a_loss_that_is_no_number_names_its_network(how):
    with pytest.raises(TrainingFailedError, match="subset network 0 is (nan|inf)"):
        quiet(dataclasses.replace(PAIRS, optimizer="sgd", lr=1e30, momentum=0.0), how=how)


def test_what_makes_no_sense_is_refused():
    for settings in ({"networks": 0}, {"fraction": 0.0}, {"fraction": 1.0}, {"fraction": 0.01}, {"steps": 0}):
        with pytest.raises(ConfigError):
            quiet(PAIRS, **settings)
    with pytest.raises(ConfigError, match="several processes"):
        quiet(PAIRS, how="stacked", workers=2)
    with pytest.raises(UnknownNameError, match="stacked"):
        quiet(PAIRS, how="stack")
    with pytest.raises(ConfigError, match="a subset"):
        quiet(dataclasses.replace(PAIRS, batch_size=13, model=mm.MLPConfig(width=8, batch_norm=True)))
    with pytest.raises(ConfigError, match="TrainConfig"):
        quiet(PAIRS.task)


def test_answers_by_id_and_saving(tmp_path):
    found = quiet(PAIRS)
    ids = found.ids[[7, 3, 3, 20]]
    assert torch.equal(found.right(ids), (found.predictions == found.given)[:, [7, 3, 3, 20]])
    with pytest.raises(UnknownNameError, match="99"):
        found.right([3, 99])
    with pytest.raises(ConfigError, match="ids must be"):
        found.right([])
    assert len(found) == 4 and found.influence().values.shape == (20, 5)
    torch.testing.assert_close(found.influence(found.sources).values.diagonal(), found.memorization().values)
    found.save(tmp_path / "networks.safetensors")
    loaded = SubsetNetworks.load(tmp_path / "networks.safetensors")
    assert torch.equal(loaded.predictions, found.predictions) and loaded.how == found.how


def test_progress_says_how_far_it_is(capsys):
    train_subsets(PAIRS, networks=2, how="loop")
    shown = capsys.readouterr()
    assert "subset networks: step 30/30" in shown.err and not shown.out
