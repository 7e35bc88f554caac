from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q3_first'
points = None


@test_case(name='one point', points=1, hidden=False, failure_message='If all data are one point μ, ε̂ does not change along the path and every step is exact: x_t = α_t μ + σ_t ε.')
def test_point(ddim):
    import torch

    mu, eps = torch.tensor([0.8, -1.0]).double(), torch.tensor([[0.5, 2.0], [-1.0, 0.1]]).double()
    alpha, sigma = torch.tensor([0.1, 0.5, 0.8]).double(), torch.tensor([0.99, 0.7, 0.6]).double()
    x = alpha[0] * mu + sigma[0] * eps
    found = ddim(lambda x, a, s: (x - a * mu) / s, x, alpha, sigma)
    right = alpha[-1] * mu + sigma[-1] * eps
    assert found is not None and found.shape == x.shape and torch.allclose(found, right, atol=1e-9), f"got {found.round(decimals=6).tolist()}, expected {right.round(decimals=6).tolist()}"


@test_case(name='a grid that ends at the data', points=1, hidden=False, failure_message='With σ = 0 at the end the last step returns the prediction of x_0; nothing may be infinite or NaN.')
def test_data(ddim):
    import torch

    mu = torch.tensor([0.8, -1.0]).double()
    alpha, sigma = torch.tensor([0.1, 0.6, 1.0]).double(), torch.tensor([0.99, 0.8, 0.0]).double()
    x = torch.tensor([[0.3, 0.4]]).double()
    found = ddim(lambda x, a, s: (x - a * mu) / s, x, alpha, sigma)
    assert bool(found.isfinite().all()), f"got {found.round(decimals=6).tolist()}"
    assert torch.allclose(found, mu[None], atol=1e-9), f"got {found.round(decimals=6).tolist()}, expected {mu.round(decimals=6).tolist()}"
