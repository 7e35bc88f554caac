from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q2_nade'
points = None


@test_case(name='the definition', points=2, hidden=False, failure_message='The value must be that of the definition, every hidden layer computed from all of x_<i.')
def test_definition(nade_log_prob):
    import torch
    phi = torch.tanh
    g = torch.Generator().manual_seed(3)
    D, L = 12, 5
    W, V = (torch.randn(D, L, generator=g).double() for _ in range(2))
    b, c = torch.randn(L, generator=g).double(), torch.randn(D, generator=g).double()
    x = (torch.rand(7, D, generator=g) < 0.5).double()
    got = nade_log_prob(W, b, V, c, x)
    assert got is not None and tuple(got.shape) == (7,), "the result must have shape (B,)"
    h = torch.stack([phi(b + x[:, :i] @ W[:i]) for i in range(D)], 1)
    z = (h * V).sum(-1) + c
    expected = torch.distributions.Bernoulli(logits=z).log_prob(x).sum(1)
    worst = (got - expected).abs().argmax()
    message = f"row {worst}: expected {expected[worst]:.6f}, got {got[worst]:.6f}"
    assert torch.allclose(got, expected, atol=1e-9), message


@test_case(name='sums to one', points=1, hidden=False, failure_message='Over all 2^D states the probabilities must sum to 1.')
def test_normalised(nade_log_prob):
    import torch
    g = torch.Generator().manual_seed(4)
    D, L = 9, 3
    W, V = (2 * torch.randn(D, L, generator=g).double() for _ in range(2))
    b, c = torch.randn(L, generator=g).double(), torch.randn(D, generator=g).double()
    x = (torch.arange(2 ** D)[:, None] >> torch.arange(D) & 1).double()
    got = nade_log_prob(W, b, V, c, x)
    assert got is not None, "nothing was returned"
    total = got.exp().sum()
    assert abs(total - 1) < 1e-9, f"sum of p(x) over {2 ** D} states is {total:.8f}"
    assert got.std() > 0.1, "all states have the same probability"
