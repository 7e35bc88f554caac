from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q6_threshold'
points = None


@test_case(name='in range and consistent', points=2, hidden=False, failure_message='The new mean lies in [-1.0, 1.0] and alpha x0 + sigma eps = x still holds: the noise must move with the mean.')
def test_consistent(threshold):
    import torch
    g = torch.Generator().manual_seed(289)
    alpha, sigma = 0.6, 0.8
    x0 = torch.randn(5, 3, 8, 8, generator=g, dtype=torch.float64) * 1.0 * torch.tensor([0.1, 0.5, 1.0, 2.0, 5.0], dtype=torch.float64).reshape(-1, 1, 1, 1)
    eps = torch.randn(5, 3, 8, 8, generator=g, dtype=torch.float64)
    x = alpha * x0 + sigma * eps
    mean, noise = threshold(eps.clone(), x.clone(), alpha, sigma, 0.9)
    assert mean.shape == x.shape and noise.shape == x.shape, f"expected two tensors of shape {tuple(x.shape)}; got {tuple(mean.shape)}, {tuple(noise.shape)}"
    largest = mean.abs().max().item()
    assert largest <= 1.0 + 1e-9, f"the mean must lie in [-1.0, 1.0]; its largest size is {largest:.6f}"
    gap = (alpha * mean + sigma * noise - x).abs().max().item()
    assert gap < 1e-9, f"alpha x0 + sigma eps must be x; it is off by {gap:.3g}"
    moved = (mean[0] - x0[0]).abs().max().item()
    assert moved < 1e-9, f"a sample in range must stay as it is; it moved by {moved:.3g}"
