"""
Which images does a network have by heart?
==========================================

A fifth of the labels of 500 handwritten digits is wrong. The network was trained with turn-over dropout: for every
training image it holds a subnetwork that was never trained on it, so what an image does to the network can be
measured without training again.
"""

import mechmem as mm

task = mm.ImageConfig("digits", train=500, test=300, noise=mm.LabelNoise(0.2))
model = mm.ImageMLPConfig(widths=(128, 128, 128), biases=False, masks=mm.TurnOver(layers=(0, -1)))
config = mm.TrainConfig(
    task, model, optimizer="sgd", lr=0.01, weight_decay=0.0, batch_size=32, steps=2000, checkpoints=4
)
network = mm.train(config, out="runs/turn_over", progress=False)

# %%
# The most and the least memorized images by self-influence: the loss of the subnetwork that has not seen the image,
# less the loss of the one that has.
images = mm.analyse(network, "memorized_examples")
images

# %%
# One test image, and the training images without which it would be answered worst, and best.
influence = mm.analyse(network, "influential_examples")
influence

# %%
# So four in five of the fifty most memorized images carry a wrong label, where one in five of all images does; and
# the test image owes its answer most to images of its own class, mislabelled ones among them.
