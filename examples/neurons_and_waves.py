"""
What does a single neuron compute?
==================================

In a network that adds mod 59, a neuron sees a and b through two vectors of weights, and writes to the classes by a
third. What do these vectors look like after training on labels of which 30 % are wrong?
"""

import mechmem as mm

task = mm.ModularConfig(op="add", p=59, train_fraction=0.8, noise=mm.LabelNoise(0.3))
config = mm.TrainConfig(task, mm.MLPConfig(width=512), weight_decay=1.0, steps=3000, checkpoints=1)
network = mm.train(config, out="runs/hidden_rule", progress=False)

# %%
# The energy of each neuron's vectors by frequency. A quarter of the neurons have more than half of it in one.
mm.analyse(network, "neuron_spectrum")

# %%
# A neuron adds when the phase of its output wave is the sum of the phases of its input waves, which puts it on the
# diagonal. Four of five do, more than random neurons would.
phases = mm.analyse(network, "fourier_classification")
phases

# %%
# One neuron by itself: its three waves, their spectra, and the training cells whose wrong label it supports most.
scores = mm.neuron_scores(network, ["ipr"]).to_frame()
clearest = int(scores.sort_values("ipr").iloc[-1]["neuron"])
mm.neuron(network, clearest)

# %%
# So a neuron is, at its clearest, a wave of one frequency in a, in b and in the answer, and its phases add: together
# such waves compute a + b. What is left of the vectors holds the wrong labels.
