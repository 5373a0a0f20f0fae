"""Which wrong labels does a network have by heart, and which score finds them better than its plain loss?

A fifth of the labels of handwritten digits is wrong. The network has turn-over dropout, so that inside it stands, for
every training example, a network that has not been trained on it.

    python examples/memorized_examples.py --steps 1500 --out runs/memorized_examples
"""

import argparse
from pathlib import Path

import mechmem as mm

parser = argparse.ArgumentParser(description="Score training examples, and ask how well the scores find wrong labels.")
parser.add_argument("--steps", type=int, default=1500, help="training steps")
parser.add_argument("--out", type=Path, default=Path("runs/memorized_examples"), help="where run and figures go")
arguments = parser.parse_args()

task = mm.ImageConfig("digits", train=500, test=300, noise=mm.LabelNoise(0.2))
model = mm.ImageMLPConfig(widths=(256, 256, 256), biases=False, masks=mm.TurnOver(layers=(0, -1)))
config = mm.TrainConfig(task, model, optimizer="sgd", lr=0.01, weight_decay=0.0, batch_size=32, steps=arguments.steps)
print(f"before training: {mm.isolation(config)}")
subject = mm.train(config, out=arguments.out / "digits", title="digits, a fifth wrong")

# One table of scores; the loss is always in it, and beside every figure.
table = mm.example_scores(subject, ["self_influence", "margin", "learning_speed", "forgetting_events", "tracin"])
quality = mm.detect_label_noise(table)
columns = ["score", "value", "low", "high", "loss", "more"]
print(quality.to_frame().query("figure == 'auroc'")[columns].round(3).to_string(index=False))

# What a training example does to others: the loss of the network that it has not trained, less that of the one it has.
influence = mm.influence(subject, targets=subject.task.test_ids[:100])
wrong = influence.to_frame().merge(table.to_frame()[["id", "split"]], left_on="source", right_on="id")
print(wrong.groupby(["split", "same_label"])["influence"].mean().round(3).to_string())

figures = {"quality": quality, "influence": influence}
figures |= {name: mm.analyse(subject, name) for name in ("memorized_examples", "influential_examples")}
for name, result in figures.items():
    result.plot().write_html(arguments.out / f"{name}.html", include_plotlyjs="cdn")
print(f"figures: {', '.join(f'{name}.html' for name in figures)} in {arguments.out}")
