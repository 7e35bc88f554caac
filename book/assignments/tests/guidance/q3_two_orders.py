from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q3_two_orders'
points = None


@test_case(name='tilt, then diffuse', points=1, hidden=False, failure_message='Add the log densities first, complete the square, then map mean and variance through alpha x + sigma eps.')
def test_tilt_first(two_orders):
    import numpy as np
    (m0, V), (m1, v) = prior, cond = (0.5, 1.6), (0.8, 0.4)
    alpha, sigma, w = 0.8, 0.7, 2.0
    x = np.linspace(-30, 30, 60001)
    log_p = -(1 - (1 + w)) * (x - m0)**2 / (2 * V) - (1 + w) * (x - m1)**2 / (2 * v)
    got = two_orders(prior, cond, w, alpha, sigma)
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    mean = (p * x).sum()
    var = (p * (x - mean)**2).sum()
    expected = alpha * mean, alpha**2 * var + sigma**2
    for name, a, b in zip(("mean", "variance"), got[0], expected):
        assert abs(float(a) - b) < 1e-6, f"tilt, then diffuse: expected the {name} {b:.6f}; got {float(a):.6f}"


@test_case(name='diffuse, then tilt', points=1, hidden=False, failure_message='Diffuse the two Gaussians first, then tilt what comes out: the same algebra with other numbers.')
def test_diffuse_first(two_orders):
    import numpy as np
    (m0, V), (m1, v) = prior, cond = (0.5, 1.6), (0.8, 0.4)
    x = np.linspace(-30, 30, 60001)
    for alpha, sigma, w in ((0.8, 0.7, 2.0), (0.3, 0.2, 2.0), (1.0, 1.5, 0.0)):
        got = two_orders(prior, cond, w, alpha, sigma)
        log_p = -(1 - (1 + w)) * (x - alpha * m0)**2 / (2 * (alpha**2 * V + sigma**2))
        log_p = log_p - (1 + w) * (x - alpha * m1)**2 / (2 * (alpha**2 * v + sigma**2))
        p = np.exp(log_p - log_p.max())
        p /= p.sum()
        mean = (p * x).sum()
        var = (p * (x - mean)**2).sum()
        for name, a, b in zip(("mean", "variance"), got[1], (mean, var)):
            assert abs(float(a) - b) < 1e-6, f"diffuse, then tilt, at alpha = {alpha}, sigma = {sigma}: expected the {name} {b:.6f}; got {float(a):.6f}"
