"""Put the activations of one network into another, and see where a wrong label is kept.

Two networks learn a + b mod 23 on the same inputs: one with a fifth of the labels wrong, one with all of them right.
What has to be carried over for the first to give up its wrong labels? And between two examples in one network?

    python examples/patching.py --steps 600 --out runs/patching
"""

import argparse
from pathlib import Path

import mechmem as mm

parser = argparse.ArgumentParser(description="Patch activations between runs.")
parser.add_argument("--steps", type=int, default=600, help="training steps")
parser.add_argument("--out", type=Path, default=Path("runs/patching"), help="where runs and figures are written")
arguments = parser.parse_args()


def trained(noise: float, name: str) -> mm.Subject:
    """Train a network with this share of wrong labels; both start from the same weights."""
    task = mm.ModularConfig(op="add", p=23, train_fraction=0.8, noise=mm.LabelNoise(noise))
    config = mm.TrainConfig(task=task, model=mm.MLPConfig(width=192), lr=3e-3, weight_decay=1.0, steps=arguments.steps)
    return mm.train(config, out=arguments.out / name)


noisy, clean = trained(0.2, "noisy"), trained(0.0, "clean")
columns = ["name", "direction", "effect", "low", "high", "n", "given_after", "true_after"]

# Between the networks, everything that a point holds. The readouts differ, so that only the logits carry everything.
between = mm.patch(noisy, clean)
print(between.to_frame()[columns].round(3).to_string(index=False))

# In the noisy network, between a wrongly labelled example and a rightly labelled one with the same a: do a few neurons
# carry the wrong label, or does each a little? The neurons that share a key frequency are patched together.
frequencies = mm.patch(noisy, units="frequency")
print(frequencies.to_frame().sort_values("effect")[columns].round(3).to_string(index=False))

neurons = mm.patch(noisy, units="neuron", direction="denoising")
effect = neurons.to_frame()["effect"].sort_values(ascending=False)
half = int((effect.cumsum() < effect.sum() / 2).sum()) + 1
print(f"{half} of {len(effect)} neurons carry half of the difference between two examples")

for name, found in {"points": between, "frequencies": frequencies, "neurons": neurons}.items():
    found.plot().write_html(arguments.out / f"{name}.html", include_plotlyjs="directory")
print(f"figures: {arguments.out}")
