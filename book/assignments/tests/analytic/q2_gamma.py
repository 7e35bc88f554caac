from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q2_gamma'
points = None


@test_case(name='Gaussian data in the plane', points=1, hidden=False, failure_message='For x ~ N(·, V) the score is −V⁻¹(x − mean), so Γ = tr V⁻¹/d.')
def test_plane(estimate_gamma):
    import math
    import torch

    g = torch.Generator().manual_seed(5)
    alpha, sigma, spread = 0.8, 0.6, torch.tensor([0.7, 0.2]).double()
    data = 0.5 + spread * torch.randn(20000, 2, generator=g).double()
    V = alpha**2 * spread**2 + sigma**2
    value, _ = estimate_gamma(lambda x: sigma * (x - alpha * 0.5) / V, data, alpha, sigma, torch.Generator().manual_seed(6), 100 * 10)
    right, error = (1 / V).mean().item(), (2 * (1 / V**2).sum()).sqrt().item() / 2 / math.sqrt(20000)
    assert abs(float(value) - right) < 6 * error, f"Γ = {float(value):.4f}, expected {right:.4f} ± {error:.4f}"


@test_case(name='the standard error', points=1, hidden=False, failure_message='For Gaussian data the variance of g is 2 tr V⁻²/d²; the standard error is its root over √M.')
def test_stderr(estimate_gamma):
    import math
    import torch

    g = torch.Generator().manual_seed(7)
    alpha, sigma, spread = 0.6, 0.8, torch.tensor([1.0, 0.1, 0.7]).double()
    data = spread * torch.randn(20000, 3, generator=g).double()
    V = alpha**2 * spread**2 + sigma**2
    _, stderr = estimate_gamma(lambda x: sigma * x / V, data, alpha, sigma, torch.Generator().manual_seed(8), 5000)
    right = (2 * (1 / V**2).sum()).sqrt().item() / 3 / math.sqrt(20000)
    assert abs(float(stderr) / right - 1) < 0.1, f"standard error {float(stderr):.5f}, expected about {right:.5f}"
