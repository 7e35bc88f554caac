from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q6_sample'
points = None


@test_case(name='step by step, without a network', points=2, hidden=False, failure_message='with eps_hat = 0 the mean is x_n / sqrt(1 - beta_n); the noise has variance sigma_n^2, at n = 1 there is none.')
def test_steps(sample):
    import torch
    betas, variances, calls = torch.tensor([0.1, 0.3, 0.2, 0.4], dtype=torch.float64), torch.tensor([0.5, 0.04, 0.9, 0.25], dtype=torch.float64), []

    def model(x, n):
        calls.append((x.clone(), n.clone()))
        return torch.zeros_like(x)

    x_0 = sample(model, betas, variances, (4000, 2), torch.Generator().manual_seed(0))
    asked = [n.reshape(-1)[0].item() for _, n in calls]
    assert asked == [4, 3, 2, 1], f"n should run 4, 3, 2, 1; the model was asked about {asked}"
    states = [x for x, _ in calls] + [x_0]
    tolerance = 5 * (2 / 8000) ** 0.5
    start = states[0].var().item()
    assert abs(start / 2.0 ** 2 - 1) < tolerance, f"x_N has variance tau^2 = {2.0 ** 2:.4f}, yours {start:.4f}"
    for n in (4, 3, 2):
        added = (states[5 - n] - states[4 - n] / (1 - betas[n - 1]).sqrt()).var().item()
        assert abs(added / variances[n - 1].item() - 1) < tolerance, f"n = {n}: noise of variance {variances[n - 1].item()} is added, yours has {added:.4f}"
    off = (x_0 - states[3] / (1 - betas[0]).sqrt()).abs().max().item()
    assert off < 1e-6, f"at n = 1 no noise is added: x_0 = x_1 / sqrt(1 - beta_1); yours is up to {off:.3f} away"
