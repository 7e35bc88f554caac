from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q2_interval'
points = None


@test_case(name='inside the interval', points=1, hidden=False, failure_message='Inside the interval the guided score must be (1 - s) times the score of all data plus s times that of the class. Mind which convention the strength follows.')
def test_inside(guided):
    import math
    import torch
    g = torch.Generator().manual_seed(1143)
    x = torch.randn(6, 3, generator=g, dtype=torch.float64)
    V, v, mu = 1.7, 0.4, 0.8

    def model(x, alpha, sigma, y):
        m, c = (0.0, V) if y is None else (mu * y, v)
        return sigma * (x - alpha * m) / (alpha**2 * c + sigma**2)

    for strength in (2.0, 0.0, -0.5):
        w = strength
        f = guided(model, strength, -math.inf, math.inf)
        for lam, y in ((-1.5, 1), (0.3, 2), (1.8, -1)):
            alpha, sigma = 1 / math.sqrt(1 + math.exp(-2 * lam)), 1 / math.sqrt(1 + math.exp(2 * lam))
            got = f(x, alpha, sigma, y)
            z = x.clone().requires_grad_()
            log_all = -z.square() / (2 * (alpha**2 * V + sigma**2))
            log_class = -(z - alpha * mu * y).square() / (2 * (alpha**2 * v + sigma**2))
            score, = torch.autograd.grad(((1 - (1 + w)) * log_all + (1 + w) * log_class).sum(), z)
            expected = -sigma * score
            worst, i = (got - expected).abs().max().item(), int((got - expected).abs().sum(1).argmax())
            assert worst < 1e-9, f"strength {strength}, lambda = {lam}: expected {expected[i].detach().numpy().round(6)} for point {i}; got {got[i].detach().numpy().round(6)}"
