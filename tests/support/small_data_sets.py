"""Forty examples as every kind of data set: what tests of data sets read."""

import datasets
import pandas as pd
import torch
from torch.utils.data import TensorDataset

N = 40
X = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N) % 4
PAIRS = list(zip(X, Y.tolist(), strict=True))
FRAME = pd.DataFrame({"a": X[:, 0].numpy(), "b": X[:, 1].numpy(), "label": Y.numpy()})
FEATURES = FRAME[["a", "b"]]
TORCH = TensorDataset(X, Y)
OTHER = TensorDataset(X + 5, Y)
HF = datasets.Dataset.from_dict({"x": X.tolist(), "label": Y.tolist()}).with_format("torch")
IDS = torch.arange(4)
DICTS = [{"x": x, "label": y} for x, y in PAIRS]


def column(**columns):
    """Return the frame with other columns."""
    return FRAME.assign(**{name: list(values) for name, values in columns.items()})
