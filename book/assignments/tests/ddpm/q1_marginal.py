from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q1_marginal'
points = None


@test_case(name='the moments of the chain, step by step', points=1, hidden=False, failure_message='a_n multiplies the mean at every step and s_n^2 follows v -> (1 - beta) v + tau^2 beta, from 1 and 0 at n = 0.')
def test_moments(marginal):
    import torch
    betas, tau = torch.linspace(0.02, 0.4, 7, dtype=torch.float64), 2.0
    a, s = marginal(betas, torch.arange(8))
    mean, var = 1.0, 0.0
    for n in range(8):
        assert abs(float(a[n]) - mean) < 1e-9, f"n = {n}: the mean of x_n is {mean:.6f} x_0, your factor is {float(a[n]):.6f}"
        assert abs(float(s[n]) - var**0.5) < 1e-7, f"n = {n}: the standard deviation of x_n is {var**0.5:.6f}, yours {float(s[n]):.6f}"
        if n < 7:
            beta = betas[n].item()
            mean, var = (1 - beta) ** 0.5 * mean, (1 - beta) * var + tau**2 * beta


@test_case(name='any shape of n, and clean arguments', points=1, hidden=False, failure_message='a_n and s_n have the shape of n; betas and n must not change.')
def test_shape(marginal):
    import torch
    betas, n = torch.full((5,), 0.1, dtype=torch.float64), torch.tensor([[3, 0, 5], [1, 1, 2]])
    before = betas.clone(), n.clone()
    a, s = marginal(betas, n)
    assert a.shape == s.shape == n.shape, f"n has shape {tuple(n.shape)}, your results have {tuple(a.shape)} and {tuple(s.shape)}"
    assert torch.equal(betas, before[0]) and torch.equal(n, before[1]), "an argument was changed"
    want = 0.9 ** (n.double() / 2)
    assert torch.allclose(a, want, rtol=0, atol=1e-9), f"with all betas 0.1 the factor is 0.9^(n/2) = {want.detach().numpy().round(6)}, yours {a.detach().numpy().round(6)}"
