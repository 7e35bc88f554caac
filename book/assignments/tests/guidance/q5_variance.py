from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q5_variance'
points = None


@test_case(name='everywhere and nowhere', points=2, hidden=False, failure_message='Guided everywhere the variance is V^(1-s) v^s; in an empty interval it is that of the class.')
def test_ends(guided_variance):
    import math
    inf = math.inf
    for V, v, w in ((1.6, 0.4, 2.0), (1.0, 0.3, 2.0), (2.0, 0.5, 0.0), (1.5, 0.9, 0.5)):
        got = float(guided_variance(V, v, w, -math.inf, math.inf))
        expected = V ** (1 - (1 + w)) * v ** (1 + w)
        assert abs(got / expected - 1) < 1e-9, f"V = {V}, v = {v}, strength {w}, everywhere: expected {expected:.8f}; got {got:.8f}"
        got = float(guided_variance(V, v, w, -1.2, -1.2))
        assert abs(got / v - 1) < 1e-9, f"an empty interval: expected the class's variance {v}; got {got:.8f}"
