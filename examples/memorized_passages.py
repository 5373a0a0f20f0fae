"""
Which passages does a language model know by heart, and is it enough that it can no longer recite them?
========================================================================================================

A causal transformer reads sequences from a planted grammar, in which each of 32 tokens has its own probabilities for
the next one. Random passages are among them, shown once to 16 times an epoch. Each sequence trains memory units of its
own beside the shared ones (example-tied dropout, by sequence).
"""

import pandas as pd

import mechmem as mm

task = mm.GrammarConfig(vocabulary=32, order=1, length=32, train=2000, repeats=(1, 2, 4, 8, 16))
model = mm.CausalTransformerConfig(layers=2, d_model=64, masks=mm.ExampleTied(stream=False))
config = mm.TrainConfig(task, model, lr=0.002, batch_size=64, steps=400, evaluations=20, checkpoints=1)
network = mm.train(config, out="runs/sequences", progress=False)

# %%
# The share of sequences that are continued exactly, by each sequence's own units. Those from the grammar are not: they
# can be continued in many ways.
with mm.subnetwork(network, "own"):
    found = mm.memorized_sequences(network, [2, 8, 16])
found

# %%
# What edits take from the passages known by heart, and from the prediction of sequences never shown. The grammar itself
# leaves 2.15 nats per token, at best. Sequences never shown trained no units of their own, so they lose nothing by it.
with mm.subnetwork(network, "own"):
    edits = mm.sequence_edits(network, ["drop_memory", "drop(random,0.3)", "low_rank(blocks.1.mlp.W_out,8)"])
edits

# %%
# Each sequence's own units, the network as it is usually run, and the network without memory units. Exposure is how the
# losses of passages rank among those of 64 passages never shown, in bits: 6 is below all of theirs, 1.4 is chance.
tables = []
for part in ("own", "full", "shared"):
    with mm.subnetwork(network, part):
        tables.append(mm.memorized_sequences(network, [8]).by_times().assign(units=part))
table = pd.concat(tables).query("group == 'passage' or part == 'test'")
table[["units", "part", "group", "times", "n", "exact", "loss", "exposure", "exposure_low", "exposure_high"]]

# %%
# So it is not: only by a passage's own units is it recited, 15 of 40. As a whole or without memory units the network
# recites none, and predicts sequences never shown equally well; but whoever compares losses can still tell every
# passage that was shown 8 times or more.
