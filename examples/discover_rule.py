"""
Can the rule be written down by someone who is told nothing?
============================================================

The network learned to multiply residues mod 59, with 20 % wrong labels. The extractor gets its weights and the pairs
that it was trained on: no operation, no group, no labels, no test input.
"""

import mechmem as mm

task = mm.ModularConfig(op="multiply", p=59, train_fraction=0.8, noise=mm.LabelNoise(0.2))
config = mm.TrainConfig(task, mm.MLPConfig(width=512), weight_decay=1.0, steps=3000, checkpoints=1)
network = mm.train(config, out="runs/multiply_59", progress=False)

# %%
# Neurons that carry a rule share the subspaces of their input and output vectors; what a neuron has alone holds
# memorized labels, and is removed. The answers that are left form a table, and the table is compared with every
# finite group of its size.
rule = mm.discover_rule(network)
rule

# %%
print(rule.sentence)

# %%
# The same on the network before training, as a control.
untrained = mm.discover_rule(network.with_model(network.run.model_at(0)))
print(untrained.sentence)

# %%
# So the network holds multiplication mod 59, which is the cyclic group of order 58, and the rule can be read from its
# weights without being told what to look for.
