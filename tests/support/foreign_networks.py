"""Networks as others write them: no hook point anywhere, work done in place, tuples and dicts returned."""

import torch
from torch import nn


class Block(nn.Module):
    """Two convolutions around a shortcut; one ReLU, in place, is used twice."""

    def __init__(self, inside, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or inside != width:
            self.downsample = nn.Sequential(nn.Conv2d(inside, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet(nn.Module):
    """A residual network of two-convolution blocks: 18 layers with depths (2, 2, 2, 2)."""

    def __init__(self, depths=(2, 2), width=4, classes=3):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        inside = width
        for stage, depth in enumerate(depths, 1):
            wide, blocks = width * 2 ** (stage - 1), []
            for place in range(depth):
                blocks.append(Block(inside, wide, 2 if stage > 1 and place == 0 else 1))
                inside = wide
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.avgpool, self.depths = nn.AdaptiveAvgPool2d(1), depths
        self.fc = nn.Linear(inside, classes)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        for stage in range(1, len(self.depths) + 1):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


class Tagger(nn.Module):
    """An LSTM (which returns a tuple in a tuple), called by keyword, then a dict of results."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.heads = nn.ModuleDict({"tag": nn.Linear(5, 3), "unused": nn.Linear(5, 2)})

    def forward(self, ids):
        out, (state, _cell) = self.lstm(input=self.embed(ids))
        return {"logits": self.heads["tag"](out), "state": state}


class Aliasing(nn.Module):
    """What an in-place ReLU does to a tensor is used again: leaving that out would be another network."""

    def __init__(self):
        super().__init__()
        self.linear, self.relu, self.same = nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Identity()

    def forward(self, x):
        hidden = self.linear(x)
        kept = self.same(hidden)
        return self.relu(hidden) + 10 * kept


class Shared(nn.Module):
    """One layer at two names, and a readout tied to the embedding."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.first = nn.Linear(4, 4)
        self.again = self.first
        self.readout = nn.Linear(4, 5, bias=False)
        self.readout.weight = self.embed.weight

    def forward(self, ids):
        return self.readout(torch.tanh(self.again(torch.tanh(self.first(self.embed(ids))))))


def sequential():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))


def seeded(make, *args, **settings):
    """A network with reproducible weights, in evaluation mode."""
    torch.manual_seed(0)
    return make(*args, **settings).eval()
