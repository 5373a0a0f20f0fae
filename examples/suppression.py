"""
What holds the rule down where the network answers a wrong label?
==================================================================

The network knows a + b mod 59 and yet gives the wrong label on every cell where it was trained on one. Its logits on
a cell are a sum of three parts: effects of a alone and of b alone, the rule, and the rest.
"""

import mechmem as mm

task = mm.ModularConfig(op="add", p=59, train_fraction=0.8, noise=mm.LabelNoise(0.3))
config = mm.TrainConfig(task, mm.MLPConfig(width=512), weight_decay=1.0, steps=3000, checkpoints=1)
network = mm.train(config, out="runs/hidden_rule", progress=False)

# %%
# The margin of a label over its strongest rival, split into the three parts.
parts = mm.analyse(network, "suppression")
parts

# %%
# And what the network answers, on every cell.
mm.analyse(network, "cell_outcomes")

# %%
# So the rule supports the true answer on wrongly labelled cells as much as anywhere, by six logits, and is outweighed
# there by what the network keeps for the cell alone.
