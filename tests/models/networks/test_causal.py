"""Causal networks on prefixes: one run for all prefixes of a sequence gives what one run for each gives."""

import dataclasses
import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.layers.features import layer_features
from mechmem.models.networks.build import build_model
from mechmem.models.reading.residual import at_answer, at_answers
from mechmem.tasks.relabelled import RelabelledTask

TASK = mm.GrammarTask(
    mm.GrammarConfig(vocabulary=7, order=1, length=12, train=12, test=6, repeats=(1, 3), passages=3, controls=4)
)
SMALL = mm.CausalTransformerConfig(layers=2, d_model=16, heads=2)


@functools.cache
def network(seed=0, **settings):
    return build_model(dataclasses.replace(SMALL, **settings), TASK, seed)


class Recurrent(nn.Module):
    """A language model whose logits depend on later tokens if it runs both ways."""

    def __init__(self, both=False, vocabulary=7, wrapped=False):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(vocabulary, 8)
        self.middle = nn.GRU(8, 8, batch_first=True, bidirectional=both)
        self.head = nn.Linear(16 if both else 8, vocabulary)
        self.wrapped = wrapped

    def forward(self, tokens):
        logits = self.head(self.middle(self.table(tokens))[0])
        return {"scores": logits} if self.wrapped else logits


def alone(model, prefixes):
    """Logits of each prefix in a pass of its own, cut where it ends."""
    return torch.cat([model(row[row >= 0][None]) for row in prefixes])


def shifted(prefixes, fill):
    return torch.where(prefixes < 0, fill, prefixes)


@given(st.integers(0, 1000), st.integers(1, 40), st.booleans())
def test_prefixes_in_any_order_get_their_own_logits(seed, count, ordered):
    ids = TASK.ids[torch.randperm(len(TASK.ids), generator=torch.Generator().manual_seed(seed))[:count]]
    prefixes = TASK.batch(ids.sort()[0] if ordered else ids)[0]
    model = network()
    with torch.no_grad():
        torch.testing.assert_close(model(prefixes), alone(model, prefixes))


def test_all_prefixes_of_a_sequence_are_run_as_one():
    model, rows = network(), []
    counted = model.blocks[0].attn.forward
    model.blocks[0].attn.forward = lambda stream, queries: (rows.append(len(stream)), counted(stream, queries))[1]
    try:
        model(TASK.batch(TASK.ids_of([3, 4]))[0])
        model(TASK.batch(TASK.ids_of([3, 4]).flip(0))[0])
    finally:
        del model.blocks[0].attn.forward
    # In reverse, a prefix is continued by accident at most.
    assert rows[0] == 2 and rows[1] >= 2 * TASK.positions - 1


def test_hooks_see_every_prefix_and_change_it_alone():
    model = network()
    prefixes = TASK.batch(TASK.ids_of([0, 1]))[0]
    with torch.no_grad():
        logits, cache = model.run_with_cache(prefixes)
        torch.testing.assert_close(logits, model(prefixes))
        assert cache["blocks.1.mlp.hook_post"].shape == (22, 11, 64) and cache["hook_logits"].shape == (22, 7)

        def cleared(value, hook):
            return value.clone().index_fill_(0, torch.tensor([4]), 0)

        edited = model.run_with_hooks(prefixes, fwd_hooks=[("blocks.1.hook_resid_post", cleared)])
    changed = (edited - logits).abs().amax(1) > 1e-4
    assert changed.nonzero().flatten().tolist() == [4]


def test_gradients_are_those_of_single_prefixes():
    model = network()
    prefixes, labels = TASK.batch(TASK.ids_of([2]))
    together = torch.autograd.grad(nn.functional.cross_entropy(model(prefixes), labels), model.parameters())
    losses = nn.functional.cross_entropy(alone(model, prefixes), labels)
    for one, other in zip(together, torch.autograd.grad(losses, model.parameters()), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_more_tokens_than_a_few_are_attended_to_as_few_are():
    few, many = network(), network(tokens=40)
    with torch.no_grad():
        many.pos_embed.W_pos[:11] = few.pos_embed.W_pos
        short = {name: each for name, each in few.state_dict().items() if name != "pos_embed.W_pos"}
        many.load_state_dict({**many.state_dict(), **short})
        tokens = TASK.tokens[:3, :7]
        torch.testing.assert_close(few(tokens), many(tokens))
        by_hand = few.blocks[0].attn
        stream = torch.randn(2, 11, 16)
        scores = torch.stack([stream @ by_hand.W_Q[h] + by_hand.b_Q[h] for h in range(2)], 1)
        keys = torch.stack([stream @ by_hand.W_K[h] + by_hand.b_K[h] for h in range(2)], 1)
        values = torch.stack([stream @ by_hand.W_V[h] + by_hand.b_V[h] for h in range(2)], 1)
        read = nn.functional.scaled_dot_product_attention(scores, keys, values, is_causal=True)
        written = sum(read[:, h] @ by_hand.W_O[h] for h in range(2)) + by_hand.b_O
        torch.testing.assert_close(by_hand(stream, 11), written)


def test_masks_belong_to_sequences():
    masks = mm.ExampleTied(shared=0.3, memory=0.3)
    model = build_model(dataclasses.replace(SMALL, masks=masks), TASK, 0)
    layer = model.blocks[0].mlp.mask
    found = layer.mask(TASK.ids_of([4, 9]), 0.5)
    assert (found[:11] == found[0]).all() and (found[11:] == found[11]).all() and (found[0] != found[11]).any()
    prefixes, ids = TASK.batch(TASK.ids_of([4, 9]))[0], TASK.ids_of([4, 9])
    with torch.no_grad():
        with mm.subnetwork(model, "own", ids):
            together = model(prefixes)
        for row in range(0, 22, 5):
            with mm.subnetwork(model, "own", ids[row : row + 1]):
                torch.testing.assert_close(model(prefixes[row : row + 1]), together[row : row + 1])
        # Equal tokens under other masks are another pass, also side by side.
        with mm.subnetwork(model, "own", torch.tensor([ids[3], ids[14]])):
            other = model(prefixes[[3, 3]])
        torch.testing.assert_close(other[0], together[3])
        assert not torch.allclose(other[0], other[1])


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_causal_model_is_the_network_of_a_task(wrapped):
    model = Recurrent()
    network = mm.NextToken(model, TASK)
    prefixes = TASK.batch(TASK.ids)[0]
    with torch.no_grad():
        expected = torch.stack([model(row[row >= 0][None])[0, -1] for row in prefixes])
        torch.testing.assert_close(network(prefixes), expected)
        attached = mm.attach(network, "model.head")
        torch.testing.assert_close(attached(prefixes), expected)
        held = mm.activations(mm.Subject(attached, TASK), "model.head.hook_out", ids=TASK.ids)
    values = at_answers(TASK, held["model.head.hook_out"], TASK.ids)
    torch.testing.assert_close(values, expected)


def test_gpt2_of_huggingface_is_the_network_of_a_task():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=9, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config).eval()
    network = mm.NextToken(model, TASK)
    ids = TASK.ids_of([0, 5])
    with torch.no_grad():
        found = network(TASK.batch(ids)[0])
        expected = model(TASK.tokens[[0, 5], :11]).logits[:, :, :7].flatten(0, 1)
    torch.testing.assert_close(found, expected)
    subject = mm.Subject(mm.attach(network, "model.transformer.h.*.mlp"), TASK)
    point = "model.transformer.h.0.mlp.hook_out"
    table = mm.intervene(subject, mm.Edit(point, neurons=[0, 1]), ids=ids).to_frame()
    assert len(table) and mm.example_scores(subject, ["loss"]).to_frame()["loss"].notna().all()


def test_the_readout_is_found_where_each_prefix_is_answered():
    found = mm.roles_from(mm.NextToken(Recurrent(), TASK), TASK).roles
    assert (found.readout.parameter, found.bias.parameter) == ("model.head.weight", "model.head.bias")


def test_a_model_that_looks_ahead_is_refused():
    with pytest.raises(ConfigError, match="not causal: its logits at position .* when only the tokens after it change"):
        mm.NextToken(Recurrent(both=True), TASK)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(3, 3), "must run on rows of tokens"),
        (Recurrent(vocabulary=3), "must run on rows of tokens"),
        (Recurrent(wrapped=True), "must return logits .*, and returned dict"),
        (nn.Embedding(7, 4), "the task has 7 tokens, and the model only 4 logits"),
        (nn.Sequential(nn.Embedding(7, 4), nn.Flatten()), "must return logits"),
        (5, "model must be a network"),
    ],
)
def test_other_models_are_refused(model, message):
    with pytest.raises(ConfigError, match=message):
        mm.NextToken(model, TASK)


def test_the_task_is_one_of_sequences():
    with pytest.raises(ConfigError, match="task must be a SequenceTask"):
        mm.NextToken(Recurrent(), mm.ModularTask(mm.ModularConfig(p=5)))
    with pytest.raises(ConfigError, match="reads sequences"):
        build_model(SMALL, mm.ModularTask(mm.ModularConfig(p=5)), 0)
    with pytest.raises(ConfigError, match="reads pairs of symbols"):
        build_model(mm.TransformerConfig(), TASK, 0)
    with pytest.raises(ConfigError, match="up to 11 tokens, and the network's tokens are 5"):
        build_model(dataclasses.replace(SMALL, tokens=5), TASK, 0)
    with pytest.raises(ConfigError, match="attention is 'causal'"):
        mm.CausalTransformerConfig(attention="bidirectional")


def test_layers_are_read_where_each_prefix_ends():
    subject = mm.Subject(network(), TASK, network().roles)
    held = mm.activations(subject, "blocks.0.mlp.hook_post", ids=TASK.ids)["blocks.0.mlp.hook_post"]
    found = layer_features(subject, "hidden.0", TASK.ids)
    for row in (0, 5, 30):
        assert torch.equal(found[row], held[row, row % 11])
    with pytest.raises(MissingNeedError, match="one output position"):
        at_answer(subject, held, 2)
    assert len(mm.probe_layers(subject).to_frame())
    # Also where its labels are others.
    relabelled = RelabelledTask(TASK, TASK.given(TASK.train_ids))
    other = mm.Subject(network(), relabelled, network().roles)
    assert torch.equal(layer_features(other, "hidden.0", TASK.ids), found) and relabelled.units is TASK.units


def test_networks_with_tables_are_mapped_over_examples():
    """`torch.func` puts tensors in the place of parameters."""
    modular = build_model(mm.TransformerConfig(d_model=8, heads=2), mm.ModularTask(mm.ModularConfig(p=5)), 0)
    for model, inputs in ((network(), TASK.batch(TASK.ids_of([1]))[0]), (modular, torch.tensor([[1, 2], [0, 4]]))):
        weights = {name: each.detach() for name, each in model.named_parameters()}

        def of_one(row, model=model, weights=weights):
            return torch.func.functional_call(model, weights, (row[None],))[0]

        with torch.no_grad():
            torch.testing.assert_close(torch.vmap(of_one)(inputs), model(inputs))
