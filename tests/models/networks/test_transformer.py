"""The transformer against a plain one, TransformerLens's own, and one whose logits are known in closed form."""

import itertools
import random

import pytest
import scipy.special
import torch
import torch.nn.functional as F

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError, ScoreError, UnknownNameError
from mechmem.models.networks.build import build_model
from mechmem.models.networks.dropout import begin_step, dropout_layers
from mechmem.models.networks.transformer import HookedModularTransformer
from mechmem.models.reading.weights import layer_vectors, neuron_vectors, neuron_weights
from mechmem.scorecard.pruned import pruned

P = 5
PAIRS = torch.cartesian_prod(torch.arange(P), torch.arange(P))
PHI = {
    "relu": lambda x: x.clamp(min=0),
    "reverse_relu": lambda x: (-x).clamp(min=0),
    "quadratic": lambda x: x**2,
    "gelu": lambda x: x * torch.as_tensor(scipy.special.ndtr(x.numpy())),
}


def network(p=P, seed=0, **settings):
    """A network in float64 all of whose parameters are random, biases and LayerNorm's among them."""
    model = HookedModularTransformer(mm.TransformerConfig(**{"d_model": 6, "heads": 2, **settings}), p, seed).double()
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=torch.float64) * 0.5)
    return model.eval()


def subject_of(model):
    labels = PAIRS.sum(1) % P
    task = mm.ArrayTask(PAIRS, labels, labels, torch.arange(P * P) < 20, operands=PAIRS, operation="add")
    return mm.Subject(model, task, model.roles)


def plain(model, pairs):
    """Every point of the network, by torch's own attention and LayerNorm."""
    c, w, found = model.config, {name: value.detach() for name, value in model.named_parameters()}, {}
    tokens = pairs if c.tokens == 2 else torch.cat([pairs, torch.full((len(pairs), 1), model.p)], 1)
    found["hook_embed"] = w["embed.W_E"][tokens]
    found["hook_pos_embed"] = w["pos_embed.W_pos"].expand(len(pairs), -1, -1)
    x = found["hook_embed"] + found["hook_pos_embed"]

    def norm(name, x):
        if not c.layer_norm:
            return x
        found[f"{name}.hook_scale"] = (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        found[f"{name}.hook_normalized"] = F.layer_norm(x, x.shape[-1:])
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.w"], w[f"{name}.b"])

    for number in range(c.layers):
        block, attn = f"blocks.{number}", f"blocks.{number}.attn"
        found[f"{block}.hook_resid_pre"] = x
        read = norm(f"{block}.ln1", x)
        q, k, v = (
            torch.stack([read @ m for m in w[f"{attn}.W_{name}"]], 1)
            + (w[f"{attn}.b_{name}"][:, None] if c.biases == "all" else 0)
            for name in "QKV"
        )
        causal = c.attention == "causal"
        z = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        scores = q @ k.mT / q.shape[-1] ** 0.5
        if causal:
            scores = scores + torch.full(scores.shape[-2:], -torch.inf).triu(1)
        for name, value in (("q", q), ("k", k), ("v", v), ("z", z)):
            found[f"{attn}.hook_{name}"] = value.transpose(1, 2)
        found[f"{attn}.hook_attn_scores"], found[f"{attn}.hook_pattern"] = scores, scores.softmax(-1)
        results = torch.stack([z[:, h] @ m for h, m in enumerate(w[f"{attn}.W_O"])], 2)
        found[f"{attn}.hook_result"] = results
        found[f"{block}.hook_attn_out"] = results.sum(2) + (w[f"{attn}.b_O"] if c.biases == "all" else 0)
        x = x + found[f"{block}.hook_attn_out"]
        if c.mlp_width:
            found[f"{block}.hook_resid_mid"], mlp = x, f"{block}.mlp"
            pre = norm(f"{block}.ln2", x) @ w[f"{mlp}.W_in"] + (w[f"{mlp}.b_in"] if c.biases != "none" else 0)
            found[f"{mlp}.hook_pre"], found[f"{mlp}.hook_post"] = pre, PHI[c.activation](pre)
            written = found[f"{mlp}.hook_post"] @ w[f"{mlp}.W_out"] + (w[f"{mlp}.b_out"] if c.biases != "none" else 0)
            found[f"{block}.hook_mlp_out"], x = written, x + written
        found[f"{block}.hook_resid_post"] = x
    logits = norm("ln_final", x)[:, -1] @ w["unembed.W_U"]
    found["hook_logits"] = logits + (w["unembed.b_U"] if c.biases == "all" else 0)
    return found


AXES = {
    "attention": ("causal", "bidirectional"),
    "tokens": (2, 3),
    "layer_norm": (False, True),
    "biases": ("none", "mlp", "all"),
    "widths": ({}, {"d_mlp": 7, "d_head": 5}, {"d_mlp": 0}),
}
GRID = [dict(zip(AXES, values, strict=True)) for values in itertools.product(*AXES.values())]
random.Random(0).shuffle(GRID)


@pytest.mark.parametrize("activation", PHI)
def test_every_point_is_a_plain_transformers(activation):
    # Every combination of the other settings meets some activation, and one or two layers.
    for number, settings in enumerate(GRID[list(PHI).index(activation) :: len(PHI)]):
        settings = {key: value for key, value in settings.items() if key != "widths"} | settings["widths"]
        model = network(activation=activation, layers=1 + number % 2, **settings)
        found, expected = mm.activations(subject_of(model), ids=torch.arange(P * P)), plain(model, PAIRS)
        assert set(found) == set(expected), settings
        for name, value in expected.items():
            torch.testing.assert_close(
                found[name], value, rtol=1e-11, atol=1e-11, msg=lambda m, n=f"{name}, {settings}": f"{n}: {m}"
            )
        torch.testing.assert_close(model(PAIRS).detach(), expected["hook_logits"], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"layers": 2, "layer_norm": True, "biases": "all", "attention": "bidirectional"},
        {"activation": "gelu", "d_head": 4},
        {"d_mlp": 0, "tokens": 2},
    ],
)
def test_transformer_lens_takes_the_parameters_and_holds_the_same_at_the_same_points(settings):
    native = pytest.importorskip("transformer_lens.model_bridge.sources.native")
    pytest.importorskip("transformer_lens.utilities.tl_checkpoint_conversion")
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint

    model = network(**settings)
    c = model.config
    config = TransformerBridgeConfig(
        d_model=c.d_model,
        n_layers=c.layers,
        n_heads=c.heads,
        d_head=c.head_width,
        d_mlp=c.mlp_width or 1,
        n_ctx=c.tokens,
        d_vocab=P + c.tokens - 2,
        d_vocab_out=P,
        act_fn=c.activation,
        attn_only=c.mlp_width == 0,
        normalization_type="LN" if c.layer_norm else None,
        attention_dir=c.attention,
        positional_embedding_type="standard",
        architecture="TransformerLensNative",
    )
    bridge = native.boot(config, dtype=torch.float64)
    zeros = {name: torch.zeros_like(value) for name, value in bridge.state_dict().items() if name.endswith("bias")}
    bridge.load_state_dict(zeros | convert_tl_checkpoint(model.state_dict(), config), strict=True)
    tokens = torch.cat([PAIRS, torch.full((P * P, c.tokens - 2), P)], 1)
    logits, theirs = bridge.run_with_cache(tokens)
    torch.testing.assert_close(logits[:, -1], model(PAIRS), rtol=0, atol=1e-11)
    mine = mm.activations(subject_of(model), ids=torch.arange(P * P))
    # Their native network fires hook_attn_scores with the pattern, and hook_result on request only.
    for name in set(mine) - {"hook_logits"}:
        if not name.endswith(("hook_attn_scores", "hook_result")):
            torch.testing.assert_close(mine[name], theirs[name].detach(), rtol=0, atol=1e-11)


def test_a_planted_rule_has_the_logits_of_its_formula():
    """Attention adds up the two symbols, quadratic neurons in J = 3 phases multiply their cosines.

    logits_c = J (½ S(a + b − c) + ¼ S(2a − c) + ¼ S(2b − c)) with S(x) = Σ_k cos(2πkx / p) = (p [x = 0] − 1) / 2.
    """
    p, phases = 11, 3
    freq = torch.arange(1, (p - 1) // 2 + 1).double()
    settings = {"d_model": 2 * p, "heads": 1, "d_head": p, "d_mlp": phases * len(freq), "activation": "quadratic"}
    model = network(p, **settings, biases="none")
    state = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    eye, symbol = torch.eye(p).double(), torch.arange(p).double()
    phase = 2 * torch.pi * torch.arange(phases).double() / phases
    state["embed.W_E"][:p, :p] = eye
    state["blocks.0.attn.W_V"][0, :p], state["blocks.0.attn.W_O"][0, :, :p] = eye, 3 * eye
    angle = 2 * torch.pi * torch.einsum("s,k->sk", symbol, freq) / p
    state["blocks.0.mlp.W_in"][:p] = (angle[..., None] + phase).cos().flatten(1)
    state["blocks.0.mlp.W_out"][:, p:] = (angle[..., None] + 2 * phase).cos().flatten(1).T
    state["unembed.W_U"][p:] = eye
    model.load_state_dict(state)
    pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    (a, b), c = pairs.unbind(1), torch.arange(p)

    def bump(x):
        return (p * ((x[:, None] - c) % p == 0).double() - 1) / 2

    expected = phases * (bump(a + b) / 2 + bump(2 * a) / 4 + bump(2 * b) / 4)
    torch.testing.assert_close(model(pairs).detach(), expected, rtol=0, atol=1e-11)
    assert torch.equal(model(pairs).argmax(1), (a + b) % p)


class Watch(torch.nn.Module):
    """Remembers the shape of what passes; no hook, so nothing looks at the network."""

    def forward(self, x):
        self.shape = tuple(x.shape)
        return torch.relu(x)


@pytest.mark.parametrize("settings", [{}, {"layers": 2, "layer_norm": True, "attention": "bidirectional"}])
def test_training_leaves_out_what_no_logit_depends_on(settings):
    found = {}
    for watched in (False, True):
        model = network(biases="all", **settings).train()
        watch = model.blocks[-1].mlp.activation = Watch()
        point = model.blocks[-1].hook_resid_post if watched else model.hook_embed
        point.add_hook(lambda value, hook: None)
        logits = model(PAIRS)
        F.cross_entropy(logits, PAIRS.sum(1) % P).backward()
        assert watch.shape == (P * P, 3 if watched else 1, 24)
        found[watched] = [logits.detach(), *(parameter.grad for parameter in model.parameters())]
    for short, full in zip(found[False], found[True], strict=True):
        torch.testing.assert_close(short, full, rtol=0, atol=1e-12)
    model.eval()
    model.reset_hooks()
    assert model(PAIRS) is not None and watch.shape[1] == 3


def test_looking_on_does_not_change_what_dropout_drops():
    model = network(dropout=0.4, layers=2).train()
    begin_step(dropout_layers(model), 3, 0)
    alone = model(PAIRS)
    begin_step(dropout_layers(model), 3, 0)
    with model.hooks([("blocks.1.hook_resid_post", lambda value, hook: None)]):
        assert torch.equal(model(PAIRS), alone)


def test_dropout_draws_row_by_row_in_training_only():
    model = network(dropout=0.4, layers=2, biases="all").train()
    begin_step(dropout_layers(model), seed=0, step=7)
    whole = model(PAIRS)
    begin_step(dropout_layers(model), seed=0, step=7)
    torch.testing.assert_close(torch.cat([model(PAIRS[:9]), model(PAIRS[9:])]), whole, rtol=0, atol=1e-12)
    begin_step(dropout_layers(model), seed=0, step=8)
    assert (model(PAIRS) - whole).abs().max() > 1e-3
    torch.testing.assert_close(model.eval()(PAIRS), network(layers=2, biases="all")(PAIRS))
    # Embeddings, then pattern, attention and MLP of both blocks: each has its own masks.
    rates = [module for module in model.modules() if type(module).__name__ == "StepDropout"]
    assert sorted(each.layer for each in rates) == list(range(7))


def test_roles_name_the_stream_and_leave_the_equals_sign_alone():
    model = network(layers=2, biases="all")
    roles, before = model.roles, model.embed.W_E.detach().clone()
    assert roles.hidden == ("blocks.0.mlp.hook_post", "blocks.1.mlp.hook_post")
    assert roles.heads == ("blocks.0.attn.hook_z", "blocks.1.attn.hook_z")
    assert [name.rpartition("_")[2] for name in roles.residual] == ["pre", "mid", "pre", "mid", "post"]
    assert all(type(model.get_submodule(name)) is torch.nn.ReLU for name in roles.activation)
    embedding = roles.input_embedding.read(model)
    assert torch.equal(embedding[0], before[:P]) and torch.equal(embedding[1], before[:P])
    roles.input_embedding.write(model, embedding + 1)
    assert torch.equal(model.embed.W_E[:P], before[:P] + 1) and torch.equal(model.embed.W_E[P], before[P])
    last = mm.activations(subject_of(model), roles.residual[-1], ids=torch.arange(P * P))[roles.residual[-1]][:, -1]
    rebuilt = last @ roles.readout.read(model) + roles.bias.read(model)
    torch.testing.assert_close(rebuilt, model(PAIRS).detach())
    alone = network(d_mlp=0)
    assert (alone.roles.hidden, alone.roles.activation, alone.roles.bias) == ((), None, None)
    assert alone.roles.residual == ("blocks.0.hook_resid_pre", "blocks.0.hook_resid_post")
    assert set(alone.roles.residual) | set(alone.roles.heads) <= set(alone.hook_dict)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("read", [neuron_vectors, neuron_weights, layer_vectors])
def test_neurons_in_a_stream_have_no_vectors_over_the_symbols(read, layers):
    # As many neurons as dimensions: no shape would tell them apart.
    with pytest.raises(MissingNeedError, match="embedding and readout belong to a residual stream"):
        read(subject_of(network(layers=layers, d_mlp=6)))


@pytest.mark.parametrize("block", [0, 1])
def test_neurons_of_any_block_are_pruned_through_their_own_matrix(block):
    model = network(layers=2, biases="all", layer_norm=True)
    point = f"blocks.{block}.mlp.hook_post"
    width = model.blocks[block].mlp.W_out.shape[0]
    kept = mm.NeuronSet.of([1, 5], width, point)
    found = pruned(subject_of(model), kept).model(PAIRS).detach()
    with model.hooks([(point, lambda value, hook: value * kept.mask)]):
        expected = model(PAIRS).detach()
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, model(PAIRS).detach())
    with pytest.raises(ScoreError, match=f"the set has 3 neurons, but the layer has {width}"):
        pruned(subject_of(model), mm.NeuronSet.of([1], 3, point))
    with pytest.raises(MissingNeedError, match="'hook_embed' write into the residual stream is not known"):
        pruned(subject_of(model), mm.NeuronSet.of([1], 6, "hook_embed"))


NAMES = ("W_E", "W_pos", "W_Q", "W_O", "W_in", "W_out", "W_U")


@pytest.mark.parametrize(
    "init, stds",
    [
        ("nanda_2023", [128**-0.5] * 6 + [60**-0.5]),
        ("doshi_2024", [1, 1, 128**-0.5, 96**-0.5, 128**-0.5, 512**-0.5, 128**-0.5]),
        ("pytorch", [1, 1, *(x**-0.5 / 3**0.5 for x in (128, 96, 128, 512, 128))]),
    ],
)
def test_initialisations_have_the_spread_they_are_named_for(init, stds):
    model = HookedModularTransformer(mm.TransformerConfig(init=init, d_head=24, biases="all"), 59)
    for name, std in zip(NAMES, stds, strict=True):
        (weights,) = (value for each, value in model.named_parameters() if each.endswith(name))
        assert weights.std().item() == pytest.approx(std, rel=4 / (2 * weights.numel()) ** 0.5)
        assert (weights.abs().max() <= 3**0.5 * std + 1e-6) == (init == "pytorch" and name not in NAMES[:2])
    assert all((value == 0).all() for name, value in model.named_parameters() if ".b_" in name)
    again, other = (HookedModularTransformer(model.config, 59, seed).embed.W_E for seed in (0, 1))
    assert torch.equal(model.embed.W_E, again) and not torch.equal(again, other)


def test_the_unembedding_of_nanda_has_the_spread_of_one_with_a_column_for_the_equals_sign():
    weights = HookedModularTransformer(mm.TransformerConfig(d_model=2048, d_head=1, d_mlp=1), 2).unembed.W_U
    assert weights.std().item() == pytest.approx(3**-0.5, rel=4 / (2 * weights.numel()) ** 0.5)


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"heads": 3}, "d_model must be a multiple of heads .* got 128 and 3"),
        ({"heads": 65}, "heads must be at most 64, got 65"),
        ({"d_model": 0}, "d_model must be a whole number of at least 1"),
        ({"d_model": 8192}, "d_mlp must be at most 16384, got 32768"),
        ({"d_head": 5000}, "heads times d_head must be at most 16384, got 20000"),
        ({"d_mlp": -1}, "d_mlp must be a whole number of at least 0"),
        ({"layers": 9}, "layers must be at most 8"),
        ({"tokens": 4}, r"tokens must be 3 \(a, b, =\) or 2"),
        ({"dropout": 1.0}, "dropout must be below 1"),
    ],
)
def test_settings_that_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        mm.TransformerConfig(**settings)


@pytest.mark.parametrize("setting", ["activation", "attention", "biases", "init"])
def test_names_that_do_not_exist(setting):
    with pytest.raises(UnknownNameError, match="no .* 'non'"):
        mm.TransformerConfig(**{setting: "non"})


def test_a_transformer_must_fit_its_task():
    labels = PAIRS.sum(1) % 2
    with pytest.raises(ConfigError, match="as many classes as symbols"):
        build_model(mm.TransformerConfig(), mm.ArrayTask(PAIRS, labels, labels, torch.arange(25) < 9), 0)
