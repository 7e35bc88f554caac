from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q7_regressions'
points = None


@test_case(name='the form', points=1, hidden=False, failure_message='The answer is a tuple of (D,), strictly triangular (D, D), positive (D,).')
def test_form(fit_chain):
    import torch
    for D in (1, 4):
        g = torch.Generator().manual_seed(D)
        x = torch.randn(50, D, generator=g).double() @ torch.randn(D, D, generator=g).double()
        before = x.clone()
        answer = fit_chain(x)
        assert torch.equal(x, before), "your function changed its argument"
        assert answer is not None and len(answer) == 3, "return the tuple (m, B, s)"
        m, B, s = answer
        shapes = tuple(m.shape), tuple(B.shape), tuple(s.shape)
        assert shapes == ((D,), (D, D), (D,)), f"D = {D}: the shapes are {shapes}"
        assert torch.equal(B, (lambda A: A.tril(-1))(B)), "B must be strictly lower triangular"
        assert (s > 0).all(), "deviations must be positive"
        if D > 1:
            assert B.abs().max() > 1e-3, "B is zero, but these columns are correlated"


@test_case(name='the likelihood', points=2, hidden=False, failure_message='The mean log-likelihood must reach that of the Gaussian with the mean and covariance of the data: nothing can be higher, and less is not the maximum.')
def test_likelihood(fit_chain):
    import math
    import torch
    g = torch.Generator().manual_seed(3)
    N, D = 40, 6
    x = torch.randn(N, D, generator=g).double() @ torch.randn(D, D, generator=g).double()
    x = x + torch.arange(D)
    answer = fit_chain(x)
    assert answer is not None, "nothing was returned"
    m, B, s = answer
    got = torch.distributions.Normal(m + x @ B.T, s).log_prob(x).sum(1).mean().item()
    y = x - x.mean(0)
    S = y.T @ y / N
    expected = -0.5 * (D * math.log(2 * math.pi) + torch.logdet(S).item() + D)
    message = f"mean log-likelihood: expected {expected:.6f}, got {got:.6f}"
    assert abs(got - expected) < 1e-8, message
