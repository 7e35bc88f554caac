from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q7_likelihood'
points = None


@test_case(name='divergences', points=1, hidden=False, failure_message='The divergence is the trace of the Jacobian of every row, also for fields that are not gradients.')
def test_divergence(divergence):
    import torch
    x = torch.tensor([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]]).double()
    t = torch.tensor(0.7).double()
    A = torch.tensor([[1.0, 5.0, 2.0], [-3.0, 0.5, 0.0], [4.0, 1.0, -2.0]]).double()
    cases = (("u = A x", lambda x, t: x @ A.T, torch.full((2,), -0.5).double()),
             ("u = t (x1 x2, x2 x3, x3 x1)", lambda x, t: t * x * x.roll(-1, 1), 0.7 * x.sum(1)),
             ("u = sin x", lambda x, t: torch.sin(x), torch.cos(x).sum(1)))
    for name, u, expected in cases:
        got = divergence(u, x, t)
        assert got is not None and tuple(got.shape) == (2,), "one number per row: (B,)"
        message = f"{name}: expected {expected.detach().numpy().round(4)}, got {got.detach().numpy().round(4)}"
        assert torch.allclose(got, expected, atol=1e-9), message


@test_case(name='a linear flow', points=1, hidden=False, failure_message='For u = A x the point ends at exp(A) x, and the divergence is the trace of A all the way.')
def test_linear(log_likelihood):
    import math
    import torch
    A = torch.tensor([[0.4, 1.0], [-0.8, -0.3]]).double()
    x = torch.tensor([[1.0, 0.5], [-0.3, 2.0]]).double()
    log_p_end = lambda y: -0.5 * (y ** 2).sum(1) - math.log(2 * math.pi)
    got = log_likelihood(lambda x, t: x @ A.T, x, torch.linspace(0, 1, 61).double(), log_p_end)
    assert got is not None and tuple(got.shape) == (2,), "one number per row: (B,)"
    log_p = log_p_end(x @ torch.linalg.matrix_exp(A).T) + torch.trace(A)
    expected = log_p
    message = f"expected {expected.detach().numpy().round(4)}, got {got.detach().numpy().round(4)}"
    assert torch.allclose(got.double(), expected, atol=1e-3), message
