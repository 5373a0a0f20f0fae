"""The commands of the command line and their options, as frozen dataclasses. Imports no torch."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import ClassVar, Literal

import tyro

from mechmem.cli.options import Part, takes
from mechmem.errors import ConfigError
from mechmem.models.networks.config import MLPConfig, TransformerConfig
from mechmem.models.networks.image_config import CNNConfig, ImageMLPConfig, ResNetConfig
from mechmem.models.networks.mask_config import ExampleTied, TurnOver
from mechmem.tasks.config import SPELLED, GroupConfig, LabelNoise, ModularConfig, is_prime
from mechmem.tasks.image_config import Augmentation, ImageConfig
from mechmem.training.config import TrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """Options of every command.

    Attributes:
        quiet: print neither progress nor tables.
        json: print the result as JSON on standard output, and no table.
    """

    groups: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("out", "quiet", "json"), "output"),
        **dict.fromkeys(("step", "device"), "network"),
    }
    """The group of an option in the help, one of `grouping.GROUPS`; of others it is "measurement"."""
    keeps: ClassVar[bool] = False
    """Whether the same line goes on where it was interrupted: networks that the command trained are kept."""

    quiet: bool = False
    json: bool = False


TRAINED = dict.fromkeys(
    ("seed", "device", "scale", "claims", "workers", "engine", "engine_settings", "array", "most_seeds"), "training"
)
"""Groups of options of commands that train networks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demo(CommonOptions):
    """Train two networks that fit every wrong label, and show which of them computes the rule (under two minutes).

    Attributes:
        seed: seed of tasks and networks.
        out: directory of the runs, scorecards and report.html.
        device: device to train on ("cpu", "cuda").
    """

    groups = CommonOptions.groups | TRAINED
    keeps = True

    seed: int = 0
    out: Path = Path("mechmem-demo")
    device: str = "cpu"


MASKS = Part(
    {"none": None, "turn_over": TurnOver, "example_tied": ExampleTied},
    choice="masks",
    names={"stream": "bare_stream"},
    help={"bare_stream": "leave a transformer's residual stream without masks"},
    group="network",
)
PAIRS = Part({"residues": ModularConfig, "group": GroupConfig}, choice="group", group="task")
PAIR_NOISE = Part({"": LabelNoise}, defaults={"fraction": 0.3}, group="task")
PAIR_MODELS = Part({"mlp": MLPConfig, "transformer": TransformerConfig}, choice="model", group="network")
PAIR_TRAINING = Part({"": TrainConfig}, defaults={"weight_decay": 1.0, "steps": 3000})
IMAGES = Part({"": ImageConfig}, group="task")
IMAGE_NOISE = Part({"": LabelNoise}, defaults={"fraction": 0.4}, group="task")
AUGMENTATION = Part({"": Augmentation}, group="task")
IMAGE_MODELS = Part(
    {"mlp": ImageMLPConfig, "cnn": CNNConfig, "resnet": ResNetConfig},
    choice="model",
    names={"biases": "unbiased"},
    help={"unbiased": "leave biases out, as turn-over dropout requires"},
    group="network",
)
IMAGE_TRAINING = Part(
    {"": TrainConfig}, defaults={"optimizer": "adam", "weight_decay": 0.0, "steps": 3000, "batch_size": 128}
)

SHORT = {"subtract": "sub", "multiply": "mul", "compose": "add", "divide": "sub"}
"""Operations in the names of run directories."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(CommonOptions):
    """Options of both training commands, besides the fields of their configs.

    Attributes:
        masks: dropout by the training example: turn_over (influence), or example_tied (memory units).
        device: device to train on ("cpu", "cuda").
    """

    groups = CommonOptions.groups | TRAINED
    keeps = True

    masks: Literal["none", "turn_over", "example_tied"] = "none"
    device: str = "cpu"


@takes(PAIRS, PAIR_NOISE, PAIR_MODELS, MASKS, PAIR_TRAINING)
@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(Training):
    """Train a network on modular arithmetic with wrong labels; the same command resumes or returns.

    Attributes:
        group: a finite group instead of residues, e.g. S5, D7 or S3xZ4; add is then a·b, and subtract a·b⁻¹.
        model: the kind of network.
        out: the run directory; by default runs/<op>-p<p>-noise<noise>-seed<seed>, with <group> for p<p>, and
            runs/transformer-<op>-….
    """

    group: str = ""
    model: Literal["mlp", "transformer"] = "mlp"
    out: Path | None = None

    def run_name(self, config: TrainConfig) -> str:
        """Return the default name of the run."""
        task = config.task
        assert isinstance(task, ModularConfig | GroupConfig)
        kind = "" if self.model == "mlp" else f"{self.model}-"
        where = task.group if isinstance(task, GroupConfig) else f"p{task.p}"
        return f"{kind}{SHORT.get(task.op, task.op)}-{where}-noise{task.noise.fraction:g}-seed{config.seed}"

    def config(self) -> TrainConfig:
        """Build the config.

        Raises:
            ConfigError: a setting is not allowed, e.g. multiplication with a composite p, since a run's audit needs the
                group that only a prime gives (`ModularConfig` takes any p).
        """
        op, p = (vars(self)[name] for name in ("op", "p"))
        product = SPELLED.get(op, op) == "multiply"
        if self.group and (product or p is not None):
            wrong = f"--op {op}" if product else "--p"
            raise ConfigError(f"{wrong} belongs to residues mod p, not to --group {self.group}")
        task = PAIRS.build(self, "group" if self.group else "residues", noise=PAIR_NOISE.build(self))
        if product and not is_prime(task.p):
            raise ConfigError(f"multiplication needs a prime p (its nonzero residues form a group), got {task.p}")
        model = PAIR_MODELS.build(self, self.model, masks=MASKS.build(self, self.masks))
        return PAIR_TRAINING.build(self, task=task, model=model)


@takes(IMAGES, IMAGE_NOISE, AUGMENTATION, IMAGE_MODELS, MASKS, IMAGE_TRAINING)
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainImages(Training):
    """Train a network on images with wrong labels; the same command resumes or returns.

    Attributes:
        data: digits, mnist5k, a HuggingFace data set by name, a folder of images by class, or an .npz file.
        model: the kind of network.
        out: the run directory; by default runs/<data>-<model>-noise<noise>-seed<seed>.
    """

    data: tyro.conf.Positional[str]
    model: Literal["mlp", "cnn", "resnet"] = "mlp"
    out: Path | None = None

    def run_name(self, config: TrainConfig) -> str:
        """Return the default name of the run."""
        data = re.sub(r"[^\w.-]+", "-", Path(self.data).stem) or "images"
        assert isinstance(config.task, ImageConfig)
        return f"{data}-{self.model}-noise{config.task.noise.fraction:g}-seed{config.seed}"

    def config(self) -> TrainConfig:
        """Build the config.

        Raises:
            ConfigError: a setting is not allowed.
        """
        task = IMAGES.build(self, noise=IMAGE_NOISE.build(self), augmentation=AUGMENTATION.build(self))
        model = IMAGE_MODELS.build(self, self.model, masks=MASKS.build(self, self.masks))
        return IMAGE_TRAINING.build(self, task=task, model=model)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit(CommonOptions):
    """Print a run's scorecard, or that of several runs pooled; with --out, write scorecard.json and report.html.

    Attributes:
        runs: the run directory; or several, of runs that differ in their seeds.
        out: directory of the files.
        extractors: the extractors, e.g. raw frequency+quadratic; by default all that suit the task.
        step: audit the state saved at this step; by default the last.
        device: device for the network and for training its twins ("cpu", "cuda").
    """

    keeps = True

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Path | None = None
    extractors: tuple[str, ...] = ()
    step: int | None = None
    device: str = "cpu"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples(CommonOptions):
    """Score the training examples of a run, and measure how well each score finds wrong labels, beside the plain loss.

    Attributes:
        run: the run directory.
        scores: the scores, e.g. self_influence tracin; `mechmem list` lists them. The loss is always included.
        out: a .csv file for the scores of every example.
        most: number of most suspect examples to list for each score.
        device: device for the network ("cpu", "cuda").
    """

    keeps = True

    run: tyro.conf.Positional[Path]
    scores: tuple[str, ...] = ("margin", "learning_speed", "forgetting_events")
    out: Path | None = None
    most: int = 8
    device: str = "cpu"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reproduce(CommonOptions):
    """Train networks to check a paper's claims, and write the ledger; the same command resumes or re-opens it.

    Attributes:
        recipe: the paper's recipe, e.g. doshi_2024; `mechmem list` lists them.
        scale: "smoke" runs all code in a minute and judges nothing; "small" gives verdicts on two cores, and says
            at the start how long the first seeds take; "paper" uses the paper's own settings.
        claims: keys of the claims; by default all.
        out: directory of runs, measurements and ledger.html; by default reproductions/<recipe>-<scale>.
        engine: local (processes of this machine), inline, dask, ray or slurm.
        engine_settings: settings of the engine, e.g. address=tcp://head:8786, or timeout_min=60 slurm_partition=long.
        workers: number of processes, one thread each; by default as many as the machine or the cluster has.
        most_seeds: seeds are added until a claim is decided, up to this number, 3 to 20.
        device: device to train on ("cpu", "cuda").
    """

    groups = CommonOptions.groups | TRAINED
    keeps = True

    recipe: tyro.conf.Positional[str]
    scale: Literal["smoke", "small", "paper"] = "small"
    claims: tuple[str, ...] = ()
    out: Path | None = None
    engine: str = "local"
    engine_settings: tuple[str, ...] = ()
    workers: int | None = None
    most_seeds: int = 20
    device: str = "cpu"


@dataclasses.dataclass(frozen=True, kw_only=True)
class List(CommonOptions):
    """List every plugin and recipe, or those of one kind: a summary, the knowledge it uses, and its source.

    Attributes:
        kind: surgeries, readouts, neuron_scores, example_scores, analyses or recipes; by default all.
    """

    kind: tyro.conf.Positional[str] = ""
