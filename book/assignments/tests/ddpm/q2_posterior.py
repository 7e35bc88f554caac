from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q2_posterior'
points = None


@test_case(name="Bayes' rule for Gaussians", points=2, hidden=False, failure_message='given x_0, the pair (x_{n-1}, x_n) is Gaussian; condition it on x_n.')
def test_bayes(posterior):
    import torch
    betas, tau = torch.linspace(0.05, 0.3, 6, dtype=torch.float64), 2.0
    x_n, x_0 = torch.tensor([[1.3, -0.4]], dtype=torch.float64), torch.tensor([[0.7, 2.0]], dtype=torch.float64)
    for n in (2, 4, 6):
        mean, var = posterior(betas, n, x_n.clone(), x_0.clone())
        a, v = 1.0, 0.0                     # of x_{n-1}, given x_0
        for beta in betas[:n - 1].tolist():
            a, v = (1 - beta) ** 0.5 * a, (1 - beta) * v + tau**2 * beta
        step = (1 - betas[n - 1].item()) ** 0.5
        covariance, var_n = step * v, step**2 * v + tau**2 * betas[n - 1].item()
        want = a * x_0 + covariance / var_n * (x_n - step * a * x_0)
        assert abs(float(var) - (v - covariance**2 / var_n)) < 1e-9, f"n = {n}: the variance is {v - covariance**2 / var_n:.6f}, yours {float(var):.6f}"
        assert torch.allclose(mean, want, atol=1e-9), f"n = {n}: the mean is {want.detach().numpy().round(6)}, yours {mean.detach().numpy().round(6)}"


@test_case(name='the first step', points=1, hidden=False, failure_message='at n = 1, x_{n-1} is x_0 itself: the mean is x_0, the variance 0.')
def test_first(posterior):
    import torch
    betas = torch.tensor([0.2, 0.3], dtype=torch.float64)
    x_n, x_0 = torch.tensor([0.5, -1.0], dtype=torch.float64), torch.tensor([2.0, 3.0], dtype=torch.float64)
    mean, var = posterior(betas, 1, x_n, x_0)
    assert torch.allclose(mean, x_0, atol=1e-12), f"n = 1: the mean is x_0 = {x_0.detach().numpy().round(6)}, yours {mean.detach().numpy().round(6)}"
    assert abs(float(var)) < 1e-12, f"n = 1: x_0 is known, the variance is 0, yours {float(var)}"
