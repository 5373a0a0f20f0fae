"""Can a network memorize random labels and still learn what the images have in common?

Every label is random. One network sees the images as they are, one sees them changed at every step. A probe fitted to
the true labels then tells what each layer holds, before and after training.

    python examples/benign_memorization.py --steps 3000 --out runs/benign_memorization
"""

import argparse
from pathlib import Path

import mechmem as mm

parser = argparse.ArgumentParser(description="Memorize random labels with and without augmentation.")
parser.add_argument("--steps", type=int, default=3000, help="training steps")
parser.add_argument("--out", type=Path, default=Path("runs/benign_memorization"), help="where runs and figures go")
arguments = parser.parse_args()

AUGMENTATIONS = {
    "as they are": mm.Augmentation(),
    "augmented": mm.Augmentation(degrees=15, translate=0.15, zoom=0.1),
}

for name, augmentation in AUGMENTATIONS.items():
    task = mm.ImageConfig("digits", train=200, noise=mm.LabelNoise(1.0, "any"), augmentation=augmentation)
    config = mm.TrainConfig(
        task,
        mm.CNNConfig((16, 32, 64), projector=128),
        loss="mse",
        optimizer="adam",
        weight_decay=0.0,
        batch_size=100,
        steps=arguments.steps,
    )
    out = arguments.out / name.replace(" ", "_")
    subject = mm.train(config, out=out, title=f"digits {name}")
    layers = mm.probe_layers(subject, probe="knn", labels="true", folds=0)
    print(f"\nrandom labels, images {name}")
    print(layers.table().round(3).to_string())
    print(layers.benign_gap().round(3).to_string(index=False))
    layers.plot().write_html(out / "probes.html", include_plotlyjs="cdn")
    if augmentation.changes:
        views = mm.analyse(subject, "view_invariance")
        print(views.to_frame().query("part == 'test'").round(3).to_string(index=False))
        views.plot().write_html(out / "invariance.html", include_plotlyjs="cdn")
print(f"\nfigures: probes.html of both networks and invariance.html in {arguments.out}")
