import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.kernel_ridge import KernelRidge

from mechmem.math.pair_ridge import pair_ridge

GAMMA = 0.3


@given(
    symbols=st.integers(2, 9),
    classes=st.integers(2, 6),
    penalty=st.sampled_from([1e-3, 0.1, 2.0]),
    seed=st.integers(0, 99),
)
def test_it_is_the_regression_with_the_whole_kernel(symbols, classes, penalty, seed):
    draw = torch.Generator().manual_seed(seed)
    every = torch.cartesian_prod(torch.arange(symbols), torch.arange(symbols))
    train = every[torch.rand(len(every), generator=draw) < 0.6]
    train = train if len(train) else every[:1]
    labels = torch.randint(classes, (len(train),), generator=draw)
    asked = torch.cat([every, train.flip(0)])  # fitted pairs among them, in another order and twice
    kernel = tuple(torch.tensor([0, -2 * GAMMA, -4 * GAMMA], dtype=torch.float64).exp().tolist())
    found = pair_ridge(train, labels, asked, symbols=symbols, classes=classes, kernel=kernel, penalty=penalty)
    two_hot, wanted = (F.one_hot(pairs, symbols).flatten(1).double().numpy() for pairs in (train, asked))
    dense = KernelRidge(kernel="rbf", gamma=GAMMA, alpha=penalty)
    dense.fit(two_hot, F.one_hot(labels, classes).double().numpy())
    torch.testing.assert_close(found, torch.from_numpy(dense.predict(wanted)), rtol=0, atol=1e-10)


def test_without_a_penalty_it_goes_through_the_labels():
    pairs = torch.tensor([[0, 1], [1, 0]])
    found = pair_ridge(pairs, pairs[:, 0], pairs, symbols=2, classes=2, kernel=(1.0, 0.5, 0.2), penalty=1e-12)
    torch.testing.assert_close(found, torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-11)
