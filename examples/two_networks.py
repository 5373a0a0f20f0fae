"""
Two networks have memorized their wrong labels. Does either know the rule?
===========================================================================

Both learned a + b mod 59 and answer every training example as they were told to, wrong labels included. Of one
network's training labels 30 % are wrong, of the other's 80 %. Seen from outside, neither has understood anything.
"""

import mechmem as mm


def config(noise):
    task = mm.ModularConfig(op="add", p=59, train_fraction=0.8, noise=mm.LabelNoise(noise))
    model = mm.MLPConfig(width=512)
    return mm.TrainConfig(task, model, weight_decay=1.0, steps=3000, checkpoints=1)


# A finished run is opened; where there is none, the network is trained: a minute or two each.
hidden_rule = mm.train(config(0.3), out="runs/hidden_rule", progress=False)
heavy_noise = mm.train(config(0.8), out="runs/heavy_noise", progress=False)

# %%
# A scorecard reads the network in several ways, and repeats each on networks that cannot know the rule: before
# training, after one step, trained on labels that are nothing but noise. Accuracy that these reach too is no
# evidence.
hidden = mm.audit(hidden_rule)
hidden

# %%
# The second network gives nearly the same accuracies to anyone who filters it by frequency. But frequency filtration
# knows the group, and with it the labels alone say the same: 80 % of them are wrong, and the rest outvotes them.
heavy = mm.audit(heavy_noise)
heavy

# %%
# What separates them is a test on inputs whose labels the network never saw, and which no symmetry gives away.
print(hidden.sentence)
print(heavy.sentence)

# %%
# So the first network computes the rule beneath its wrong labels, and the second one, for all its filtered accuracy,
# is not shown to know anything but its labels.
