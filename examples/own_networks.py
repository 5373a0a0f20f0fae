"""Put hook points on networks that know nothing of them: an `nn.Sequential`, a ResNet18, a HuggingFace BERT.

Each is trained on labels of which a fifth is false. Then neurons are ablated, and what an example with a right label
holds is patched into one of the same class with a wrong label: which neurons, which branches keep the wrong label?

    python examples/own_networks.py --steps 60 --out runs/own_networks
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, ResNetConfig, ResNetForImageClassification

import mechmem as mm
from mechmem.core.roles import Output

CLASSES = 4
LOGITS = mm.Roles(output=Output(element="logits"))  # HuggingFace networks return them in a dataclass

parser = argparse.ArgumentParser(description="Attach hook points to networks of any kind.")
parser.add_argument("--steps", type=int, default=60, help="training steps of each network")
parser.add_argument("--out", type=Path, default=Path("runs/own_networks"), help="where figures are written")
arguments = parser.parse_args()


def mlp():
    """Your own `nn.Sequential`: a module's name is its number."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 4))
    task = fit(model, images(8, 400))
    net = mm.attach(model)
    subject = mm.Subject(net, task, name="Sequential")
    curves = mm.ablate(subject, at="4.hook_out", order="random", points=2)
    effects = mm.patch(subject, at="4.hook_out", units="neuron", **pairs(task), direction="denoising")
    show(subject, curves, effects)


def resnet18():
    """A ResNet18, random weights from a config: its eight branches by a pattern, what the classifier reads as input."""
    config = {"embedding_size": 16, "hidden_sizes": [16, 32, 64, 128], "depths": [2, 2, 2, 2], "layer_type": "basic"}
    model = ResNetForImageClassification(ResNetConfig(**config, num_labels=CLASSES))
    task = fit(model, images(16, 160))
    net = mm.attach(model, "*.layers.?.layer", "classifier.1.hook_in")
    subject = mm.Subject(net, task, LOGITS, name="ResNet18")
    curves = mm.ablate(subject, at="classifier.1.hook_in", order="random", points=2)
    effects = mm.patch(subject, at="*.layer.hook_out", **pairs(task), direction="denoising")
    show(subject, curves, effects)


def bert():
    """A BERT, random weights from a config: its MLPs' neurons, and what attention and MLPs write to the stream."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    model = BertForSequenceClassification(BertConfig(vocab_size=20, num_labels=CLASSES, **sizes))
    task = fit(model, sentences(200))
    net = mm.attach(model, "*.intermediate", "*.output.dense", "bert:pooler_output")
    subject = mm.Subject(net, task, LOGITS, name="BERT")
    curves = mm.ablate(subject, at="bert.encoder.layer.1.intermediate.hook_out", order="random", points=2)
    effects = mm.patch(subject, at="*.dense.hook_out", **pairs(task), direction="denoising")
    show(subject, curves, effects)


def images(side, n):
    """Return noisy images of four patterns, and which pattern each shows."""
    draw = torch.Generator().manual_seed(0)
    true = torch.arange(n) % CLASSES
    patterns = torch.randn(CLASSES, 3, side, side, generator=draw)
    return patterns[true] + torch.randn(n, 3, side, side, generator=draw), true


def sentences(n):
    """Return sentences of eight words, of which the first, under a fifth of the vocabulary, says the class."""
    words = torch.randint(20, (n, 8), generator=torch.Generator().manual_seed(0))
    return words, words[:, 0] % CLASSES


def fit(model, data):
    """Train on wrong labels too, with a plain loop; return the task."""
    inputs, true = data
    draw = torch.Generator().manual_seed(1)
    train = torch.rand(len(true), generator=draw) < 0.75
    wrong = train & (torch.rand(len(true), generator=draw) < 0.2)
    task = mm.ArrayTask(inputs, torch.where(wrong, (true + 1) % CLASSES, true), true, train, n_classes=CLASSES)
    x, labels = task.batch(task.train_ids)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(arguments.steps):
        returned = model(x)
        loss = F.cross_entropy(getattr(returned, "logits", returned), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    return task


def pairs(task):
    """Pair each wrongly labelled example with a rightly labelled one of the same class."""
    wrong, right = task.splits["train_noisy"], task.splits["train_clean"]
    partners = [right[task.true(right) == label][0] for label in task.true(wrong)]
    return {"ids": wrong, "donor_ids": torch.stack(partners)}


def show(subject, curves, effects):
    """Print what was found, and write the figures."""
    print(f"{subject.name}: {len(subject.model.hook_dict)} hook points")
    whole, half = (curves.at("random", share).set_index("split")["accuracy"] for share in (0, 0.5))
    for split in ("train_clean", "train_noisy", "test"):
        print(f"  ablate half of {curves.point}: {split} {whole[split]:.2f} -> {half[split]:.2f}")
    for row in effects.to_frame().nlargest(4, "effect").itertuples():
        print(f"  patch {row.name}: effect {row.effect:.2f} [{row.low:.2f}, {row.high:.2f}]")
    arguments.out.mkdir(parents=True, exist_ok=True)
    curves.plot().write_html(arguments.out / f"{subject.name}_ablated.html", include_plotlyjs="cdn")
    effects.plot().write_html(arguments.out / f"{subject.name}_patched.html", include_plotlyjs="cdn")


if __name__ == "__main__":
    torch.manual_seed(0)
    for network in (mlp, resnet18, bert):
        network()
    print(f"figures: {arguments.out}")
