from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q7_two_m'
points = None


@test_case(name='a constant prediction, exactly', points=1, hidden=False, failure_message='If the model always says c, the integral is known: x_i = (sigma_i/sigma_0) x_0 + alpha_i (1 - e^-(lambda_i - lambda_0)) c for any grid, also to the data.')
def test_constant(solve_2m):
    import torch
    lam = torch.tensor([-3.0, -1.4, -0.9, 0.2, 1.9], dtype=torch.float64)
    alphas, sigmas = torch.sigmoid(2 * lam).sqrt(), torch.sigmoid(-2 * lam).sqrt()
    g = torch.Generator().manual_seed(289)
    x, c = (torch.randn(4, 2, generator=g, dtype=torch.float64) for _ in range(2))
    calls = []

    def model(x, alpha, sigma):
        calls.append(float(sigma))
        return c.clone()

    got = solve_2m(model, x.clone(), alphas, sigmas)
    expected = sigmas[-1] / sigmas[0] * x + alphas[-1] * (1 - torch.exp(lam[0] - lam[-1])) * c
    worst = (got - expected).abs().max().item()
    assert got.shape == x.shape and worst < 1e-9, f"a constant prediction: expected {expected[0].detach().numpy().round(6)}; got {got[0].detach().numpy().round(6)}"
    assert len(calls) == 4, f"a grid of 4 steps takes 4 calls; there were {len(calls)}"
    assert all(abs(a - float(b)) < 1e-12 for a, b in zip(calls, sigmas)), "the model must be asked at the start of each step"


@test_case(name='second order', points=2, hidden=False, failure_message='Halving the steps must quarter the error. If it is only halved, the line through two predictions has a wrong slope or is never used.')
def test_order(solve_2m):
    import math
    import torch
    V, v, s = 1.3, 0.4, 3.0
    errors = []
    for n in (40, 80, 160):
        lam = torch.linspace(-3, 2.5, n + 1, dtype=torch.float64)
        alphas, sigmas = torch.sigmoid(2 * lam).sqrt(), torch.sigmoid(-2 * lam).sqrt()

        def model(x, alpha, sigma):
            Vt, vt = alpha**2 * V + sigma**2, alpha**2 * v + sigma**2
            score = -x * ((1 - s) / Vt + s / vt)
            return (x + sigma**2 * score) / alpha

        x = torch.ones(1, 1, dtype=torch.float64)
        got = float(solve_2m(model, x, alphas, sigmas))
        a0, s0, a1, s1 = (float(t) for t in (alphas[0], sigmas[0], alphas[-1], sigmas[-1]))
        ratio = lambda c: (a1**2 * c + s1**2) / (a0**2 * c + s0**2)
        exact = math.sqrt(ratio(V) ** (1 - s) * ratio(v) ** s)
        errors.append(abs(got - exact))
    orders = [math.log2(a / max(b, 1e-300)) for a, b in zip(errors, errors[1:])]
    assert errors[0] < 0.05 and min(orders) > 1.6, f"errors at 40, 80, 160 steps: {', '.join(f'{e:.2e}' for e in errors)}; their order is {', '.join(f'{o:.2f}' for o in orders)}, expected about 2"
