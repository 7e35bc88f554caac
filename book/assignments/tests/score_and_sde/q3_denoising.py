from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q3_denoising'
points = None


@test_case(name='the loss by hand', points=1, hidden=False, failure_message='For the score S = 0 the loss is w |eps|^2 / (2 sigma^2); for S(x) = -x it can be done by hand.')
def test_by_hand(dsm_loss):
    import torch
    x0 = torch.tensor([[1.0, 2.0], [0.0, -1.0]]).double()
    eps = torch.tensor([[0.5, -1.0], [2.0, 1.0]]).double()
    alpha, sigma = torch.tensor([0.6, 0.8]).double(), torch.tensor([0.8, 0.6]).double()
    weight = sigma ** 2
    for name, slope in (("S = 0", 0.0), ("S(x) = -x", -1.0)):
        got = dsm_loss(lambda x, a, c: slope * x, x0, eps, alpha, sigma)
        assert got is not None and tuple(got.shape) == (2,), "one loss for every sample: (B,)"
        for n in range(2):
            a, c = alpha[n].item(), sigma[n].item()
            apart = [slope * (a * u + c * e) + e / c for u, e in zip(x0[n].tolist(), eps[n].tolist())]
            expected = 0.5 * weight[n].item() * sum(v * v for v in apart)
            message = f"{name}, sample {n}: expected {expected:.5f}, got {got[n].item():.5f}"
            assert abs(got[n].item() - expected) < 1e-9, message


@test_case(name='the floor on a line', points=1, hidden=False, failure_message='The floor is the mean denoising loss of the true score, which on a line is -(x - alpha m) / (alpha^2 c + sigma^2). It is 0 for c = 0.')
def test_line(dsm_floor):
    import torch
    for c, alpha, sigma in ((1.0, 0.6, 0.8), (0.05, 0.9, 0.3), (0.0, 1.0, 0.5)):
        weight = sigma ** 2
        expected = 0.5 * weight * alpha ** 2 * c / (sigma ** 2 * (alpha ** 2 * c + sigma ** 2))
        got = dsm_floor(torch.tensor([[c]], dtype=torch.float64), alpha, sigma)
        assert got is not None, "nothing was returned"
        message = f"c = {c}, alpha = {alpha}, sigma = {sigma}: expected {expected:.5f}, got {float(got):.5f}"
        assert abs(float(got) - expected) < 1e-9 * (1 + expected), message
