from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q6_bits'
points = None


@test_case(name='the uniform density', points=1, hidden=False, failure_message='The uniform density on the whole range costs log2 of the number of values, whatever v and J are.')
def test_uniform(bits_per_dim):
    import math
    import torch
    g = torch.Generator().manual_seed(0)
    inside = []

    def log_density(y):
        inside.append(((y >= -1) & (y <= 1)).all().item())
        return torch.full((len(y),), -y.shape[1] * math.log(1 - (-1)), dtype=torch.float64)

    for D, J in ((1, 1), (5, 1), (5, 8)):
        v = torch.randint(256, (10, D), generator=g)
        v[0], v[1] = 0, 255
        got = bits_per_dim(log_density, v, J, g)
        assert got is not None and tuple(got.shape) == (10,), "the result must be (B,)"
        expected = math.log2(256)
        message = f"D = {D}, J = {J}: expected {expected:.4f} bits, got {got[0]:.4f}"
        assert torch.allclose(got, torch.tensor(expected).double(), atol=1e-9), message
    assert all(inside), "some y lies outside [-1, 1]"


@test_case(name='one draw, a Gaussian', points=1, hidden=False, failure_message='The mean over the noise is known for a Gaussian density: the noise must be uniform over the cell of v.')
def test_gaussian(bits_per_dim):
    import math
    import torch
    D, n, w = 3, 4000, 0.0078125
    v0 = torch.tensor([85, 0, 255])
    for tau in (2 * w, 0.5 * w):
        start = torch.tensor([-0.3, 0.4, -1.7]).double() * w  # the cell's corner − centre
        centre = (-1) + w * v0 - start

        def log_density(y):
            return torch.distributions.Normal(centre, tau).log_prob(y).sum(1)

        g = torch.Generator().manual_seed(3)
        got = bits_per_dim(log_density, v0.expand(n, -1), 1, g)
        assert got is not None, "nothing was returned"
        square = (start + w / 2) ** 2 + w ** 2 / 12  # mean of (y − centre)²
        nats = -0.5 * square / tau ** 2 - math.log(tau) - 0.5 * math.log(2 * math.pi)
        expected = -((nats + math.log(w)).sum() / (D * math.log(2))).item()
        error = got.std().item() / n ** 0.5
        message = f"mean of {n} bounds: expected {expected:.4f} ± {error:.4f}, got {got.mean():.4f}"
        assert error > 0, "the bound of equal rows never varies: where is the noise?"
        assert abs(got.mean() - expected) < 6 * error + 1e-9, message
