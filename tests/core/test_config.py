import dataclasses
import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechmem.core.config import Config, check_fraction, check_number, check_whole
from mechmem.errors import ConfigError, UnknownNameError
from mechmem.models.networks.config import MLPConfig
from mechmem.tasks.config import SPLITS, GroupConfig, LabelNoise, ModularConfig, is_prime
from mechmem.training.config import TrainConfig, log_schedule
from mechmem.training.stopping import Threshold, stop_condition

unit = st.floats(0, 1, allow_nan=False)
noises = st.builds(LabelNoise, unit, st.sampled_from(["wrong", "any", "symmetric"]))
tasks = st.builds(
    ModularConfig,
    op=st.sampled_from(["add", "multiply"]),
    p=st.integers(2, 200),
    train_fraction=st.floats(0.3, 0.7),
    split=st.sampled_from(["random", "stratified", "answers"]),
    noise=noises,
    seed=st.integers(0, 2**40),
)
configs = st.builds(
    TrainConfig,
    task=tasks,
    model=st.builds(MLPConfig, width=st.integers(1, 16384), bias=st.booleans(), tied=st.booleans()),
    lr=st.floats(1e-8, 10),
    betas=st.tuples(st.floats(0, 0.9999), st.floats(0, 0.9999)),
    stop_when=st.sampled_from(["", "settled", "test >= 0.99", "train_noisy<=1e-2"]),
)


@given(configs)
def test_survives_json(config):
    text = json.dumps(config.to_dict())
    again = TrainConfig.from_dict(json.loads(text))
    assert again == config
    assert again.digest == config.digest
    assert Config.from_dict(json.loads(text)) == config


@given(configs, configs)
def test_digests_are_equal_only_where_configs_are(one, other):
    assert (one.digest == other.digest) == (one == other)


def test_every_field_enters_the_digest():
    base = TrainConfig()
    changes = {
        "task": ModularConfig(seed=1),
        "model": MLPConfig(bias=True),
        "loss": "mse",
        "optimizer": "sgd",
        "precision": "bf16",
        "betas": (0.9, 0.98),
        "stop_when": "test >= 0.5",
        "weight_decay": 0.2,
        "momentum": 0.5,
        "lr": 0.5,
        "left_out": (3,),
    }
    for field in dataclasses.fields(base):
        value = changes.get(field.name)
        changed = dataclasses.replace(base, **{field.name: getattr(base, field.name) + 1 if value is None else value})
        assert changed.digest != base.digest, field.name


@pytest.mark.parametrize(
    "config, spellings, digest",
    [
        (ModularConfig(op="subtract"), ("sub",), "1645108231956da9"),
        (ModularConfig(op="multiply"), ("mul",), "647a775a8eda6574"),
        (GroupConfig(op="compose"), ("add",), "38f4e537e2e5a8af"),
        (GroupConfig(op="divide"), ("subtract", "sub"), "79ec01c38bfe44be"),
    ],
)
def test_every_spelling_of_an_operation_is_the_same_config(config, spellings, digest):
    """Runs of earlier versions hold these digests."""
    assert config.digest == digest
    for spelling in spellings:
        assert dataclasses.replace(config, op=spelling) == config
        assert Config.from_dict({**config.to_dict(), "op": spelling}).digest == digest


def test_digest_is_the_same_in_another_process_and_needs_no_torch():
    code = (
        "import sys; from mechmem.training.config import TrainConfig; print(TrainConfig().digest);"
        "assert not {'torch', 'numpy', 'sympy', 'transformer_lens'} & set(sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == TrainConfig().digest


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: ModularConfig(p=1), "p must be a whole number of at least 2, got 1"),
        (lambda: ModularConfig(p=5.0), "whole number"),
        (lambda: ModularConfig(p=True), "whole number"),
        (lambda: ModularConfig(train_fraction=math.nan), r"must lie in \[0, 1\], got nan"),
        (lambda: ModularConfig(train_fraction=1.01), r"must lie in \[0, 1\]"),
        (lambda: ModularConfig(train_fraction=-0.1), r"must lie in \[0, 1\]"),
        (lambda: ModularConfig(train_fraction=0.0), "empty training set"),
        (lambda: ModularConfig(train_fraction=1.0), "empty test set"),
        (lambda: ModularConfig(p=2, train_fraction=0.1), "empty training set"),
        (lambda: ModularConfig(p=5, train_fraction=0.95, split="answers"), "empty test set"),
        (lambda: ModularConfig(p=2000), "at most 1024 .*got 2000"),
        (lambda: ModularConfig(noise=0.3), "noise must be a LabelNoise, got 0.3"),
        (lambda: TrainConfig(task="add"), "task must be a TaskConfig, got 'add'"),
        (lambda: TrainConfig(betas=(0.9,)), "betas must be a tuple of 2 numbers"),
        (lambda: ModularConfig(p=9, noise=LabelNoise(0.1, "bijective")), "odd prime p .*got 9"),
        (lambda: ModularConfig(p=2, train_fraction=0.5, noise=LabelNoise(0.1, "bijective")), "odd prime"),
        (lambda: ModularConfig(seed=-1), "seed"),
        (lambda: LabelNoise(math.nan), "label noise must lie"),
        (lambda: LabelNoise(-0.1), "label noise must lie"),
        (lambda: LabelNoise(2.0), "label noise must lie"),
        (lambda: MLPConfig(width=0), "width must be a whole number of at least 1"),
        (lambda: MLPConfig(width=16385), "at most 16384"),
        (lambda: TrainConfig(lr=0.0), "learning rate must be finite and greater than 0"),
        (lambda: TrainConfig(lr=math.inf), "learning rate"),
        (lambda: TrainConfig(lr=math.nan), "learning rate"),
        (lambda: TrainConfig(weight_decay=-1.0), "weight decay must be finite and at least 0"),
        (lambda: TrainConfig(betas=(0.9, 1.0)), "betas must be below 1"),
        (lambda: TrainConfig(momentum=1.0), "momentum must be below 1"),
        (lambda: TrainConfig(steps=0), "steps"),
        (lambda: TrainConfig(batch_size=-1), "batch size"),
        (lambda: TrainConfig(evaluations=0), "evaluations"),
        (lambda: TrainConfig(checkpoints=0), "checkpoints"),
        (lambda: TrainConfig(stop_when="tset >= 1"), "stop_when must be .*like"),
        (lambda: TrainConfig(stop_when="test > 1"), "stop_when must be .*like"),
    ],
)
def test_bad_settings_are_refused_with_what_is_allowed(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: ModularConfig(op="substract"), "no operation 'substract'. Did you mean 'subtract'"),
        (lambda: ModularConfig(op="compose"), "One of: add, multiply, subtract"),
        (lambda: GroupConfig(op="mul"), "One of: compose, divide"),
        (lambda: ModularConfig(split="stratify"), "Did you mean 'stratified'"),
        (lambda: LabelNoise(0.1, "symetric"), "Did you mean 'symmetric'"),
        (lambda: MLPConfig(activation="rellu"), "Did you mean 'relu'"),
        (lambda: MLPConfig(init="doshi"), "Did you mean 'doshi_2024'"),
        (lambda: TrainConfig(loss="cross-entropy"), "Did you mean 'cross_entropy'"),
        (lambda: TrainConfig(optimizer="adamW"), "Did you mean 'adamw'"),
        (lambda: TrainConfig(precision="fp16"), "Did you mean 'bf16'|Did you mean 'fp32'"),
        (lambda: Config.from_dict({"kind": "modula"}), "no config kind 'modula'. Did you mean 'modular'"),
        (lambda: Config.from_dict({"kind": "modular", "q": 5}), "no modular setting 'q'"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(build, message):
    with pytest.raises(UnknownNameError, match=message):
        build()


def test_a_dict_that_is_no_config_is_refused():
    for values in ({}, {"p": 5}, [1]):
        with pytest.raises(ConfigError, match="mapping with a 'kind'"):
            Config.from_dict(values)
    with pytest.raises(ConfigError, match="expected a ModularConfig, found kind 'mlp'"):
        ModularConfig.from_dict(MLPConfig().to_dict())


def test_a_kind_can_be_taken_once():
    with pytest.raises(ConfigError, match="'modular' is taken by ModularConfig"):

        class Impostor(Config):
            kind = "modular"


def test_checks_accept_their_edges():
    check_fraction("x", 0)
    check_fraction("x", 1)
    check_number("x", 0, least=0)
    check_whole("x", 3, 3)
    with pytest.raises(ConfigError):
        check_number("x", 0, above=0)


def test_is_prime_against_the_sieve():
    sieve = [n for n in range(2, 400) if all(n % d for d in range(2, n))]
    assert [n for n in range(-2, 400) if is_prime(n)] == sieve


@given(st.integers(1, 5000), st.integers(1, 100))
def test_log_schedule(steps, count):
    schedule = log_schedule(steps, count)
    assert schedule == sorted(set(schedule))
    assert schedule[0] == 0 and schedule[-1] == steps
    assert len(schedule) <= count + 1
    if count > 1:
        assert schedule[1] == 1


def test_log_schedule_is_log_spaced():
    assert log_schedule(1000, 4) == [0, 1, 10, 100, 1000]
    assert log_schedule(7, 1) == [0, 7]


@pytest.mark.parametrize("split", SPLITS)
def test_stop_condition_is_read(split):
    assert stop_condition(f" {split}<=1e-3 ") == Threshold(split, "<=", 1e-3)


def test_stop_condition_with_a_number_that_is_none_is_refused():
    with pytest.raises(ConfigError):
        TrainConfig(stop_when="test >= 1.2.3")
