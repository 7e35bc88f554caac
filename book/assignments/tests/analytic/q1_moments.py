from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q1_moments'
points = None


@test_case(name='a Gaussian on the line', points=1, hidden=False, failure_message='For Gaussian data N(m, a²) the posterior is N(m + α a² (x − α m)/v, a² σ²/v) with v = α² a² + σ².')
def test_line(posterior_moments):
    import torch

    m, a2, alpha, sigma = 0.5, 4, 0.6, 0.8
    v = alpha**2 * a2 + sigma**2
    x = torch.tensor([[-1.0], [0.2], [3.0]], dtype=torch.float64)
    mean, cov = posterior_moments(lambda y: -(y - alpha * m) / v, x.clone(), alpha, sigma)
    assert mean.shape == (3, 1) and cov.shape == (3, 1, 1), f"shapes {tuple(mean.shape)} and {tuple(cov.shape)}, expected (3, 1) and (3, 1, 1)"
    right = m + alpha * a2 / v * (x - alpha * m)
    assert torch.allclose(mean, right, atol=1e-6), f"mean {mean.flatten().round(decimals=6).tolist()}, expected {right.flatten().round(decimals=6).tolist()}"
    right = a2 * sigma**2 / v
    assert torch.allclose(cov, torch.full_like(cov, right), atol=1e-6), f"variance {cov.flatten().round(decimals=6).tolist()}, expected {right:.6f} everywhere"


@test_case(name='a Gaussian in the plane', points=1, hidden=False, failure_message='For Gaussian data N(m, C) the covariance is C − α² C (α² C + σ² I)⁻¹ C, whatever x.')
def test_plane(posterior_moments):
    import torch

    m, C = torch.tensor([0.5, -0.2]).double(), torch.tensor([[1.1, 0.6], [0.6, 0.5]]).double()
    alpha, sigma = 0.6, 0.8
    V = alpha**2 * C + sigma**2 * torch.eye(2).double()
    gain = alpha * C @ torch.linalg.inv(V)
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(3)).double()
    mean, cov = posterior_moments(lambda y: -(y - alpha * m) @ torch.linalg.inv(V), x.clone(), alpha, sigma)
    right = m + (x - alpha * m) @ gain.T
    assert mean.shape == right.shape and torch.allclose(mean, right, atol=1e-6), "the mean is not m + α C V⁻¹ (x − α m)"
    assert cov.shape == (4, 2, 2), f"cov has shape {tuple(cov.shape)}, expected (4, 2, 2)"
    right = C - alpha * gain @ C
    assert torch.allclose(cov, right.expand(4, 2, 2), atol=1e-6), f"covariance {cov[0].round(decimals=6).tolist()}, expected {right.round(decimals=6).tolist()}"
