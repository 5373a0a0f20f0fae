"""
How many wrong labels does the rule survive, and how much data does it need?
=============================================================================

Twenty small networks learn a + b mod 19: five shares of wrong labels, on four shares of all pairs. What do they
answer on the pairs that they were not trained on, and what is read out of them?
"""

import pandas as pd
import plotly.express as px

import mechmem as mm

measured = []
for noise in (0.1, 0.2, 0.3, 0.4, 0.6):
    for fraction in (0.5, 0.65, 0.8, 0.9):
        task = mm.ModularConfig(p=19, train_fraction=fraction, noise=mm.LabelNoise(noise))
        config = mm.TrainConfig(
            task, mm.MLPConfig(width=96), weight_decay=1.0, steps=1500, checkpoints=1, evaluations=4
        )
        network = mm.train(config, out=f"runs/phases/{noise}_{fraction}", progress=False)
        extractors = ["raw", "shared_subspaces+additive_free", "frequency+quadratic"]
        last = mm.over_training(network, extractors, steps=[config.steps]).to_frame()
        measured.append(last[last.split.isin(["train_noisy", "test"])].assign(noise=noise, fraction=fraction))
table = pd.concat(measured)

# %%
# Every network fits its wrong labels, all of them.
fitted = table[(table.what == "raw") & (table.split == "train_noisy")].pivot(
    index="noise", columns="fraction", values="value"
)
fitted.round(2)

# %%
# Test accuracy of the network itself, told nothing, and told the group. Told the group, a majority vote of the
# training labels would do as well.
test = table[table.split == "test"]
names = {"raw": "the network itself", extractors[1]: "told nothing", extractors[2]: "told the group"}
panels = test.assign(
    noise=[f"{noise:.0%}" for noise in test.noise],
    fraction=[f"{fraction:.0%}" for fraction in test.fraction],
    what=test.what.map(names),
)
figure = px.density_heatmap(
    panels,
    x="noise",
    y="fraction",
    z="value",
    histfunc="avg",
    facet_col="what",
    text_auto=".2f",
    range_color=[0, 1],
    color_continuous_scale="Viridis",
    labels={"noise": "wrong labels", "fraction": "pairs trained on"},
    height=400,
)
figure.for_each_annotation(lambda heading: heading.update(text=heading.text.split("=")[1]))
figure.update_layout(coloraxis_colorbar_title="test<br>accuracy")
figure

# %%
# So these networks, which are small, answer nothing new by themselves; what is told nothing reads up to two thirds of
# the answers where labels are mostly right and data are many, and little else.
