from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q5_reverse'
points = None


@test_case(name='one step by hand', points=1, hidden=False, failure_message='With the score -x / v put in, a step is a number times x plus a number times z, with x and z independent: what is the variance of that?')
def test_one_step(em_variance):
    import torch
    ts = torch.tensor([0.5, 0.4], dtype=torch.float64)
    f, g2 = (lambda t: -0.5 * (1 + t)), (lambda t: 1 + t)
    for zeta in (0.0, 1.0, 1.5):
        given = zeta
        got = em_variance(2.0, lambda t: 1.0 + t, ts, f, g2, zeta)
        assert got is not None, "nothing was returned"
        factor = 1 - 0.1 * (-0.75 + 0.5 * (1 + zeta ** 2) * 1.5 / 1.5)
        expected = factor ** 2 * 2.0 + zeta ** 2 * 1.5 * 0.1
        message = f"zeta = {given:.2f}: expected {expected:.6f}, got {float(got):.6f}"
        assert abs(float(got) - expected) < 1e-9, message


@test_case(name='weak order 1', points=1, hidden=False, failure_message='Twice the steps must halve the error of the variance, for every zeta.')
def test_order(em_variance):
    import math
    import torch
    low, high, v0 = 0.1, 20.0, 0.25
    g2 = lambda t: low + (high - low) * t
    keep = lambda t: torch.exp(-(low * t + 0.5 * (high - low) * t ** 2))  # alpha²
    v = lambda t: keep(t) * v0 + 1 - keep(t)
    for zeta in (0.0, 0.7, 1.0):
        given = zeta
        errors = []
        for n in (400, 800):
            ts = torch.linspace(0.6, 0.1, n + 1, dtype=torch.float64)
            got = em_variance(v(ts[0]).item(), v, ts, lambda t: -0.5 * g2(t), g2, zeta)
            assert got is not None, "nothing was returned"
            errors.append(float(got) - v(ts[-1]).item())
        message = f"zeta = {given:.2f}: errors {errors[0]:.2e} and {errors[1]:.2e} with 400 and 800 steps"
        assert 1e-7 < abs(errors[1]) < 0.05 and 1.7 < errors[0] / errors[1] < 2.3, message
