from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q4_bound_term'
points = None


@test_case(name='the two Gaussians', points=2, hidden=False, failure_message='both means are the one of question 2, once with x_0 and once with (x_n - s_n eps_hat) / a_n; the divergence sums over the d coordinates.')
def test_divergence(bound_term):
    import torch
    from torch.distributions import Normal, kl_divergence
    tau, rng = 2.0, torch.Generator().manual_seed(3)
    betas = torch.linspace(0.03, 0.25, 5, dtype=torch.float64)
    eps, eps_hat, x_0 = torch.randn(3, 4, 2, generator=rng, dtype=torch.float64)
    for n, scale in ((2, 1.0), (5, 1.7), (4, 0.6)):
        a, v = 1.0, 0.0
        for beta in betas[:n - 1].tolist():
            a, v = (1 - beta) ** 0.5 * a, (1 - beta) * v + tau**2 * beta
        step = (1 - betas[n - 1].item()) ** 0.5
        v_n = step**2 * v + tau**2 * betas[n - 1].item()
        gain, x_n = step * v / v_n, step * a * x_0 + v_n**0.5 * eps
        guess = (x_n - v_n**0.5 * eps_hat) / (step * a)
        back = lambda clean: a * clean + gain * (x_n - step * a * clean)
        exact = (1 - gain * step) * v
        got = bound_term(betas, n, scale * exact, eps.clone(), eps_hat.clone())
        want = kl_divergence(Normal(back(x_0), exact**0.5), Normal(back(guess), (scale * exact) ** 0.5)).sum(1)
        assert tuple(got.shape) == (4,), f"four rows, your result has shape {tuple(got.shape)}"
        assert torch.allclose(got, want, rtol=1e-7), f"n = {n}: the divergences are {want.detach().numpy().round(6)}, yours {got.detach().numpy().round(6)}"


@test_case(name="a perfect guess leaves the variance's part", points=1, hidden=False, failure_message="with eps_hat = eps only C_n is left: 0 if var is the posterior's variance, positive otherwise.")
def test_constant(bound_term):
    import math
    import torch
    tau, betas = 2.0, torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    eps = torch.ones(2, 3, dtype=torch.float64)
    exact = tau**2 * 0.2 * 0.1 / (1 - 0.9 * 0.8)
    for factor in (1.0, 2.0, 0.25):
        got = float(bound_term(betas, 2, factor * exact, eps, eps)[0])
        want = 1.5 * (1 / factor - 1 + math.log(factor))
        assert abs(got - want) < 1e-9, f"var = {factor} times the posterior's variance, d = 3: C_n is {want:.6f}, yours {got:.6f}"
