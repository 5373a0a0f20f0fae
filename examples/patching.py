"""
Where is a wrong label kept: in a few neurons, or in all of them?
==================================================================

Two networks learned a + b mod 23 from the same initial weights: one with a fifth of its labels wrong, one with all of
them right. Activations of one are put into the other, and activations of a rightly labelled example into the forward
pass of a wrongly labelled one.
"""

import mechmem as mm


def trained(noise, name):
    task = mm.ModularConfig(op="add", p=23, train_fraction=0.8, noise=mm.LabelNoise(noise))
    config = mm.TrainConfig(task, mm.MLPConfig(width=192), lr=3e-3, weight_decay=1.0, steps=600, checkpoints=1)
    return mm.train(config, out=f"runs/{name}", progress=False)


noisy, clean = trained(0.2, "noisy_23"), trained(0.0, "clean_23")

# %%
# Between the networks, all that a hook point holds.
mm.patch(noisy, clean)

# %%
# Within the noisy network, between examples: all neurons of one key frequency at a time.
frequencies = mm.patch(noisy, units="frequency")
frequencies

# %%
# And neuron by neuron.
neurons = mm.patch(noisy, units="neuron", direction="denoising")
effect = neurons.to_frame()["effect"].sort_values(ascending=False)
half = int((effect.cumsum() < effect.sum() / 2).sum()) + 1
print(f"{half} of {len(effect)} neurons carry half of the difference between two examples")

# %%
# So a wrong label is spread out: no frequency carries more than a ninth of it, and it takes a third of all neurons to
# make up half of the difference.
