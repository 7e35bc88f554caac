from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q7_gaussian_bound'
points = None


@test_case(name='exact variances: the entropy and the two ends', points=2, hidden=False, failure_message='if sigma_n^2 is the variance of x_{n-1} given x_n for every n, the bound is the entropy of the data plus KL(q(x_N) || N(0, tau^2)).')
def test_tight(gaussian_bound):
    import math
    import torch
    tau, betas = 2.0, torch.linspace(0.05, 0.35, 6, dtype=torch.float64)
    for S2 in (0.3, tau**2, 5.0):
        marginal, exact = [S2], []
        for beta in betas.tolist():
            marginal.append((1 - beta) * marginal[-1] + tau**2 * beta)
            exact.append(tau**2 * beta * marginal[-2] / marginal[-1])
        r = marginal[-1] / tau**2
        want = 0.5 * math.log(2 * math.pi * math.e * S2) + 0.5 * (r - 1 - math.log(r))
        got = float(gaussian_bound(betas, torch.tensor(exact, dtype=torch.float64), S2))
        assert abs(got - want) < 1e-8, f"S^2 = {S2:g}, exact variances: entropy + KL of the ends is {want:.6f} nats, yours {got:.6f}"


@test_case(name="never better than the model's likelihood", points=1, hidden=False, failure_message="the model's own density of x_0 is Gaussian; E[-L] must be at least its cross entropy, and not infinitely more.")
def test_bound(gaussian_bound):
    import math
    import torch
    tau, S2, betas = 2.0, 8.8, torch.tensor([0.1, 0.15, 0.2, 0.3], dtype=torch.float64)
    for variances in (tau**2 * betas, 0.6 * tau**2 * betas):
        v, kept = tau**2, torch.cumprod(1 - betas, 0).tolist()
        for n in range(4, 0, -1):
            beta, rest = betas[n - 1].item(), 1 - kept[n - 1]
            factor = (1 - tau**2 * beta / (kept[n - 1] * S2 + tau**2 * rest)) / (1 - beta) ** 0.5
            v = factor**2 * v + variances[n - 1].item()
        cross = 0.5 * math.log(2 * math.pi * v) + S2 / (2 * v)
        got = float(gaussian_bound(betas, variances, S2))
        assert cross - 1e-9 <= got < cross + 3, f"the model's cross entropy is {cross:.5f} nats, the bound lies a little above it, yours is {got:.5f}"
