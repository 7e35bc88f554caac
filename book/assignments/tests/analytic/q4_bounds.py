from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q4_bounds'
points = None


@test_case(name='the lower bound', points=1, hidden=False, failure_message='Data that are a single point have c = 0, so σ*² = ω² is possible, and nothing below.')
def test_lower(variance_bounds):
    import torch

    abar_t, abar_s = torch.tensor([0.1, 0.4, 0.9]).double(), torch.tensor([0.3, 0.8, 0.95]).double()
    beta_tilde = (1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)
    for share in (0.0, 0.3, 1.0):
        lower, upper = variance_bounds(abar_t, abar_s, share**2 * beta_tilde)
        assert lower.shape == upper.shape == (3,), f"shapes {tuple(lower.shape)} and {tuple(upper.shape)}, expected (3,)"
        assert torch.allclose(lower, share**2 * beta_tilde, atol=1e-12), f"lower bounds {lower.round(decimals=6).tolist()}, expected {(share**2 * beta_tilde).round(decimals=6).tolist()}"
        assert (upper > lower).all(), "the upper bound must lie above the lower one"


@test_case(name='the upper bound, much noise', points=1, hidden=False, failure_message='Through much noise x_t says nothing, and Var[x_0 | x_t] is that of the data: half of the mass at each end of the range is the widest.')
def test_much_noise(variance_bounds):
    import torch

    half = (1 - 0) / 2
    abar_t, abar_s = torch.tensor([1e-7, 1e-8]).double(), torch.tensor([0.2, 0.9]).double()
    for omega2 in (torch.zeros(2).double(), torch.tensor([0.3, 0.05]).double()):
        _, upper = variance_bounds(abar_t, abar_s, omega2)
        # x_s = g x_0 + k x_t + ω z with Var[x_0 | x_t] = half²
        k = ((1 - abar_s - omega2) / (1 - abar_t)).sqrt()
        right = omega2 + (abar_s.sqrt() - k * abar_t.sqrt()) ** 2 * half**2
        assert upper.shape == right.shape and torch.allclose(upper, right, rtol=1e-3), f"upper bounds {upper.round(decimals=6).tolist()}, expected {right.round(decimals=6).tolist()}"
