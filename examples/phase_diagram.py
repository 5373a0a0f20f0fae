"""
How many wrong labels does the rule survive, and how much data does it need?
=============================================================================

A sweep: twenty small networks learn a + b mod 19, with five shares of wrong labels, on four shares of all pairs. What
do they answer on the pairs that they were not trained on, and what is read out of them?
"""

import mechmem as mm

sweep = mm.sweep(
    mm.TrainConfig(
        mm.ModularConfig(p=19), mm.MLPConfig(width=96), weight_decay=1.0, steps=1500, checkpoints=1, evaluations=4
    ),
    {"label_noise": [0.1, 0.2, 0.3, 0.4, 0.6], "train_fraction": [0.5, 0.65, 0.8, 0.9]},
    measure=["raw", "shared_subspaces+additive_free", "frequency+quadratic"],
    out="runs/phases",
    progress=False,
)

# %%
# Every network fits its wrong labels, nearly all of them.
sweep.plot(x="label_noise", y="train_fraction", color="raw:train_noisy")

# %%
# The network itself, on pairs that it was not trained on:
sweep.plot(x="label_noise", y="train_fraction", color="raw")

# %%
# Told nothing:
sweep.plot(x="label_noise", y="train_fraction", color="shared_subspaces+additive_free")

# %%
# Told the group. A majority vote of the training labels would do as well.
sweep.plot(x="label_noise", y="train_fraction", color="frequency+quadratic")

# %%
# Or as lines:
sweep.plot(x="label_noise", y="shared_subspaces+additive_free", color="train_fraction")

# %%
# So these networks, which are small, answer nothing new by themselves; what is told nothing reads up to two thirds of
# the answers where labels are mostly right and data are many, and little else. :doc:`../sweeps` goes on from here:
# seeds with their intervals, files, clusters, and what happens when something happens.
