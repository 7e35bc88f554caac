from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q2_truth'
points = None


@test_case(name='the example', points=1, hidden=False, failure_message='See the example in the text.')
def test_example(exact_flow):
    import torch

    one = torch.ones(1, 1, dtype=torch.float64)
    found = exact_flow(1.2 * one, torch.zeros(1).double(), 0.49 * one, 0.6, 0.8, 0.9798, 0.2)
    assert found.shape == (1, 1), f"shape {tuple(found.shape)}, expected (1, 1)"
    assert abs(found.item() - 0.9488) < 1e-3, f"got {found.item():.4f}, expected 0.9488"


@test_case(name='the law at t', points=1, hidden=False, failure_message='If x has the mean α_s μ and the covariance α_s² C + σ_s² I, the result must have α_t μ and α_t² C + σ_t² I.')
def test_law(exact_flow):
    import torch

    mu, C = torch.tensor([0.8, 0.3]).double(), torch.tensor([[1.0, 0.4], [0.4, 0.3]]).double()
    eye = torch.eye(2).double()
    for (a_s, s_s), (a_t, s_t) in (((0.6, 0.8), (0.8, 0.6)), ((1.0, 5.0), (1.0, 0.5)), ((0.2, 0.8), (0.9, 0.1))):
        root = torch.linalg.cholesky(a_s**2 * C + s_s**2 * eye)
        x = torch.cat([a_s * mu[None], a_s * mu + root.T])  # the mean, and the mean plus the columns of a root
        y = exact_flow(x, mu, C, a_s, s_s, a_t, s_t)
        assert y.shape == (3, 2), f"shape {tuple(y.shape)}, expected (3, 2)"
        assert torch.allclose(y[0], a_t * mu, atol=1e-9), f"α_s μ goes to {y[0].round(decimals=6).tolist()}, expected {(a_t * mu).round(decimals=6).tolist()}"
        moved = (y[1:] - y[0]).T
        right = a_t**2 * C + s_t**2 * eye
        assert torch.allclose(moved @ moved.T, right, atol=1e-9), f"covariance {(moved @ moved.T).round(decimals=6).tolist()}, expected {right.round(decimals=6).tolist()}"
