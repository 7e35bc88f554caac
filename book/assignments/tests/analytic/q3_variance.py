from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q3_variance'
points = None


@test_case(name='the example', points=1, hidden=False, failure_message='See the example in the text.')
def test_example(optimal_variance):
    import torch

    values = [torch.tensor(v, dtype=torch.float64) for v in (0.9, 0.3, 0.9, 0.04)]
    found = float(optimal_variance(*values))
    assert abs(found - 0.57653) < 1e-5, f"got {found:.5f}, expected 0.57653"


@test_case(name='Gaussian data', points=1, hidden=False, failure_message='For Gaussian data (x_0, x_t, x_s) is jointly Gaussian, and Var[x_s | x_t] = Var x_s − Cov(x_s, x_t)²/Var x_t.')
def test_gaussian(optimal_variance):
    import torch

    a2 = 0.7 ** 2
    abar_t = torch.tensor([0.02, 0.3, 0.3, 0.9, 0.97]).double()
    abar_s = torch.tensor([0.4, 0.35, 0.8, 0.95, 0.99]).double()
    for share in (0.0, 0.3, 1.0):
        beta = 1 - abar_t / abar_s
        omega2 = share**2 * (1 - abar_s) / (1 - abar_t) * beta
        V_t = abar_t * a2 + 1 - abar_t
        found = optimal_variance(1 / V_t, abar_t, abar_s, omega2)
        # x_t = α_t x_0 + σ_t ε and x_s = α_s x_0 + √(σ_s² − ω²) ε + ω z
        V_s = abar_s * a2 + 1 - abar_s
        both = (abar_t * abar_s).sqrt() * a2 + ((1 - abar_t) * (1 - abar_s - omega2)).sqrt()
        right = V_s - both**2 / V_t
        assert found is not None and found.shape == right.shape, "expected one variance per step, shape (5,)"
        assert torch.allclose(found, right, rtol=1e-7, atol=1e-10), f"η = {share}: got {found.round(decimals=6).tolist()}, expected {right.round(decimals=6).tolist()}"
