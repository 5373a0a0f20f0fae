"""
Do a paper's claims hold?
=========================

``mechmem reproduce kobayashi_2020 --scale small`` trained the networks that the claims on turn-over dropout need,
three seeds each, and judged each claim by a rule that was fixed before the run. Its ledger was saved.
"""

import plotly.express as px

import mechmem as mm

ledger = mm.Ledger.load("runs/kobayashi_2020.safetensors")
ledger

# %%
# The measured figures with their 95 % intervals over seeds. A claim whose interval includes its bound is undecided.
findings = ledger.to_frame()
findings["more"] = findings["high"] - findings["value"]
figure = px.scatter(
    findings,
    x="value",
    y="claim",
    color="verdict",
    symbol="verdict",
    error_x="more",
    color_discrete_sequence=["#d55e00", "#009e73", "#6b6b6b"],
    labels={"value": "measured (mean over seeds, 95 % interval)", "claim": ""},
    height=420,
)
figure

# %%
# So two of the seven hold here, two do not, and three cannot be told with three seeds: the dropout isolates every
# example and unlearns it, but costs accuracy, and training on other examples still moves what it should leave alone.
