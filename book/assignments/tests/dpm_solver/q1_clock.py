from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q1_clock'
points = None


@test_case(name='the example', points=1, hidden=False, failure_message='See the example in the text.')
def test_example(lam_of_t, t_of_lam):
    import torch

    lam = lam_of_t(torch.tensor([[0.4]], dtype=torch.float64))
    assert lam.shape == (1, 1) and lam.dtype == torch.float64, f"shape {tuple(lam.shape)}, dtype {lam.dtype}: expected (1, 1) and float64"
    assert abs(lam.item() - -0.01079) < 1e-4, f"λ = {lam.item():.5f}, expected -0.01079"
    t = t_of_lam(torch.tensor([-0.01079], dtype=torch.float64))
    assert t.shape == (1,) and abs(t.item() - 0.4) < 1e-4, f"t = {t.item():.5f}, expected 0.4"


@test_case(name='λ at all times', points=1, hidden=False, failure_message='λ must agree with 60-digit arithmetic to a relative error of 1e-10.')
def test_lam(lam_of_t):
    from decimal import Decimal, getcontext
    import torch

    getcontext().prec = 60
    times = [1.0, 0.7, 0.3, 0.1, 1e-2, 1e-3, 1e-5, 1e-7]
    found = lam_of_t(torch.tensor(times, dtype=torch.float64)).tolist()
    for t, lam in zip(times, found):
        log_alpha = -Decimal("5.5") * (Decimal(t).ln() * Decimal("3")).exp()
        right = float(log_alpha - (1 - (2 * log_alpha).exp()).ln() / 2)
        assert abs(lam - right) <= 1e-10 * max(abs(right), 0.01), f"t = {t}: λ = {lam!r}, expected {right!r}"
