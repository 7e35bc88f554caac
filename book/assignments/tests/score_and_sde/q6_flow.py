from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q6_flow'
points = None


@test_case(name='Gaussian data, both directions', points=1, hidden=False, failure_message='For Gaussian data x / sqrt(v(t)) is constant along the flow, towards data and towards noise.')
def test_gaussian(flow):
    import torch
    low, high, v0 = 0.1, 20.0, 0.25
    g2 = lambda t: low + (high - low) * t
    keep = lambda t: torch.exp(-(low * t + 0.5 * (high - low) * t ** 2))
    v = lambda t: keep(t) * v0 + 1 - keep(t)
    x = torch.tensor([[1.0, -0.5], [0.3, 2.0]]).double()
    for start, end in ((0.6, 0.1), (0.1, 0.6)):
        ts = torch.linspace(start, end, 81, dtype=torch.float64)
        got = flow(lambda x, t: -x / v(t), x, ts, lambda t: -0.5 * g2(t), g2)
        assert got is not None and got.shape == x.shape, "the result has the shape of x"
        expected = x * (v(ts[-1]) / v(ts[0])) ** 0.5
        message = f"t from {start} to {end}: expected {expected[0].detach().numpy().round(4)}, got {got[0].detach().numpy().round(4)}"
        assert torch.allclose(got, expected, atol=1e-3), message


@test_case(name='ranks', points=1, hidden=False, failure_message='On a line the rank of a point, F_t(x_t), does not change along the flow.')
def test_ranks(flow):
    import torch
    low, high, m, s0 = 0.1, 20.0, 1.5, 0.4
    g2 = lambda t: low + (high - low) * t
    keep = lambda t: torch.exp(-0.5 * (low * t + 0.5 * (high - low) * t ** 2))  # alpha

    def parts(t):
        a = keep(t)
        return a * torch.tensor([m, -m]).double(), (a ** 2 * s0 ** 2 + 1 - a ** 2) ** 0.5

    def rank(x, t):
        centre, deviation = parts(t)
        return torch.special.ndtr((x - centre) / deviation) @ torch.tensor([0.3, 0.7]).double()

    def score(x, t):
        centre, deviation = parts(t)
        z = (x - centre) / deviation
        share = torch.softmax(torch.tensor([0.3, 0.7]).double().log() - 0.5 * z ** 2, 1)
        return -(share * z).sum(1, keepdim=True) / deviation

    x = torch.linspace(-2, 2, 21).double()[:, None]
    ts = torch.linspace(0.9, 0.05, 201, dtype=torch.float64)
    got = flow(score, x, ts, lambda t: -0.5 * g2(t), g2)
    assert got is not None, "nothing was returned"
    before, after = rank(x, ts[0]), rank(got, ts[-1])
    k = (before - after).abs().argmax()
    message = f"x = {x[k].item():.2f} began at rank {before[k]:.5f} and ended at {after[k]:.5f}"
    assert (before - after).abs().max() < 2e-4, message
