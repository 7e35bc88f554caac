from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q1_classifier'
points = None


@test_case(name='from all data to a class', points=2, hidden=False, failure_message='At s = 1 the exact classifier must turn the model of all data into the model of the class. Write the change of the score, then what it does to the prediction.')
def test_bayes(classifier_guided):
    import torch
    g = torch.Generator().manual_seed(289)
    x = torch.randn(7, 2, generator=g, dtype=torch.float64)
    lam = torch.linspace(-2, 2, 7, dtype=torch.float64)
    alpha, sigma = torch.sigmoid(2 * lam).sqrt(), torch.sigmoid(-2 * lam).sqrt()
    mu, v = torch.tensor([0.8, -0.4], dtype=torch.float64), 0.4

    def log_prob(z):  # all data N(0, I), the class N(mu, v I), diffused; up to a constant
        a, s = alpha[:, None], sigma[:, None]
        return (-(z - a * mu).square() / (2 * (a**2 * v + s**2)) + z.square() / 2).sum(1)

    a, s = alpha[:, None], sigma[:, None]
    def say(score):
        eps = -s * score
        x0 = (x - s * eps) / a
        return x0
    out = say(-x)
    told = say(-(x - a * mu) / (a**2 * v + s**2))
    got = classifier_guided(out.clone(), x.clone(), alpha, sigma, log_prob, 1.0)
    assert torch.is_tensor(got) and got.shape == x.shape, f"expected a tensor of shape {tuple(x.shape)}; got {getattr(got, 'shape', got)}"
    i = int((got - told).abs().sum(1).argmax())  # the worst point
    worst = (got - told).abs().max().item()
    assert worst < 1e-9, f"at s = 1 expected the class model {told[i].detach().numpy().round(6)} for point {i}, alpha = {alpha[i].item():.3f}; got {got[i].detach().numpy().round(6)} (largest difference {worst:.3g})"
    got = classifier_guided(out.clone(), x.clone(), alpha, sigma, log_prob, 0.0)
    assert (got - out).abs().max() < 1e-12, "at s = 0 the prediction must not change"
