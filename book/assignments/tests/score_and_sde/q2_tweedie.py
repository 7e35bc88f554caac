from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q2_tweedie'
points = None


@test_case(name='Gaussian data: the mean', points=1, hidden=False, failure_message='For Gaussian data the posterior mean is known in closed form.')
def test_mean(posterior_moments):
    import torch
    g = torch.Generator().manual_seed(3)
    A = torch.randn(3, 3, generator=g).double()
    C, m = A @ A.T, torch.tensor([1.0, -1.0, 0.5]).double()
    for a0, c0 in ((0.6, 0.8), (1.0, 0.1), (0.2, 0.9)):
        x = torch.randn(2, 3, generator=g).double()
        alpha, sigma = torch.full((2,), a0).double(), torch.full((2,), c0).double()
        P = torch.linalg.inv(a0 ** 2 * C + c0 ** 2 * torch.eye(3).double())
        score, hessian = -(x - a0 * m) @ P, -P.expand(2, 3, 3)
        c = sigma[:, None]
        F, J = -c * score, -c[..., None] * hessian
        answer = posterior_moments(x, F, J, alpha, sigma)
        assert answer is not None and len(answer) == 2, "return the tuple (mean, cov)"
        expected = m + a0 * (x - a0 * m) @ P @ C
        got = answer[0]
        message = f"alpha {a0}, sigma {c0}: expected {expected[0].detach().numpy().round(4)}, got {got[0].detach().numpy().round(4)}"
        assert torch.allclose(got, expected, atol=1e-8), message


@test_case(name='Gaussian data: the covariance', points=1, hidden=False, failure_message='For Gaussian data the posterior covariance is C - alpha^2 C (alpha^2 C + sigma^2)^-1 C, whatever x is.')
def test_covariance(posterior_moments):
    import torch
    g = torch.Generator().manual_seed(4)
    A = torch.randn(3, 3, generator=g).double()
    C = A @ A.T
    for a0, c0 in ((0.6, 0.8), (1.0, 0.1), (0.2, 0.9)):
        x = torch.randn(2, 3, generator=g).double()
        alpha, sigma = torch.full((2,), a0).double(), torch.full((2,), c0).double()
        P = torch.linalg.inv(a0 ** 2 * C + c0 ** 2 * torch.eye(3).double())
        score, hessian = -x @ P, -P.expand(2, 3, 3)
        c = sigma[:, None]
        F, J = -c * score, -c[..., None] * hessian
        answer = posterior_moments(x, F, J, alpha, sigma)
        assert answer is not None and len(answer) == 2, "return the tuple (mean, cov)"
        expected, got = C - a0 ** 2 * C @ P @ C, answer[1]
        assert tuple(got.shape) == (2, 3, 3), f"shape {tuple(got.shape)}, expected (2, 3, 3)"
        message = (f"alpha {a0}, sigma {c0}: expected first row {expected[0].detach().numpy().round(4)}, "
                   f"got {got[0, 0].detach().numpy().round(4)}")
        assert torch.allclose(got, expected.expand(2, 3, 3), atol=1e-8), message
