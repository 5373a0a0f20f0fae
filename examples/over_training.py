"""Follow a network over its training: what is fitted first, and when does the rule appear?

A fifth of the training labels of a + b mod 31 is false. The network is measured at every checkpoint of its run.

    python examples/over_training.py --steps 1200 --out runs/over_training
"""

import argparse
from pathlib import Path

import mechmem as mm
from mechmem.analyses.runs.fitting_order import FittingOrder
from mechmem.analyses.runs.training_times import TrainingTimes

parser = argparse.ArgumentParser(description="Train on partly wrong labels, and measure every checkpoint.")
parser.add_argument("--steps", type=int, default=1200, help="training steps")
parser.add_argument("--out", type=Path, default=Path("runs/over_training"), help="where run, figures and report go")
arguments = parser.parse_args()

task = mm.ModularConfig(op="add", p=31, train_fraction=0.8, noise=mm.LabelNoise(0.2))
config = mm.TrainConfig(task=task, model=mm.MLPConfig(width=256), weight_decay=1.0, steps=arguments.steps)
subject = mm.train(config, out=arguments.out / "add_mod_31", title="a + b mod 31")

# The history: when each kind of label was fitted, and which examples came first.
print(TrainingTimes()(subject).to_frame()[["name", "step", "low", "high", "reason"]].to_string(index=False))
order = FittingOrder()(subject)
print(order.summary().round(3).to_string(index=False))
print(f"{order.verdict}: P(noisy before clean) = {order.precedence().value:.3f}")

# The checkpoints: accuracies, the neurons' concentration in frequency, held-out structure, what makes norms grow.
curves = mm.over_training(subject, ["raw", "frequency+quadratic", "ipr", "structure", "norm_drive"])
test = curves.to_frame().query("split == 'test'").pivot(index="step", columns="what", values="value")
structure = curves.frame("structure").pivot(index="step", columns="quantity", values="value")
print(test.join(structure[["S", "kappa", "Z"]]).round(3).to_string())

curves.save(arguments.out / "over_training.safetensors")
curves.plot().write_html(arguments.out / "over_training.html", include_plotlyjs="cdn")
print(f"figure: {arguments.out / 'over_training.html'}")
