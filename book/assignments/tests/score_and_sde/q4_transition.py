from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q4_transition'
points = None


@test_case(name='constant coefficients', points=1, hidden=False, failure_message='For constant coefficients the mean decays and the variance relaxes: a = exp(f (t - s)), b^2 = g^2 (exp(2 f (t - s)) - 1) / (2 f).')
def test_constant(transition):
    import math
    import torch
    for F, G, s, t in ((-1.0, 2.0, 0.0, 1.0), (-0.5, 1.5, 0.5, 1.5), (0.7, 1.0, 0.2, 1.0)):
        f, g2 = (lambda u: torch.full_like(u, F)), (lambda u: torch.full_like(u, G))
        answer = transition(f, g2, s, t)
        assert answer is not None and len(answer) == 2, "return the tuple (a, b)"
        expected = math.exp(F * (t - s)), math.sqrt(G * math.expm1(2 * F * (t - s)) / (2 * F))
        for name, value, due in zip("ab", answer, expected):
            message = f"f = {F}, g^2 = {G}, {s} to {t}: expected {name} = {due:.6f}, got {float(value):.6f}"
            assert abs(float(value) / due - 1) < 1e-4, message


@test_case(name='variance preserving', points=1, hidden=False, failure_message='With f = -beta/2 and g^2 = beta the path preserves variance: a^2 + b^2 = 1, and a = exp(-1/2 integral of beta).')
def test_vp(transition):
    import math
    import torch
    low, high = 0.1, 20.0
    g2 = lambda u: low + (high - low) * u
    for t in (0.01, 0.3, 0.8):
        answer = transition(lambda u: -0.5 * g2(u), g2, 0.0, t)
        assert answer is not None and len(answer) == 2, "return the tuple (a, b)"
        a = math.exp(-0.5 * (low * t + 0.5 * (high - low) * t * t))
        expected = a, math.sqrt(1 - a * a)
        for name, value, due in zip("ab", answer, expected):
            message = f"from 0 to {t}: expected {name} = {due:.6f}, got {float(value):.6f}"
            assert abs(float(value) / due - 1) < 1e-4, message
