"""TRAK: influence in the linear model of randomly projected gradients."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_choice, check_number, check_whole
from mechmem.core.in_words import reason
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.examples.example_gradients import AT_ONCE, ExampleBatches, ExampleGradients, check_held
from mechmem.examples.influence_score import InfluenceScore, places_in
from mechmem.math.logits import log_odds
from mechmem.models.hooks.running import block_rows, device_of, differentiating, full_precision
from mechmem.models.reading.forward import check_logits, logits_of

States = Literal["last", "all"]

SAMPLE = 256
"""Most examples from which the size of the gradients is estimated."""

PER_COLUMN = 4
"""Fewest examples per dimension of the projection: with fewer, the linear model fits any label."""


@dataclasses.dataclass(frozen=True)
class Trak(InfluenceScore):
    """Score examples by their influence on themselves in a linear model of the network, by TRAK.

    The model's features φ are the gradients of the margin log p / (1 − p), p the probability of the given label,
    projected at random. The influence of an example on a target is φ(target)ᵀ (ΦᵀΦ)⁻¹ φ(example) · (1 − p(example)).
    dattri computes it, in evaluation mode, on examples without augmentation.

    The paper averages over networks of several trainings; this is of one network, or averaged over the states that its
    run saved, which are less independent.

    Needs dattri, installed by `pip install "mechmem[influence]"`.

    Attributes:
        parameters: names or patterns of the parameters, such as "readout.*", with spaces between them; by default all
            that were trained.
        projection: number of dimensions of the projection; at most a fourth of the number of training examples.
        damping: added to the eigenvalues of ΦᵀΦ, as a share of their mean. The paper adds nothing, which needs far more
            examples than dimensions.
        checkpoints: "last" for the network as it is, or "all" saved states of the run after step 0.
        seed: seed of the projection.
    """

    name: ClassVar[str] = "trak"
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels"})
    cites: ClassVar[str] = "Park et al. 2023, arXiv 2303.14186; dattri: Deng et al. 2024, arXiv 2410.04555"
    higher: ClassVar[str] = "the example supports its own label"
    unit: ClassVar[str] = "logits"
    effect: ClassVar[str] = "logits"

    parameters: str = ""
    projection: int = 512
    damping: float = 0.01
    checkpoints: States = "last"
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("dimensions of the projection", self.projection, 1)
        check_number("damping", self.damping, above=0)
        check_choice("states", self.checkpoints, get_args(States))
        check_whole("seed", self.seed, 0)

    def wants(self) -> frozenset[str]:
        """A run, if the score averages over its states."""
        return self.needs | {"run"} if self.checkpoints == "all" else self.needs

    def told(self) -> frozenset[str]:
        """The checkpoints, if the score averages over them."""
        return self.knows | {"checkpoints"} if self.checkpoints == "all" else self.knows

    def measure(self, subject: Subject) -> tuple[Float[Tensor, " example"], str]:
        """Return the self-influences.

        Raises:
            MissingNeedError: dattri is missing, the run saved no state after step 0, there are too few training
                examples, or the projection does not fit into memory.
            UnknownNameError: a pattern matches no parameter.
            UnsteadyNetworkError: the network is random in evaluation mode, or examples act on each other in it.
            NotFiniteError: a logit is NaN or infinite.
        """
        model = _LinearModel(self, subject)
        return model.own(subject.task.sources), model.note

    def on_targets(
        self, subject: Subject, sources: Int[Tensor, " source"], targets: Int[Tensor, " target"]
    ) -> tuple[Float[Tensor, "target source"], str]:
        """Return the influences; the linear model is of all training examples.

        Raises:
            MissingNeedError: see `measure`.
        """
        self.require(subject)
        model = _LinearModel(self, subject)
        every = subject.task.sources
        return model.on(every, targets)[:, places_in(every, sources)], model.note


class _LinearModel:
    """dattri's attributor of one network."""

    def __init__(self, score: Trak, subject: Subject):
        try:
            with warnings.catch_warnings():
                # It compiles functions as it is imported, and torch warns of itself there.
                warnings.simplefilter("ignore")
                from dattri.algorithm.trak import TRAKAttributor
                from dattri.task import AttributionTask
        except ImportError as error:
            raise MissingNeedError("'trak' needs dattri: pip install \"mechmem[influence]\"") from error
        gradients = ExampleGradients(subject, score.parameters)
        # dattri takes the gradient of a margin that is no number for 0.
        sources = subject.task.sources
        check_logits(logits_of(subject.model, subject.task, sources, subject.roles.output), sources)
        self._subject, self._network = gradients.subject, gradients.subject.model
        # dattri takes the parameters that require gradients.
        for parameter in gradients.chosen.values():
            parameter.requires_grad_(True)
        n, size = len(subject.task.sources), gradients.size
        width = min(score.projection, n // PER_COLUMN)
        if not width:
            raise MissingNeedError(f"'trak' needs at least {PER_COLUMN} training examples, but there are {n}")
        check_held("'trak'", min(width, 100), size, f'choose parameters, such as "{list(gradients.chosen)[-1]}"')
        # The projection is drawn again for every block, so that few large blocks are faster.
        self._rows = max(1, min(2 * AT_ONCE // size, block_rows(self._network)))
        states, load = self._states(score, subject)
        self._task = AttributionTask(
            loss_func=self._margin, model=self._network, checkpoints=states, checkpoints_load_func=load
        )
        kind = "identity" if size <= width else "normal"
        projector = {
            "proj_dim": width,
            "proj_type": kind,
            "proj_seed": score.seed,
            "proj_max_batch_size": 32,
            "device": str(device_of(self._network)),
        }
        self._attributor = TRAKAttributor(
            self._task,
            self._probability,
            projector_kwargs=projector,
            device=str(device_of(self._network)),
            regularization=score.damping * self._mean_eigenvalue(gradients, min(width, size)),
        )
        shown = f"{len(states)} saved states" if score.checkpoints == "all" else "the network as it is"
        self.note = f"{min(width, size)} dimensions, of {shown}"

    def own(self, ids: Int[Tensor, " example"]) -> Float[Tensor, " example"]:
        """Return the influence of each example on itself."""
        with _by_dattri():
            return self._attributor.self_attribute(self._batches(ids).loader()).flatten().double().cpu()

    def on(self, ids: Int[Tensor, " example"], targets: Int[Tensor, " target"]) -> Float[Tensor, "target example"]:
        """Return the influence of each example on each target."""
        with _by_dattri():
            return (
                self._attributor.attribute(self._batches(targets).loader(), self._batches(ids).loader()).T.float().cpu()
            )

    def _states(self, score: Trak, subject: Subject) -> tuple[list[Any], Any]:
        """Return what dattri loads, and how."""
        run, steps = subject.run, []
        if score.checkpoints == "last" or run is None:
            return [None], lambda model, _state: model
        steps = [step for step in run.checkpoint_steps() if step > 0]
        if not steps:
            raise MissingNeedError("'trak' needs states that the run saved after step 0, but there are none")

        def load(model: Any, step: int) -> Any:
            model.load_state_dict(run.model_at(step).state_dict())
            return model

        return steps, load

    def _mean_eigenvalue(self, gradients: ExampleGradients, dimensions: int) -> float:
        """Return the mean eigenvalue of ΦᵀΦ, estimated from some examples: a projection keeps lengths on average."""
        sources = self._subject.task.sources
        some = sources[torch.linspace(0, len(sources) - 1, min(len(sources), self._rows, SAMPLE)).long()]
        values, _ = self._task.get_param(len(self._task.get_checkpoints()) - 1)
        with _by_dattri():
            rows = self._task.get_grad_loss_func(in_dims=(None, 0))(values, self._batches(some)[0])
        # dattri divides gradients by the root of the number of parameters.
        return float(rows.detach().square().sum(1).mean()) / gradients.size * len(sources) / dimensions

    def _margin(self, values: dict[str, Tensor], example: tuple[Tensor, Tensor]) -> Float[Tensor, ""]:
        x, label = example
        returned = torch.func.functional_call(self._network, values, (x[None],))
        return log_odds(full_precision(self._subject.roles.output.read(returned)).double(), label[None])[0]

    def _probability(self, values: dict[str, Tensor], example: tuple[Tensor, Tensor]) -> Float[Tensor, ""]:
        return self._margin(values, example).sigmoid()

    def _batches(self, ids: Int[Tensor, " example"]) -> ExampleBatches:
        return ExampleBatches(self._subject.task, ids, self._rows, device_of(self._network))


@contextlib.contextmanager
def _by_dattri() -> Iterator[None]:
    """Let dattri compute, without its progress bars.

    Raises:
        MissingNeedError: the linear model has no solution, or torch cannot map the network over examples.
    """
    with differentiating(), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        # torch loops over the examples itself where it has no rule for an operation.
        warnings.filterwarnings("ignore", "There is a performance drop")
        try:
            yield
        except (RuntimeError, AttributeError) as error:
            if isinstance(error, torch.linalg.LinAlgError):  # pyright: ignore[reportPrivateImportUsage]
                raise MissingNeedError("'trak' finds no linear model: the margins have no gradient") from error
            raise MissingNeedError(f"'trak' cannot map this network over examples: {reason(error)}") from error
