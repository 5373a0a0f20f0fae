"""Training a transformer: it finds the rule, Muon gets its matrices, and the audit has no crash half-way."""

import pytest
import torch
import torch.nn.functional as F

import mechmem as mm
from mechmem.models.networks.transformer import HookedModularTransformer
from mechmem.training.loop import training_step
from mechmem.training.minibatches import Batch
from mechmem.training.optimizers import Optimizers

SMALL = mm.TransformerConfig(d_model=32, heads=2)


def test_a_clean_task_is_generalized():
    task = mm.ModularConfig(p=23, noise=mm.LabelNoise(0))
    config = mm.TrainConfig(task, SMALL, lr=0.01, weight_decay=1.0, steps=600, evaluations=40, stop_when="test >= 0.9")
    last = mm.train(config, progress=False).run.history().iloc[-1]
    assert last["test"] >= 0.9 and last["train_clean"] == 1


@pytest.fixture(scope="module")
def fitted():
    """A tiny transformer that has fitted its wrong labels."""
    task = mm.ModularConfig(p=7, train_fraction=0.4, noise=mm.LabelNoise(0.3))
    model = mm.TransformerConfig(d_model=16, heads=2, d_mlp=16)
    return mm.train(mm.TrainConfig(task, model, lr=0.02, steps=60, evaluations=4, checkpoints=3), progress=False)


def test_wrong_labels_are_fitted(fitted):
    last = fitted.run.history().iloc[-1]
    assert last["train_noisy"] == 1 and last["train_clean"] == 1 and last["test"] < 0.5


def test_the_audit_fills_every_cell_or_says_why_not(fitted):
    card = mm.audit(fitted)
    rows = {row.extractor: row for row in card.rows}
    assert rows["raw"].splits["train_noisy"].estimate.value == 1
    for name in ("raw", "energy_ranked", "diagonal", "additive_free"):
        assert all(cell.estimate is not None for cell in rows[name].splits.values())
    for name in ("frequency", "frequency+quadratic", "frequency_rest"):
        assert all("residual stream" in cell.reason for cell in rows[name].splits.values())
    assert all(rows["raw"].controls[twin].estimate is not None for twin in ("untrained", "one_step", "noise_only"))


def test_measurements_run_over_training_and_through_hooks(fitted):
    assert mm.over_training(fitted, ["logit_spectrum"]) is not None
    point = "blocks.0.mlp.hook_post"
    curves = mm.ablate(fitted, order="random", points=2, draws=1)
    assert (curves.point, curves.width, curves.method) == (point, 16, "hooks")
    # Without its neurons the MLP writes its bias alone, whatever the example.
    model = fitted.copy_model()
    with torch.no_grad():
        model.blocks[0].mlp.W_out.zero_()
        logits = model(fitted.task.batch(fitted.task.test_ids)[0])
    expected = (logits.argmax(1) == fitted.task.true(fitted.task.test_ids)).double().mean().item()
    test = curves.to_frame().query("removed == 16 and split == 'test'")["accuracy"].item()
    assert test == pytest.approx(expected)


TASK = mm.ModularTask(mm.ModularConfig(p=7, noise=mm.LabelNoise(0.3)))
INPUTS, GIVEN = TASK.batch(TASK.train_ids)
EXAMPLES = Batch(TASK.train_ids, INPUTS, GIVEN)


def test_muon_gets_the_blocks_matrices_head_by_head_and_adamw_the_rest():
    config = mm.TrainConfig(optimizer="muon", lr=0.02, weight_decay=0.3, momentum=0.8)
    settings = mm.TransformerConfig(d_model=8, heads=2, d_head=3, d_mlp=12, layer_norm=True, biases="all")
    model, plain = (HookedModularTransformer(settings, 7, seed=2).double().train() for _ in range(2))
    optimizers = Optimizers(config, model, model.roles)
    leaves, rest = {}, []
    for name, parameter in plain.named_parameters():
        if name.startswith("blocks.") and ".W_" in name:
            parts = parameter.detach() if parameter.ndim == 3 else parameter.detach()[None]
            leaves[name] = [part.T.clone().requires_grad_() for part in parts]
        else:
            rest.append(parameter)
    assert [name.rpartition(".")[2] for name in leaves] == ["W_Q", "W_K", "W_V", "W_O", "W_in", "W_out"]
    muon = torch.optim.Muon(sum(leaves.values(), []), lr=0.02, weight_decay=0.3, momentum=0.8)
    adamw = torch.optim.AdamW(rest, lr=0.02, weight_decay=0.3)
    named = dict(plain.named_parameters())
    for _ in range(3):
        training_step(model, optimizers, EXAMPLES, config, rows=1000, masks=())
        plain.zero_grad()
        F.cross_entropy(plain(INPUTS), GIVEN).backward()
        for name, parts in leaves.items():
            gradients = named[name].grad if named[name].ndim == 3 else [named[name].grad]
            for part, gradient in zip(parts, gradients, strict=True):
                part.grad = gradient.T.clone()
        muon.step()
        adamw.step()
        with torch.no_grad():
            for name, parts in leaves.items():
                moved = torch.stack([part.T for part in parts])
                named[name].copy_(moved if named[name].ndim == 3 else moved[0])
    for name, parameter in model.named_parameters():
        # Muon orthogonalises in bfloat16, where a rounding that falls the other way is worth 1e-2 of a step.
        torch.testing.assert_close(parameter, named[name], rtol=0, atol=2e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("rows", [1, 10, 1000])
def test_row_blocks_add_up_to_the_full_batch(rows, precision):
    model = HookedModularTransformer(SMALL, 7, seed=1).train()
    config = mm.TrainConfig(optimizer="sgd", lr=1e-9, precision=precision)
    training_step(model, Optimizers(config, model, model.roles), EXAMPLES, config, rows, ())
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    F.cross_entropy(model(INPUTS), GIVEN).backward()
    for gradient, parameter in zip(found, model.parameters(), strict=True):
        scale = float(parameter.grad.abs().max())
        torch.testing.assert_close(
            gradient, parameter.grad, rtol=0, atol=scale * (1e-4 if precision == "fp32" else 0.1)
        )
