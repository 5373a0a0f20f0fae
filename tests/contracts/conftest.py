"""Small trained networks, between them with everything that a plugin may need."""

import pytest
import torch

import mechmem as mm

OTHER_SUBJECTS = {
    "role:residual": "streamed",
    "augmentation": "augmented",
    "turn_over": "turned_over",
    "example_tied": "tied",
    "observations": "observed",
    "linear_layers": "layered",
}
"""What a plugin may need that the first network lacks, and which has it."""


@pytest.fixture(scope="session")
def subject():
    """A trained network with a run and a retrainer, so that no plugin can refuse it."""
    config = mm.TrainConfig(
        task=mm.ModularConfig(p=7, train_fraction=0.6, noise=mm.LabelNoise(0.3), split="stratified"),
        model=mm.MLPConfig(width=24, bias=True),
        steps=60,
        lr=0.01,
        evaluations=6,
        checkpoints=2,
    )
    return mm.train(config, progress=False)


@pytest.fixture(scope="session")
def streamed():
    """The same with a residual stream, for what reads one."""
    config = mm.TrainConfig(
        task=mm.ModularConfig(p=7, train_fraction=0.6, noise=mm.LabelNoise(0.3)),
        model=mm.TransformerConfig(d_model=8, heads=2),
        steps=20,
        lr=0.01,
        evaluations=3,
        checkpoints=2,
    )
    return mm.train(config, progress=False)


@pytest.fixture(scope="session")
def augmented():
    """A network trained on augmented images, for what reads views of them."""
    config = mm.TrainConfig(
        task=mm.ImageConfig(train=40, test=30, noise=mm.LabelNoise(0.3), augmentation=mm.Augmentation(degrees=20)),
        model=mm.CNNConfig((3, 4), projector=5),
        steps=3,
        batch_size=20,
        checkpoints=1,
    )
    return mm.train(config, progress=False)


@pytest.fixture(scope="session")
def layered():
    """A network of linear layers as PyTorch has them, for what has factors of these alone."""
    config = mm.TrainConfig(
        task=mm.ImageConfig(train=40, test=30, noise=mm.LabelNoise(0.3)),
        model=mm.ImageMLPConfig((6, 5)),
        steps=3,
        batch_size=20,
        checkpoints=1,
    )
    return mm.train(config, progress=False)


def masked(masks):
    config = mm.TrainConfig(
        task=mm.ModularConfig(p=7, train_fraction=0.6, noise=mm.LabelNoise(0.3)),
        model=mm.MLPConfig(width=24, masks=masks),
        steps=60,
        lr=0.01,
        evaluations=6,
        checkpoints=2,
    )
    return mm.train(config, progress=False)


@pytest.fixture(scope="session")
def turned_over():
    """A network with turn-over dropout."""
    return masked(mm.TurnOver())


@pytest.fixture(scope="session")
def tied():
    """A network with example-tied dropout."""
    return masked(mm.ExampleTied())


@pytest.fixture(scope="session")
def observed(subject):
    """A network whose training passes were observed."""
    model, task = subject.copy_model(), subject.task
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = mm.Recorder(model, task, steps=3, roles=subject.roles, evaluations=2, checkpoints=2)
    recorder(0)
    inputs, given = task.batch(task.train_ids)
    for step in (1, 2, 3):
        logits = model(inputs)
        recorder.observe(task.train_ids, logits, given)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, given).backward()
        optimizer.step()
        recorder.end_epoch(step)
        recorder(step)
    return mm.Subject(model.eval(), task, subject.roles, run=recorder.run(), name="observed")


@pytest.fixture(scope="session")
def pictured():
    """A network with turn-over dropout that reads images."""
    model = mm.ImageMLPConfig((12, 12), biases=False, masks=mm.TurnOver())
    task = mm.ImageConfig(train=40, test=30, noise=mm.LabelNoise(0.3))
    return mm.train(mm.TrainConfig(task, model, steps=3, batch_size=20, checkpoints=1), progress=False)


@pytest.fixture
def chosen(request):
    """Return a function that returns the network which has what is needed."""

    def having(needs):
        return request.getfixturevalue(next((OTHER_SUBJECTS[need] for need in needs & set(OTHER_SUBJECTS)), "subject"))

    return having
