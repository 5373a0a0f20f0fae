"""What the recorded network answered, against the answers of one that is given for it."""

from __future__ import annotations

import numpy as np
from torch import nn

from mechmem.errors import MechmemError, RunDirectoryError
from mechmem.models.reading.forward import logits_of
from mechmem.training.run import Run

EXAMPLES = 128
"""Number of examples that are compared."""
ALLOWED = 0.1
"""Share of them that may be answered otherwise: rounding on another device or in another precision changes some."""


def check_answers(run: Run, model: nn.Module, step: int) -> None:
    """Check that a network with the weights of a step answers as the run's own did, if that was evaluated there.

    The weights do not tell what is computed with them: which activation function, which order of layers.

    Args:
        run: the run.
        model: the network, with the weights of that step.
        step: the step.

    Raises:
        RunDirectoryError: over a tenth of the answers are right where those of the run were wrong, or the reverse.
    """
    history, task = run.read_history(), run.task()
    places = [place for place, row in enumerate(history.rows) if row["step"] == step]
    if not places:
        return
    n = len(task.ids)
    chosen = np.unique(np.linspace(0, n - 1, min(n, EXAMPLES)).astype(int))
    packed = np.frombuffer(history.bits[places[-1]], dtype=np.uint8).reshape(2, -1)
    recorded = np.unpackbits(packed, axis=1, count=n)[0, chosen].astype(bool)
    ids = task.ids[chosen]
    try:
        logits = logits_of(model, task, ids, run.roles().output)
    except MechmemError:
        return  # whatever measures it says why it cannot be run
    other = float(((logits.argmax(1) == task.given(ids)).numpy() != recorded).mean())
    if other > ALLOWED:
        raise RunDirectoryError(
            f"{run.path} was recorded with a network that computes something else: at step {step}, {other:.0%} of "
            f"{len(ids)} examples are answered rightly by one and not by the other; has it other activation functions, "
            "other hooks, or another order of layers?"
        )
