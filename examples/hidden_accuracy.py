"""Train a network on partly wrong labels, and see what it knows beside them.

A fifth of the training labels of a + b mod 31 is false. The network fits all of them. What is left of the rule?

    python examples/hidden_accuracy.py --steps 1500 --out runs/hidden_accuracy
"""

import argparse
from pathlib import Path

import mechmem as mm

parser = argparse.ArgumentParser(description="Train on partly wrong labels, audit, write a report.")
parser.add_argument("--steps", type=int, default=1500, help="training steps")
parser.add_argument("--out", type=Path, default=Path("runs/hidden_accuracy"), help="where run and report are written")
arguments = parser.parse_args()

# What is trained on: 80 % of the 31² sums, of which 20 % carry a wrong answer.
task = mm.ModularConfig(op="add", p=31, train_fraction=0.8, noise=mm.LabelNoise(0.2))
config = mm.TrainConfig(task=task, model=mm.MLPConfig(width=256), weight_decay=1.0, steps=arguments.steps)

# A subject is a network with its task. The same command again returns the finished run instead of training it anew.
subject = mm.train(config, out=arguments.out / "add_mod_31", title="a + b mod 31")

# Every extractor, beside what it gives on networks that cannot have learned the rule.
card = mm.audit(subject)
columns = ["extractor", "train_clean", "train_noisy", "test", "untrained_test", "one_step_test", "noise_only_test"]
print(card.to_frame()[columns].round(3).to_string(index=False))
for vote in card.votes:
    print(f"vote of the training labels {vote.name}: {vote.test.value if vote.test else vote.reason}")
print(card.sentence)

mm.write_report([(subject, card)], arguments.out / "report.html")
print(f"report: {arguments.out / 'report.html'}")
