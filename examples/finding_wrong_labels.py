"""
Which score finds wrong labels better than the plain loss?
==========================================================

A fifth of the labels of 500 handwritten digits is wrong. A score ranks the training examples by how much they look
memorized; the wrong labels, which it does not know, tell how good the ranking is.
"""

import mechmem as mm

task = mm.ImageConfig("digits", train=500, test=300, noise=mm.LabelNoise(0.2))
model = mm.ImageMLPConfig(widths=(128, 128, 128), biases=False, masks=mm.TurnOver(layers=(0, -1)))
config = mm.TrainConfig(
    task, model, optimizer="sgd", lr=0.01, weight_decay=0.0, batch_size=32, steps=2000, checkpoints=4
)
network = mm.train(config, out="runs/turn_over", progress=False)

# %%
scores = mm.example_scores(network, ["self_influence", "margin", "learning_speed", "forgetting_events", "tracin"])
scores

# %%
# The loss is in every table, and each score stands beside it. AUROC 0.5 is chance.
quality = mm.detect_label_noise(scores)
quality

# %%
# So none does, here: the plain loss finds the wrong labels with AUROC 0.99, the margin is as good, and every other
# score is worse.
