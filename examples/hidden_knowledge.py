"""How much does a network that has memorized wrong labels know, in which layer, that its output does not show?

Two fifths of the training labels of handwritten digits are random. Beside every layer stand the same probe on the
pixels, which needs no network, and the network before training.

    python examples/hidden_knowledge.py --steps 1500 --out runs/hidden_knowledge
"""

import argparse
from pathlib import Path

import mechmem as mm

parser = argparse.ArgumentParser(description="Memorize wrong labels of images, and probe every layer.")
parser.add_argument("--steps", type=int, default=1500, help="training steps")
parser.add_argument("--out", type=Path, default=Path("runs/hidden_knowledge"), help="where run and figures go")
arguments = parser.parse_args()

task = mm.ImageConfig("digits", noise=mm.LabelNoise(0.4, "any"))
model = mm.ImageMLPConfig(widths=(128, 256, 512))
config = mm.TrainConfig(task, model, optimizer="sgd", lr=0.05, weight_decay=0.0, batch_size=64, steps=arguments.steps)
subject = mm.train(config, out=arguments.out / "digits", title="digits, two fifths random")

# A probe at every layer, fitted to the labels that the network was given; the layer is chosen without test labels.
layers = mm.probe_layers(subject, probe="masc")
print(layers.table().round(3).to_string())
print(f"chosen by cross-validation: {layers.chosen or 'none'}")

# Where are the wrong labels held? Rewind one layer at a time; see how late a prediction is settled.
rewound = mm.analyse(subject, "layer_rewinding")
depth = mm.analyse(subject, "prediction_depth")
print(rewound.to_frame().query("split in ('train_noisy', 'test')").round(3).to_string(index=False))
print(depth.summary().round(3).to_string(index=False))

figures = {"probes": layers, "rewinding": rewound, "depth": depth}
for name in ("class_manifolds", "layer_similarity"):
    figures[name] = mm.analyse(subject, name)
for name, result in figures.items():
    result.plot().write_html(arguments.out / f"{name}.html", include_plotlyjs="cdn")
print(f"figures: {', '.join(f'{name}.html' for name in figures)} in {arguments.out}")
