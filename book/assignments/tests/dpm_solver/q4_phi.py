from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q4_phi'
points = None


@test_case(name='the example', points=1, hidden=False, failure_message='See the example in the text.')
def test_example(phi):
    import torch

    h = torch.tensor([0.5], dtype=torch.float64)
    for k, right in ((1, 1.297443), (2, 0.594885)):
        found = phi(k, h)
        assert found.shape == (1,) and abs(found.item() - right) < 2e-6, f"φ_{k}(0.5) = {found.round(decimals=6).tolist()}, expected {right}"
    found = phi(1, torch.tensor([1.0, -2.0], dtype=torch.float64))
    right = torch.tensor([1.718281828459045, 0.43233235838169365], dtype=torch.float64)
    assert torch.allclose(found, right, rtol=1e-10), f"φ_1(1), φ_1(−2) = {found.round(decimals=6).tolist()}, expected {right.round(decimals=6).tolist()}"


@test_case(name='ordinary steps', points=1, hidden=False, failure_message='φ_k must agree with its integral for 0.2 ≤ |h| ≤ 3.')
def test_ordinary(phi):
    import math
    import numpy as np
    import torch

    u, w = np.polynomial.legendre.leggauss(60)
    u, w = (u + 1) / 2, w / 2
    h = np.array([[-3.0, -1.01, -0.99], [0.2, 1.0, 3.0]])
    for k in range(1, 5 + 1):
        found = phi(k, torch.tensor(h))
        right = (np.exp((1 - u) * h[..., None]) * u ** (k - 1) * w).sum(-1) / math.factorial(k - 1)
        assert found.shape == (2, 3), f"shape {tuple(found.shape)}, expected (2, 3)"
        worst = np.abs(found.numpy() / right - 1).max()
        assert worst < 1e-10, f"k = {k}: relative error {worst:.1e}"
