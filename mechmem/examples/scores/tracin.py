"""TracIn self-influence: how far an example's own gradient steps lowered its loss."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.inputs import Inputs, run_on
from mechmem.core.plugins import ExampleScore
from mechmem.core.roles import Output
from mechmem.core.subject import RunFiles, Subject
from mechmem.errors import MissingNeedError
from mechmem.examples.example_gradients import ExampleBatches
from mechmem.models.hooks.running import device_of, differentiating, full_precision
from mechmem.models.reading.separate import check_subject
from mechmem.training.run import Run

GRADIENT_ELEMENTS = 2**24
"""Numbers in the gradients of the examples processed at once: 64 MB in float32."""

ONE_BY_ONE, TOGETHER = 4, 32
"""Most examples at once: if each is differentiated alone, through the graph of all; and if all are together."""


@dataclasses.dataclass(frozen=True)
class TracIn(ExampleScore):
    """Score examples by their influence on themselves: Σ η ‖∇ℓ‖² over the states that the run saved.

    ∇ℓ is the gradient of the example's loss, as used in the run, with respect to all trained parameters; η is the
    learning rate. captum computes it (`TracInCP.self_influence`), in evaluation mode, on examples without augmentation.
    The saved states after step 0 are log-spaced, so this is a sum over them, not the integral over training.

    For gradient descent η ‖∇ℓ‖² is, to first order, the amount by which a step on the example lowers its loss. Adam and
    Muon take other steps: for them it measures only the size of gradients, and the note says so. If the run recorded no
    learning rate, η is 1.

    Needs captum, installed by `pip install "mechmem[influence]"`.
    """

    name: ClassVar[str] = "tracin"
    needs: ClassVar[frozenset[str]] = frozenset({"run"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "checkpoints"})
    cites: ClassVar[str] = "Pruthi et al. 2020, arXiv 2002.08484"
    higher: ClassVar[str] = "steps on it lowered its own loss more"

    @differentiating()
    def measure(self, subject: Subject) -> tuple[Float[Tensor, " example"], str]:
        """Return the self-influences.

        Raises:
            MissingNeedError: captum is missing, the run saved no state after step 0, or the loss depends on no
                parameter.
            UnsteadyNetworkError: the network is random in evaluation mode, or examples act on each other in it.
        """
        check_subject(subject)
        run, task, device = subject.run, subject.task, device_of(subject.model)
        assert run is not None
        steps = [step for step in run.checkpoint_steps() if step > 0]
        if not steps:
            raise MissingNeedError(f"{self.name!r} needs states that the run saved after step 0, but there are none")
        config = run.config if isinstance(run, Run) else None
        rate, kind = (1.0, "cross_entropy") if config is None else (config.lr, config.loss)
        network = _Trained(run.model_at(steps[0]).to(device).eval(), subject.roles.output)
        network.choose(*ExampleBatches(task, task.sources[:2], 2, device)[0])
        size = sum(parameter.numel() for parameter in network.parameters())
        if not size:
            raise MissingNeedError(f"{self.name!r} needs parameters that the loss depends on, but there are none")
        influence = _Influence(run, network, rate, kind)
        together = _of_known_layers(network) and influence.same_together(
            ExampleBatches(task, task.sources[:2], 2, device)
        )
        rows = max(1, min(TOGETHER if together else ONE_BY_ONE, GRADIENT_ELEMENTS // size))
        values = influence(ExampleBatches(task, task.sources, rows, device), steps, together)
        notes = [f"sum over {len(steps)} saved states"]
        if config is None:
            notes.append("no learning rate or loss was recorded: 1 and the cross-entropy are assumed")
        elif config.optimizer != "sgd":
            notes.append(f"the underlying identity holds for sgd only, but this run used {config.optimizer}")
        return values.double().cpu(), "; ".join(notes)


class _Trained(nn.Module):
    """A network that returns its logits, and whose `parameters` are the trained ones."""

    def __init__(self, network: nn.Module, output: Output):
        super().__init__()
        self.network, self._output = network, output
        every = [parameter for parameter in network.parameters() if parameter.is_floating_point()]
        # A network frozen as a whole was frozen only for inspection.
        if not any(parameter.requires_grad for parameter in every):
            network.requires_grad_(True)
        self._counted = [parameter for parameter in every if parameter.requires_grad]

    def forward(self, inputs: Inputs) -> Float[Tensor, "example class"]:
        # In float64 the probability of a near-certain label still differs from 1.
        return full_precision(self._output.read(run_on(self.network, inputs))).double()

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        return iter(self._counted)

    def choose(self, inputs: Inputs, given: Int[Tensor, " example"]) -> None:
        """Leave out the parameters that the loss does not depend on."""
        loss = F.cross_entropy(self(inputs), given)
        slopes = torch.autograd.grad(loss, self._counted, allow_unused=True) if self._counted else ()
        self._counted = [each for each, slope in zip(self._counted, slopes, strict=True) if slope is not None]


class _Loss(nn.Module):
    """The loss of each example ("none"), or their sum ("sum"); captum reads the attribute `reduction`."""

    def __init__(self, kind: str, reduction: str):
        super().__init__()
        self.kind, self.reduction = kind, reduction

    def forward(self, logits: Float[Tensor, "example class"], given: Int[Tensor, " example"]) -> Float[Tensor, ...]:
        if self.kind == "cross_entropy":
            return F.cross_entropy(logits, given, reduction=self.reduction)
        error = (logits - F.one_hot(given, logits.shape[1])).square().mean(1)
        return error if self.reduction == "none" else error.sum()


class _Influence:
    """Self-influence by captum."""

    def __init__(self, run: RunFiles, network: _Trained, rate: float, kind: str):
        try:
            from captum.influence import TracInCP
        except ImportError as error:
            raise MissingNeedError("'tracin' needs captum: pip install \"mechmem[influence]\"") from error
        self._tracin, self._run, self._network, self._rate, self._kind = TracInCP, run, network, rate, kind

    def _load(self, network: Any, step: Any) -> float:
        network.network.load_state_dict(self._run.model_at(int(step)).state_dict())
        return self._rate

    def __call__(self, batches: ExampleBatches, steps: list[int], together: bool) -> Float[Tensor, " example"]:
        loss = _Loss(self._kind, "sum" if together else "none")
        with warnings.catch_warnings():
            # captum warns for every batch that it requires gradients of the inputs.
            warnings.filterwarnings("ignore", module=r"captum\.")
            found = self._tracin(
                self._network,
                batches.loader(),
                iter(steps),  # type: ignore[arg-type]
                self._load,
                loss_fn=loss,
                sample_wise_grads_per_batch=together,
            )
            return found.self_influence(outer_loop_by_checkpoints=True)

    def same_together(self, batches: ExampleBatches) -> bool:
        """Return whether examples give the same results together as one by one, in the first saved state.

        Together, captum derives gradients from the inputs of layers and the gradients at their outputs. That fails if a
        weight is also used elsewhere, a layer's first axis is not that of the examples, or a convolution has groups.
        """
        steps = [step for step in self._run.checkpoint_steps() if step > 0][:1]
        alone = self(batches, steps, False)
        try:
            found = self(batches, steps, True)
        except (AssertionError, AttributeError, RuntimeError):
            return False
        return found.shape == alone.shape and torch.allclose(found, alone, rtol=1e-3)


def _of_known_layers(network: nn.Module) -> bool:
    """Return whether every parameter belongs to one layer of a kind whose gradients captum can derive."""
    owned = [(module, each) for module in network.modules() for each in module._parameters.values() if each is not None]
    once = len({id(each) for _, each in owned}) == len(owned)
    return once and all(type(module) in (nn.Linear, nn.Conv2d) for module, _ in owned)
