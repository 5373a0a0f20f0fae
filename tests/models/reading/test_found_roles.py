"""Roles that are proposed are those of the network: planted in every form, and never by name or shape alone."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mechmem as mm
from mechmem.errors import ConfigError

P = 11
TASK = mm.ModularTask(mm.ModularConfig(p=P, noise=mm.LabelNoise(0.2)))


class Own(nn.Module):
    """The same network with its weights stored in one form or another."""

    def __init__(self, form, bias=True):
        super().__init__()
        torch.manual_seed(0)
        table, readout = torch.randn(2, P, 16), torch.randn(16, P)
        self.form, self.table = (
            form,
            {
                "stacked": table,
                "rows": table.reshape(2 * P, 16),
                "columns": table.reshape(2 * P, 16).T.clone(),
                "tied": table[0],
                "tied-columns": table[0].T.clone(),
                "two": table,
            }[form],
        )
        self.decoy = nn.Parameter(torch.randn(2, P, 16))
        if form == "two":
            self.left, self.right = (nn.Embedding.from_pretrained(each, freeze=False) for each in table)
        else:
            self.table = nn.Parameter(self.table)
        self.first = nn.Identity()
        self.activation = nn.GELU()
        self.readout = nn.Linear(16, P, bias=bias)
        self.shift = nn.Parameter(torch.randn(16))
        with torch.no_grad():
            self.readout.weight.copy_(readout.T)

    def forward(self, pairs):
        a, b = pairs.T
        if self.form == "two":
            total = self.left(a) + self.right(b)
        elif self.form == "stacked":
            total = self.table[0][a] + self.table[1][b]
        elif self.form == "rows":
            total = self.table[a] + self.table[b + P]
        elif self.form == "columns":
            total = self.table.T[a] + self.table.T[b + P]
        else:
            table = self.table if self.form == "tied" else self.table.T
            total = table[a] + table[b]
        return self.readout(self.activation(self.first(total + self.shift)))


PATTERNS = {
    "stacked": ("table", "operand p neuron -> operand p neuron"),
    "rows": ("table", "(operand p) neuron -> operand p neuron"),
    "columns": ("table", "neuron (operand p) -> operand p neuron"),
    "tied": ("table", "p neuron -> operand p neuron"),
    "tied-columns": ("table", "neuron p -> operand p neuron"),
    "two": (("left.weight", "right.weight"), "operand p neuron -> operand p neuron"),
}


@pytest.mark.parametrize("form", PATTERNS)
def test_every_form_of_an_input_embedding_is_found(form):
    model = Own(form).eval()
    found = mm.roles_from(model, TASK)
    roles = found.roles
    assert (roles.input_embedding.parameter, roles.input_embedding.pattern) == PATTERNS[form]
    assert roles.readout == mm.Role("readout.weight", "classes neuron -> neuron classes")
    assert roles.bias == mm.Role("readout.bias", "classes -> classes")
    assert roles.hidden == ("activation.hook_out",) and roles.activation == "activation"
    # They are enough for what needs all of them, and read the weights as they are.
    table, a, b = roles.input_embedding.read(model), *TASK.operands.T
    total = table[0][a] + table[1][b] + model.shift
    assert torch.allclose(
        F.gelu(total) @ roles.readout.read(model) + roles.bias.read(model), model(TASK.operands), atol=1e-4
    )
    assert len(mm.analyse(found.network, "fourier_classification").to_frame()) == 16
    assert (found.table["found"] != "").all()


def test_logits_that_are_all_the_same_tell_no_readout():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4))
    for each in model[4].parameters():
        nn.init.zeros_(each)
    inputs, labels = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 4
    found = mm.roles_from(model, mm.ArrayTask(inputs, labels, labels, torch.arange(20) < 12))
    row = found.to_frame().set_index("role").loc["readout"]
    assert found.roles.readout is None and "have the same logits" in row["checked"]


def test_what_is_not_the_logits_is_no_readout():
    class Scaled(Own):
        def forward(self, pairs):
            return 2 * super().forward(pairs)

    found = mm.roles_from(Scaled("stacked"), TASK)
    row = found.to_frame().set_index("role").loc["readout"]
    assert found.roles.readout is None and found.roles.bias is None and row["found"] == ""
    assert "no parameter of 11 classes makes the logits" in row["checked"]
    assert found.roles.input_embedding is not None


def test_a_readout_may_have_no_bias_and_an_activation_no_module():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(2 * P, 16), nn.Linear(16, P, bias=False)

        def forward(self, pairs):
            return {"logits": self.last(F.relu(self.first(F.one_hot(pairs, P).float().flatten(1))))}

    found = mm.roles_from(Functional(), TASK)
    assert found.roles.output.element == "logits"
    assert found.roles.bias is None and found.roles.activation is None and found.roles.hidden == ("last.hook_in",)
    assert found.roles.input_embedding == mm.Role(
        "first.weight", "neuron (operand p) -> operand p neuron", {"operand": 2}
    )
    assert mm.audit(found.network, "raw").row("raw").splits["test"].estimate.n == len(TASK.test_ids)


def test_own_networks_are_found_as_they_name_themselves():
    config = mm.TrainConfig(TASK.config, mm.MLPConfig(32), steps=2)
    model = mm.train(config, progress=False).model
    found = mm.roles_from(model, TASK)
    assert found.network.model is model
    for name in ("input_embedding", "readout", "bias", "activation", "hidden"):
        assert getattr(found.roles, name) == getattr(model.roles, name), name


def test_images_and_sequences():
    draw = torch.Generator().manual_seed(0)
    images, labels = torch.randn(40, 1, 6, 6, generator=draw), torch.arange(40) % 3
    task = mm.ArrayTask(images, labels, labels, torch.arange(40) < 30)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
    found = mm.roles_from(model, task)
    assert found.roles.hidden == ("1.hook_out", "4.hook_out") and found.roles.activation == ("1", "4")
    assert found.roles.readout.parameter == "5.weight" and found.roles.input_embedding is None

    class Sequence(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.mix, self.out = nn.Embedding(20, 8), nn.Linear(8, 8), nn.Linear(8, 5)

        def forward(self, words):
            return self.out(torch.tanh(self.mix(self.words(words).cumsum(1))))

    words = torch.randint(20, (40, 6), generator=draw)
    found = mm.roles_from(Sequence(), mm.ArrayTask(words, labels, labels, torch.arange(40) < 30))
    assert (found.roles.output.position, found.roles.output.classes) == (-1, 3)
    assert found.table.set_index("role").loc["output", "checked"].endswith("which nothing checks")


def test_a_notebook_s_cell_can_be_run_again():
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    labels = torch.arange(30) % 3
    task = mm.ArrayTask(torch.randn(30, 3), labels, labels, torch.arange(30) < 20)
    found = mm.roles_from(model, task)
    again = mm.roles_from(model, task)
    assert again.network.model is found.network.model and again.table.equals(found.table)
    del found
    again.network.model.detach()
    assert mm.activations(mm.roles_from(model, task).network, "1.hook_out", ids=task.ids)["1.hook_out"].shape == (30, 8)


def test_a_network_without_logits_or_that_does_not_run_says_so():
    found = mm.roles_from(nn.Flatten(), TASK)
    assert found.roles == mm.Roles() and "nothing of shape (example, class)" in str(found)
    with pytest.raises(ConfigError, match="does not run on the task's inputs"):
        mm.roles_from(nn.Linear(3, 3), TASK)
