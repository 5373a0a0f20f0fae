"""Optimisers, with their state as plain tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mechmem.core.roles import Role, Roles
from mechmem.errors import ConfigError, RunDirectoryError
from mechmem.training.config import TrainConfig

_STATE_NAME = re.compile(r"(?P<part>\d+)\.(?P<parameter>\d+)\.(?P<key>\w+)")


@runtime_checkable
class StateTensors(Protocol):
    """Anything with a state of named tensors."""

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the state."""
        ...


class Optimizers:
    """One or two torch optimisers that are stepped, saved and loaded as one.

    Muon orthogonalises a whole matrix, so the choice of matrices and their orientation affect the result. It gets U and
    V as neuron × p and W as p × neuron through the model's roles, as views that share the parameters' storage. In a
    network with a residual stream it gets the matrices of the blocks as output × input, those of attention head by
    head; AdamW trains both embeddings, the unembedding, biases and gains, as usual with Muon.

    Args:
        config: the optimiser and its settings.
        model: the network whose parameters are trained.
        roles: the roles that identify its matrices.

    Attributes:
        updates: number of updates made so far.
        whole: False during an update, and after an interrupted one.
    """

    def __init__(self, config: TrainConfig, model: nn.Module, roles: Roles):
        self._model, self._parameters = model, tuple(model.parameters())
        self.updates, self.whole = 0, True
        self._matrices: list[tuple[Role, int | None, Tensor]] = []
        parameters = list(self._parameters)
        lr, decay = config.lr, config.weight_decay
        self.parts: Sequence[torch.optim.Optimizer]
        if config.optimizer == "sgd":
            self.parts = [torch.optim.SGD(parameters, lr=lr, weight_decay=decay, momentum=config.momentum)]
        elif config.optimizer == "muon":
            self.parts = self._muon(config, roles)
        else:
            kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
            self.parts = [kind(parameters, lr=lr, weight_decay=decay, betas=config.betas, fused=True)]

    def _muon(self, config: TrainConfig, roles: Roles) -> list[torch.optim.Optimizer]:
        if roles.input_embedding is None or roles.readout is None:
            raise ConfigError("muon needs a model with the roles input_embedding and readout")
        parts = _inside(self._model) if roles.residual else _ends(self._model, roles.input_embedding, roles.readout)
        for role, index in parts:
            view = _oriented(role.read(self._model), index)
            if view.untyped_storage().data_ptr() != _storage(self._model, role):
                raise ConfigError(f"muon cannot train {role.parameter!r} in place: its role's pattern copies it")
            self._matrices.append((role, index, view))
        matrices = {name for role, _, _ in self._matrices for name in role.names}
        others = [parameter for name, parameter in self._model.named_parameters() if name not in matrices]
        # Matrices between two layers of neurons are already oriented; everything else (biases, γ and β) is no matrix.
        between = [p for p in others if p.ndim == 2 and not roles.residual]
        views = [view for _, _, view in self._matrices] + between
        rest = [p for p in others if not any(p is each for each in between)]
        lr, decay = config.lr, config.weight_decay
        made: list[torch.optim.Optimizer] = [
            torch.optim.Muon(views, lr=lr, weight_decay=decay, momentum=config.momentum)
        ]
        if rest:
            made.append(torch.optim.AdamW(rest, lr=lr, weight_decay=decay, betas=config.betas, fused=True))
        return made

    def step(self) -> None:
        """Apply the parameters' gradients."""
        for role, index, view in self._matrices:
            gradients = [self._model.get_parameter(name).grad for name in role.names]
            view.grad = _oriented(role.arrange([g for g in gradients if g is not None]), index)
        self.whole = False
        for part in self.parts:
            part.step()
        self.updates += 1
        self.whole = True

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the state as named tensors (moments, step counts, momentum buffers)."""
        return {
            f"{number}.{index}.{key}": torch.as_tensor(value)
            for number, part in enumerate(self.parts)
            for index, entries in part.state_dict()["state"].items()
            for key, value in entries.items()
            if value is not None
        }

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a state from `state_tensors`.

        Raises:
            RunDirectoryError: the tensors belong to another optimiser or another shape of network.
        """
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in self.parts]
        for name, tensor in tensors.items():
            match = _STATE_NAME.fullmatch(name)
            if match is None or int(match["part"]) >= len(states):
                raise RunDirectoryError(f"the saved optimiser state does not fit this optimiser: it holds {name!r}")
            states[int(match["part"])].setdefault(int(match["parameter"]), {})[match["key"]] = tensor.clone()
        for part, state in zip(self.parts, states, strict=True):
            parameters = [p for group in part.param_groups for p in group["params"]]
            for index, entries in state.items():
                shapes = {tuple(t.shape) for key, t in entries.items() if key != "step"}
                if index >= len(parameters) or shapes - {tuple(parameters[index].shape)}:
                    raise RunDirectoryError("the saved optimiser state does not fit this network")
            part.load_state_dict({"state": state, "param_groups": part.state_dict()["param_groups"]})


def _ends(model: nn.Module, embedding: Role, readout: Role) -> list[tuple[Role, int | None]]:
    """Return U, V and W; tied inputs are one matrix, which their role repeats, and only one copy is trained."""
    copies = 1 if "operand" not in embedding.pattern.split("->")[0] else len(embedding.read(model))
    return [*((embedding, i) for i in range(copies)), (readout, None)]


def _inside(model: nn.Module) -> list[tuple[Role, int | None]]:
    """Return the matrices of a transformer's blocks, stored as input × output, with one entry per attention head."""
    found: list[tuple[Role, int | None]] = []
    for name, parameter in model.named_parameters():
        if name.startswith("blocks.") and name.rpartition(".")[2].startswith("W_"):
            axes = "head row column" if parameter.ndim == 3 else "row column"
            role = Role(name, f"{axes} -> {axes}")
            found += [(role, head) for head in (range(len(parameter)) if parameter.ndim == 3 else (None,))]
    return found


def _oriented(value: Tensor, index: int | None) -> Tensor:
    """Return the matrix for Muon: the transpose of a role's value, which is stored as input × output."""
    return (value if index is None else value[index]).T


def _storage(model: nn.Module, role: Role) -> int:
    return dict(model.named_parameters())[role.names[0]].untyped_storage().data_ptr()
