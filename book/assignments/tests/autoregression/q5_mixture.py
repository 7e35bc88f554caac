from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q5_mixture'
points = None


@test_case(name='sums of Gaussians', points=2, hidden=False, failure_message='Near the components the value must be the logarithm of the weighted sum of normal densities.')
def test_values(log_mixture):
    import torch
    g = torch.Generator().manual_seed(1)
    for K in (1, 2, 5):
        u, mu, s = (torch.randn(6, K, generator=g).double() for _ in range(3))
        x = torch.randn(6, generator=g).double()
        got = log_mixture(u, mu, s, x)
        assert got is not None and tuple(got.shape) == (6,), "x (6,) must give (6,)"
        log_sigma = s
        pi, sigma = u.exp() / u.exp().sum(1, keepdim=True), log_sigma.exp()
        density = torch.distributions.Normal(mu, sigma).log_prob(x[:, None]).exp()
        expected = (pi * density).sum(1).log()
        k = (got - expected).abs().argmax()
        message = f"K = {K}: expected {expected[k]:.5f}, got {got[k]:.5f}"
        assert torch.allclose(got, expected, atol=1e-10), message


@test_case(name='far out', points=1, hidden=False, failure_message='Far from all components the log-density must be finite and right, in float32, too.')
def test_far(log_mixture):
    import math
    import torch
    for dtype in (torch.float32, torch.float64):
        for x in (30.0, -200.0, 1000.0):
            u, mu = torch.zeros(2, dtype=dtype), torch.tensor([0.0, 5.0], dtype=dtype)
            s = torch.zeros(2, dtype=dtype)  # both deviations are 1
            got = log_mixture(u, mu, s, torch.tensor(x, dtype=dtype))
            assert got is not None, "nothing was returned"
            near = min(abs(x), abs(x - 5))
            expected = -0.5 * near ** 2 - 0.5 * math.log(2 * math.pi) - math.log(2)
            message = f"x = {x}, {dtype}: expected {expected:.3f}, got {got.item():.3f}"
            assert abs(got.item() - expected) < 1e-5 * abs(expected), message
            assert got.dtype == dtype, f"x is {dtype}, the result {got.dtype}"
