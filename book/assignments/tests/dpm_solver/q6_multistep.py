from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q6_multistep'
points = None


@test_case(name='one point', points=1, hidden=False, failure_message='If all data are one point μ, x̂_0 = μ always, and every step is exact. Each step asks once.')
def test_point(solve_2m):
    import torch

    mu, eps = torch.tensor([0.8, 1.0]).double(), torch.tensor([[0.5, -2.0], [1.0, 0.3]]).double()
    alpha, sigma = torch.tensor([0.1, 0.3, 0.7, 0.9]).double(), torch.tensor([0.99, 0.9, 0.7, 0.2]).double()
    asked = []

    def point(x, a, s):
        asked.append(float(s))
        return mu.expand_as(x)

    found = solve_2m(point, alpha[0] * mu + sigma[0] * eps, alpha, sigma)
    right = alpha[-1] * mu + sigma[-1] * eps
    assert found is not None and torch.allclose(found, right, atol=1e-9), f"got {found.round(decimals=6).tolist()}, expected {right.round(decimals=6).tolist()}"
    assert asked == sigma[:3].tolist(), f"asked at σ = {asked}, expected once at the start of each step: {sigma[:3].round(decimals=6).tolist()}"


@test_case(name='order two, even steps', points=1, hidden=False, failure_message='Twice as many even steps in λ must divide the error by four.')
def test_even(solve_2m):
    import math
    import torch

    v, mu = torch.tensor([0.04, 0.4, 3.0]).double(), torch.tensor([0.8, 0.0, -1.0]).double()
    x0_hat = lambda x, a, s: mu + a * v * (x - a * mu) / (a**2 * v + s**2)
    errors = []
    for n in (60, 120, 240):
        lam = torch.linspace(-2.5, 3.0, n + 1, dtype=torch.float64)
        alpha, sigma = torch.sigmoid(2 * lam).sqrt(), torch.sigmoid(-2 * lam).sqrt()
        z = torch.tensor([[1.0, -0.5, 2.0], [-1.0, 1.5, 0.3]]).double()
        start, end = (alpha[i] * mu + z * (alpha[i] ** 2 * v + sigma[i] ** 2).sqrt() for i in (0, -1))
        errors.append((solve_2m(x0_hat, start, alpha, sigma) - end).square().mean().sqrt().item())
    slopes = [math.log2(a / b) for a, b in zip(errors, errors[1:])]
    text = f"errors {', '.join(f'{e:.2e}' for e in errors)} at 60, 120, 240 steps: measured orders {slopes[0]:.2f}, {slopes[1]:.2f}"
    assert errors[0] < 0.02 and slopes[1] > 1.85, text
