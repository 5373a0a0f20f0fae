import dataclasses
import itertools

import numpy as np
import pytest
import torch
import young
from hypothesis import given
from hypothesis import strategies as st

import mechmem as mm
from mechmem.cli.commands import Train
from mechmem.core.group import Group
from mechmem.core.plugins import plugins
from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError
from mechmem.math.filtration import frequency_power, key_frequency, strongest_frequencies
from mechmem.models.networks.mlp import HookedMLP
from mechmem.models.reading.weights import neuron_weights
from mechmem.pages.report import write_report
from mechmem.scorecard.extractor import extractor
from mechmem.scorecard.pruned import remove_frequencies
from mechmem.tasks.build import build_task
from mechmem.tasks.config import GroupConfig, LabelNoise, ModularConfig
from mechmem.tasks.grid import cyclic_group
from mechmem.tasks.grid_tasks import GroupTask
from mechmem.tasks.group_names import factors, is_abelian, modulus, order
from mechmem.tasks.groups import CyclicGroup, FiniteGroup, group_named

NAMES = ("S2", "S3", "S4", "A3", "A4", "A5", "D3", "D4", "D5", "Q8", "Q12", "Z7", "Z2xZ2", "Z3xZ5", "S3xZ4", "D5xZ2")
every_group = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def groups():
    """Built once; read, never changed."""
    return {name: FiniteGroup(name) for name in (*NAMES, "S5", "Z12")}


def vectors(n, columns=5, seed=0):
    return torch.randn(n, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "size", "abelian"),
    [("S5", 120, False), ("A5", 60, False), ("A3", 3, True), ("S2", 2, True), ("D7", 14, False), ("Q8", 8, False)]
    + [("Z12", 12, True), ("Z3xZ5", 15, True), ("S3xZ4", 24, False), ("D5xZ2xZ2", 40, False)],
)
def test_a_name_says_size_and_commutativity(name, size, abelian):
    assert order(name) == size and is_abelian(name) == abelian
    product = FiniteGroup(name).product
    assert len(product) == len(FiniteGroup(name).element_names) == size
    assert torch.equal(product, product.T) == abelian


@pytest.mark.parametrize(
    "name", ["", "S", "5", "T4", "s5", "S0", "S5x", "xS5", "S5 x Z2", "S-1", "S05", "Z3×Z5", 7, None]
)
def test_a_name_that_cannot_be_read(name):
    with pytest.raises(ConfigError, match="no group .*: names are like S5|group must be a string"):
        GroupConfig(name)


@pytest.mark.parametrize("name", ["S1", "A2", "Z1", "D2", "Q4", "Q10", "S3xZ1"])
def test_a_number_too_small_for_its_family(name):
    with pytest.raises(ConfigError, match=r"in .n, n must be at least \d"):
        FiniteGroup(name)


def test_only_zn_alone_has_a_modulus():
    assert [modulus(name) for name in ("Z12", "Z3xZ4", "S2", "A3")] == [12, None, None, None]
    assert factors("S3xZ4xZ2") == (("S", 3), ("Z", 4), ("Z", 2))


def test_a_group_too_large_is_refused_without_being_built():
    for name in ("S7", "Z1025", "S9999", "S5xD5"):
        with pytest.raises(ConfigError, match="at most 1024 elements"):
            GroupConfig(name)
    assert GroupConfig("S6").group == "S6"


@every_group
def test_frequencies_are_numbered_and_named(name, groups):
    group = groups[name]
    assert isinstance(group, Group)
    n = order(name)
    assert group.n_frequencies == len(group.labels) == len(set(group.labels)) == len(group.degrees)
    assert group.multiplicity[0] == 1 and int(group.multiplicity.sum()) == n
    assert group.degrees.tolist() == sorted(group.degrees.tolist())
    # d² for a representation of its own, 2d² for a pair of conjugates.
    assert set((group.multiplicity[1:] / group.degrees**2).tolist()) <= {1, 2}
    assert group.elements.tolist() == list(range(n)) and len(group.outside) == 0
    assert torch.equal(group.product[torch.arange(n), group.inverse], torch.zeros(n, dtype=torch.long))


def test_names_and_dimensions_of_some_representations(groups):
    assert groups["S4"].labels == ("[1,1,1,1]", "[2,2]", "[3,1]", "[2,1,1]")
    assert groups["S5"].multiplicity.tolist() == [1, 1, 16, 16, 25, 25, 36]
    assert groups["A4"].multiplicity.tolist() == [1, 2, 9]
    assert groups["Q8"].multiplicity.tolist() == [1, 1, 1, 1, 4]
    assert groups["Q12"].labels == ("A2", "B1", "E1", "E2") and groups["Q12"].multiplicity.tolist() == [1, 1, 2, 4, 4]
    assert groups["Z3xZ5"].labels[-2:] == ("1×3", "1×4") and groups["D5xZ2"].labels[0] == "A1×1"
    assert CyclicGroup(5).labels == ("1", "2")


@pytest.mark.parametrize("n", [2, 7, 12])
def test_over_residues_all_agrees_with_the_fourier_transform(n):
    """And "Zn" alone is the cyclic group itself."""
    assert group_named(f"Z{n}") == CyclicGroup(n) and isinstance(group_named("S3"), FiniteGroup)
    group, cyclic, x = FiniteGroup(f"Z{n}"), CyclicGroup(n), vectors(n, 12)
    freq = torch.arange(12) % cyclic.n_frequencies + 1
    assert group.n_frequencies == cyclic.n_frequencies and group.labels == cyclic.labels
    assert torch.equal(group.multiplicity, cyclic.multiplicity)
    for method in ("power", "spectrum"):
        torch.testing.assert_close(getattr(group, method)(x), getattr(cyclic, method)(x), atol=1e-10, rtol=0)
    torch.testing.assert_close(group.keep(x, freq), cyclic.keep(x, freq), atol=1e-10, rtol=0)


@given(st.sampled_from(NAMES), st.integers(0, 10**6))
def test_projections_split_a_vector(name, seed):
    group = FiniteGroup(name)
    n = order(name)
    x = vectors(n, 3, seed)
    every = range(1, group.n_frequencies + 1)
    parts = [group.keep(x, torch.full((3,), k)) for k in every]
    constant = x.mean(0).expand(n, 3)
    torch.testing.assert_close(sum(parts) + constant, x, atol=1e-10, rtol=0)
    spectrum = group.spectrum(x)
    torch.testing.assert_close(spectrum.sum(0), x.square().sum(0), atol=1e-9, rtol=0)
    torch.testing.assert_close(spectrum[0], constant.square().sum(0), atol=1e-9, rtol=0)
    torch.testing.assert_close(spectrum[1:], torch.stack([part.square().sum(0) for part in parts]), atol=1e-9, rtol=0)
    torch.testing.assert_close(group.power(x), spectrum[1:])
    for (j, one), (k, other) in itertools.product(zip(every, parts, strict=True), repeat=2):
        again = group.keep(one, torch.full((3,), k))
        torch.testing.assert_close(again, other if j == k else torch.zeros_like(x), atol=1e-10, rtol=0)


@given(st.sampled_from(NAMES), st.integers(0, 10**6))
def test_left_and_right_make_no_difference(name, seed):
    group = FiniteGroup(name)
    n = order(name)
    g = seed % n
    x, freq = vectors(n, 4, seed), torch.arange(4) % group.n_frequencies + 1
    inner = group.product[group.product[g], group.inverse[g]]
    for moved in (group.product[g], group.product[:, g], group.inverse, inner):
        torch.testing.assert_close(group.power(x[moved]), group.power(x), atol=1e-9, rtol=0)
        torch.testing.assert_close(group.keep(x[moved], freq), group.keep(x, freq)[moved], atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("name", "outer"),
    [
        ("D5", lambda i: (2 * (i % 5)) % 5 + 5 * (i // 5)),
        ("Z3xZ5", lambda i: i // 5 * 5 + 2 * (i % 5) % 5),
        ("Z2xZ2", lambda i: i // 2 + i % 2 * 2),
    ],
)
def test_an_outer_automorphism_renumbers_the_frequencies(name, outer, groups):
    group, n = groups[name], order(name)
    moved = torch.tensor([outer(i) for i in range(n)])
    assert torch.equal(moved[group.product], group.product[moved][:, moved])
    x = vectors(n)
    before, after = group.power(x), group.power(x[moved])
    assert not torch.allclose(before, after)
    torch.testing.assert_close(before.sort(0).values, after.sort(0).values, atol=1e-9, rtol=0)


def test_each_vector_is_kept_at_its_own_frequency(groups):
    group, x = groups["S4"], vectors(24, 8)
    freq = torch.tensor([1, 2, 3, 4, 4, 3, 2, 1])
    kept = group.keep(x, freq)
    for column, k in enumerate(freq):
        alone = group.keep(x[:, column : column + 1], k[None])
        torch.testing.assert_close(kept[:, column : column + 1], alone, atol=1e-12, rtol=0)
    assert group.keep(x.float(), freq).dtype == torch.float32
    with pytest.raises(ValueError, match="frequencies must lie in 1 … 4, got 0 … 4"):
        group.keep(x, torch.tensor([0, 1, 2, 3, 4, 1, 1, 1]))


@pytest.mark.parametrize("name", ["S3", "S5", "D5", "A5"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_has_no_share_of_any_representation(name, dtype, groups):
    n = order(name)
    embedding, readout = torch.full((2, n, 3), 0.1, dtype=dtype), torch.full((3, n), -7.3, dtype=dtype)
    assert (frequency_power(groups[name], embedding, readout) == 0).all()


@pytest.mark.parametrize("op", ["compose", "divide"])
@pytest.mark.parametrize("name", ["S3", "D4", "Q8", "Z3xZ4"])
def test_the_grid_and_its_truth(name, op, groups):
    task = build_task(GroupConfig(name, op, train_fraction=0.5))
    n, group = order(name), FiniteGroup(name)
    assert isinstance(task, GroupTask) and task.group == group
    assert (task.symbols, task.n_classes, task.operation) == (n, n, op)
    assert torch.equal(task.batch(task.ids)[0], torch.cartesian_prod(torch.arange(n), torch.arange(n)))
    for a, b in itertools.product(range(n), range(n)):
        c = int(task.true(torch.tensor([task.cell(a, b)]))[0])
        assert int(group.product[a, b] if op == "compose" else group.product[c, b]) == (c if op == "compose" else a)
    with pytest.raises(UnknownNameError, match=rf"operands lie in 0 … {n - 1}"):
        task.cell(0, n)


@pytest.mark.parametrize(("op", "same"), [("compose", "add"), ("divide", "subtract")])
@pytest.mark.parametrize("noise", [LabelNoise(0.3), LabelNoise(0.4, "any"), LabelNoise(0.5, "bijective")])
def test_over_residues_the_task_is_the_modular_one(op, same, noise):
    one = build_task(GroupConfig("Z13", op, 0.7, noise=noise, seed=5))
    other = build_task(ModularConfig(same, 13, 0.7, noise=noise, seed=5))
    assert one.group == other.group and one.operation == other.operation == same
    assert torch.equal(one.train_ids, other.train_ids)
    assert torch.equal(one.given(one.ids), other.given(other.ids))
    assert torch.equal(one.true(one.ids), other.true(other.ids))


def test_configs_survive_and_refuse():
    config = GroupConfig("D5xZ2", "divide", 0.6, "stratified", LabelNoise(0.2), 3)
    assert GroupConfig.from_dict(config.to_dict()) == config
    assert build_task(config).digest == config.digest != GroupConfig("D5xZ2").digest
    assert build_task(config).summary["group"] == "D5xZ2"
    assert config.noise_only().noise == LabelNoise(1.0, "any")
    assert GroupConfig("Z3xZ5", noise=LabelNoise(0.3, "symmetric")).noise_only().noise == LabelNoise(1, "symmetric_any")
    for changed, message in [
        ({"op": "multiply"}, "no operation 'multiply'. One of: compose, divide"),
        ({"split": "rows"}, "no split 'rows'"),
        ({"train_fraction": 1.0}, "leaves an empty test set at S3"),
        ({"train_fraction": 0.01}, "leaves an empty training set at S3"),
        ({"noise": 0.3}, "noise must be a LabelNoise"),
        ({"seed": -1}, "seed must be"),
        ({"noise": LabelNoise(0.1, "symmetric")}, "symmetric noise gives .* compose in S3 does not"),
        ({"noise": LabelNoise(0.1, "bijective")}, "needs a group Zn with n an odd prime, got S3"),
        ({"group": "Z2", "noise": LabelNoise(0.1, "bijective")}, "n an odd prime, got Z2"),
        ({"group": "Z9", "noise": LabelNoise(0.1, "bijective")}, "n an odd prime, got Z9"),
        ({"group": "Z9", "op": "divide", "noise": LabelNoise(0.1, "symmetric_any")}, "divide in Z9 does not"),
    ]:
        with pytest.raises((ConfigError, UnknownNameError), match=message):
            GroupConfig(**({"group": "S3"} | changed))


def test_symmetric_noise_where_the_group_commutes():
    task = build_task(GroupConfig("Z2xZ6", train_fraction=0.9, noise=LabelNoise(0.5, "symmetric")))
    given, trained = task.given(task.ids).reshape(12, 12), torch.zeros(144, dtype=torch.bool)
    trained[task.train_ids] = True
    both = trained.reshape(12, 12) & trained.reshape(12, 12).T
    assert both.any() and torch.equal(given[both], given.T[both])
    assert len(task.splits["train_noisy"]) >= round(0.5 * len(task.train_ids))


def planted(name, shapes, noise=0.0):
    """A network with (x + y)² − (x − y)² = 4xy per term of Σ d/n tr ρ(a) ρ(b) ρ(c)⁻¹; each neuron's representation."""
    task = GroupTask(GroupConfig(name, train_fraction=0.6, noise=LabelNoise(noise)))
    assert isinstance(task.group, FiniteGroup)
    columns, frequency = [], []
    for shape in shapes:
        rho = young.matrices(shape)
        n, d = rho.shape[:2]
        for i, j, k, sign in itertools.product(range(d), range(d), range(d), (1, -1)):
            columns.append((rho[:, i, j], sign * rho[:, j, k], sign * rho[:, i, k] * d / (4 * n)))
            label = f"[{','.join(map(str, shape))}]"
            frequency.append(task.group.labels.index(label) + 1 if label in task.group.labels else 0)
    weights = torch.from_numpy(np.array(columns).transpose(1, 2, 0).copy())
    model = HookedMLP(mm.MLPConfig(width=len(columns), activation="quadratic"), task.n_classes).double()
    with torch.no_grad():
        model.W_in.copy_(weights[:2].reshape(-1, len(columns)))
        model.W_out.copy_(weights[2].T)
    return mm.Subject(model, task, model.roles), torch.tensor(frequency)


def test_every_representation_together_makes_the_table_itself():
    """Schur: Σ d/n tr ρ(a) ρ(b) ρ(c)⁻¹ over all of them is 1 at c = a·b and 0 elsewhere."""
    subject, _ = planted("S4", [(4,), (1, 1, 1, 1), (2, 2), (3, 1), (2, 1, 1)])
    logits = subject.model(subject.task.operands)
    wanted = torch.nn.functional.one_hot(subject.task.true(subject.task.ids), 24).double()
    torch.testing.assert_close(logits, wanted, atol=1e-10, rtol=0)


def test_planted_representations_are_recovered_and_carry_the_rule():
    subject, frequency = planted("S4", [(3, 1), (2, 2), (2, 1, 1)])
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in subject.model.parameters():
            # A tenth of the weights' own size, in every representation alike.
            weight += 0.1 * weight.square().mean().sqrt() * torch.randn(weight.shape, generator=draw).double()
    weights = neuron_weights(subject)
    assert torch.equal(key_frequency(weights[0], frequency_power(*weights)), frequency)
    test, wanted = subject.task.test_ids, subject.task.true(subject.task.test_ids)
    right = {name: extractor(name)(subject)(test).argmax(1) == wanted for name in ("frequency", "frequency_rest")}
    assert right["frequency"].all() and right["frequency_rest"].float().mean() < 0.2


def test_without_its_representation_a_network_knows_no_more_than_the_others_tell():
    """Without [3,1] and [2,1,1] what is left is [2,2], to which four elements are the identity."""
    subject, frequency = planted("S4", [(3, 1), (2, 2), (2, 1, 1)])
    labels = subject.task.group.labels
    gone = remove_frequencies(subject, [labels.index("[3,1]") + 1, labels.index("[2,1,1]") + 1])
    logits, truth = gone.model(subject.task.operands), subject.task.true(subject.task.ids)
    best = torch.isclose(logits, logits.amax(1, keepdim=True), atol=1e-9)
    assert (best.sum(1) == 4).all() and best[torch.arange(576), truth].all()
    alone, _ = planted("S4", [(3, 1)])
    nothing = remove_frequencies(alone, [labels.index("[3,1]") + 1])
    assert nothing.model(subject.task.operands).abs().max() < 1e-10


@pytest.fixture(scope="module")
def trained():
    config = mm.TrainConfig(
        task=GroupConfig("D5", train_fraction=0.6, noise=LabelNoise(0.25)),
        model=mm.MLPConfig(width=32, bias=True),
        steps=60,
        lr=0.01,
        evaluations=4,
        checkpoints=2,
    )
    return mm.train(config, progress=False)


@pytest.mark.slow
def test_an_audit_fills_what_a_group_allows_and_says_why_not(trained, tmp_path):
    card = mm.audit(trained)
    for name in ("raw", "frequency", "frequency+quadratic", "frequency_rest", "additive_free"):
        assert all(cell.estimate is not None for cell in card.row(name).splits.values()), name
    assert card.row("frequency").controls["random_choice"].estimate is not None
    assert card.row("frequency").controls["noise_only"].estimate is not None
    assert "over a cyclic group; this one is over D5" in card.row("energy_ranked").splits["test"].reason
    assert "the task's is 'compose'" in card.row("diagonal").splits["test"].reason
    by_answer, by_group = card.votes
    assert by_answer.test is not None and by_group.test is None and "no cyclic group" in by_group.reason
    assert card.structure.Z is not None and card.sentence
    write_report([(trained, card)], tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 10_000


CYCLIC_ONLY = {
    *("fourier_classification", "frequency_reconstruction", "logit_spectrum", "operation_scan", "suppression"),
    *("cosine_ideal", "cosine_aligned", "energy_ranked", "diagonal"),
}
ANY_GROUP = {
    *("neuron_spectrum", "frequency_ablation", "direct_logit_attribution", "amplification", "partition", "ipr"),
    *("frequency", "frequency_rest", "random_frequency", "additive_free", "logits", "cell_outcomes", "strength"),
}


@pytest.mark.parametrize(
    "kind", [pytest.param("analyses", marks=pytest.mark.slow), "neuron_scores", "surgeries", "readouts"]
)
def test_plugins_work_or_say_what_they_need(kind, trained):
    for name, cls in plugins(kind).items():
        if any(field.default is dataclasses.MISSING for field in dataclasses.fields(cls)):
            continue
        plugin = cls(**cls.aliases.get(name, {}))
        try:
            refused = ""
            plugin(trained)
        except MissingNeedError as error:
            refused = str(error)
        assert not refused or name not in ANY_GROUP, f"{name}: {refused}"
        assert refused or name not in CYCLIC_ONLY, f"{name} took a group that is not cyclic"
        assert not refused or "cyclic group" in refused or "needs" in refused


def test_a_card_of_a_neuron_needs_phases(trained):
    with pytest.raises(MissingNeedError, match="cyclic group; this one is over D5"):
        mm.neuron(trained, 0)
    with pytest.raises(MissingNeedError, match="cyclic group; no group is known"):
        cyclic_group(build_task(ModularConfig("multiply", 9)))


def test_the_command_line_takes_a_group():
    command = Train(group="D5", op="sub", label_noise=0.2, noise_kind="any", train_fraction=0.7, seed=4)
    assert command.config().task == GroupConfig("D5", "divide", 0.7, "random", LabelNoise(0.2, "any"), 4)
    assert Train().config().task == ModularConfig(noise=LabelNoise(0.3))
    for wrong, option in (({"p": 7}, "--p"), ({"op": "mul"}, "--op mul")):
        with pytest.raises(ConfigError, match=f"{option} belongs to residues mod p, not to --group S3"):
            Train(group="S3", **wrong).config()


@pytest.mark.parametrize("name", ["S4", "S5"])
def test_a_large_representation_does_not_win_by_its_size(groups, name):
    """In random vectors its summed energy is the largest; per coefficient any may win."""
    group = groups[name]
    noise = vectors(order(name), 400)
    power = group.power(noise)
    largest = int(group.multiplicity[1:].argmax()) + 1
    by_sum, by_coefficient = power.argmax(0) + 1, key_frequency(group, power)
    large = group.multiplicity[1:] == group.multiplicity[largest]
    summed, each = (large[found - 1].double().mean() for found in (by_sum, by_coefficient))
    assert summed > 0.6 and each < 0.7 * summed
    # A signal as loud per coefficient as the noise, in the smallest representation: it is found.
    smallest = int(group.multiplicity[1:].argmin()) + 1
    signal = 3 * group.keep(noise, torch.full((400,), smallest))
    assert (key_frequency(group, group.power(noise + signal)) == smallest).double().mean() > 0.7
    assert smallest in strongest_frequencies(group, noise + 3 * signal, 1)
