from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q5_bound'
points = None


@test_case(name='exact for Gaussian data', points=2, hidden=False, failure_message='For data N(μ, a² I), the exact mean, c = Var[x_0 | x_t] and p(x_N) = q(x_N) the bound is log q(x_0), for every path.')
def test_exact(bound):
    import math
    import torch

    N, d, mu, a2 = 30, 2, 0.5, 0.7 ** 2
    abar = torch.cat([torch.ones(1), torch.cumprod(1 - torch.linspace(0.005, 0.3, N), 0)]).double()
    V = abar * a2 + 1 - abar
    x0_hat = lambda x, n: mu + abar[n].sqrt() * a2 / V[n] * (x - abar[n].sqrt() * mu)
    x0 = torch.tensor([[0.3, -1.0], [1.2, 0.4]]).double()
    corners = math.sqrt(d) * torch.cat([torch.eye(d), -torch.eye(d)]).double()
    right = -0.5 * ((x0 - mu).square().sum(1) / a2 + d * math.log(2 * math.pi * a2))
    for path in ([30], [1, 30], [2, 9, 17, 30], list(range(1, 31))):
        c = (a2 * (1 - abar) / V)[path]
        each = bound(x0.repeat_interleave(4, 0), corners.repeat(2, 1), x0_hat, c, abar, path, abar[N].sqrt().item() * mu, V[N].item())
        assert each.shape == (8,), f"shape {tuple(each.shape)}, expected (8,): one value per datum"
        found = each.reshape(2, 4).mean(1)
        assert torch.allclose(found, right, atol=1e-7), f"{len(path)} steps: bound {found.round(decimals=6).tolist()}, log q(x_0) {right.round(decimals=6).tolist()}"


@test_case(name='one datum, one value', points=1, hidden=False, failure_message="The result has the shape (B,), and a datum's value does not depend on its neighbours.")
def test_rows(bound):
    import torch

    abar = torch.tensor([1.0, 0.8, 0.5, 0.1]).double()
    x0 = torch.tensor([[0.5, 1.0, -1.0], [0.0, 0.2, 0.9], [-1.0, 0.4, 0.1]]).double()
    noise = torch.tensor([[0.1, -1.0, 0.3], [1.0, 0.7, -0.2], [0.0, 0.4, 2.0]]).double()
    c = torch.tensor([0.2, 0.3]).double()
    together = bound(x0, noise, lambda x, n: 0.5 * x, c, abar, [1, 3], 0.0, 1.0)
    apart = [bound(x0[i : i + 1], noise[i : i + 1], lambda x, n: 0.5 * x, c, abar, [1, 3], 0.0, 1.0) for i in range(3)]
    assert together.shape == (3,), f"shape {tuple(together.shape)}, expected (3,)"
    assert torch.allclose(together, torch.cat(apart)), "the value of a datum changes with the rest of the batch"
    assert together.std() > 0.1, "three different data have the same bound"
