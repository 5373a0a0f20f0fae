"""
When does the rule appear: before the wrong labels are memorized, or after?
============================================================================

A fifth of the training labels of a + b mod 31 is wrong. The run keeps twelve checkpoints, and every measurement can
be repeated at each of them.
"""

import mechmem as mm

task = mm.ModularConfig(op="add", p=31, train_fraction=0.8, noise=mm.LabelNoise(0.2))
config = mm.TrainConfig(task, mm.MLPConfig(width=256), weight_decay=1.0, steps=1500)
network = mm.train(config, out="runs/add_31", progress=False)

# %%
# First the network's own answers. Wrong labels are fitted even before right ones, by step 161 and 234, and test
# accuracy never rises.
mm.analyse(network, "training_curves")

# %%
times = mm.analyse(network, "training_times")
times

# %%
# Then what is read out of the same weights. Frequency filtration finds the rule by step 105; but it knows the group,
# and with it the labels alone would say as much.
measured = mm.over_training(network, ["raw", "frequency+quadratic", "ipr", "structure"])
measured

# %%
# The held-out test knows better: κ is the share of the rule in the logits of cells whose labels the network never
# saw, Z its distance from chance in standard deviations.
structure = measured.frame("structure").pivot(index="step", columns="quantity", values="value")
structure[["kappa", "Z"]].round(2)

# %%
# So the network memorizes first, and the rule grows beneath the memorized labels afterwards, while the accuracy on
# unseen inputs shows nothing of it.
