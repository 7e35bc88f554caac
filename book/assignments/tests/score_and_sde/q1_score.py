from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q1_score'
points = None


@test_case(name='one Gaussian', points=1, hidden=False, failure_message='For one component the score is (alpha m - x) / (alpha^2 v + sigma^2).')
def test_gaussian(mixture_score):
    import torch
    g = torch.Generator().manual_seed(1)
    x = 2 * torch.randn(4, 2, generator=g).double()
    alpha = torch.tensor([1.0, 0.9, 0.6, 0.1]).double()
    sigma = torch.tensor([0.05, 0.4, 0.8, 1.0]).double()
    m, v = torch.tensor([[1.0, -2.0]]).double(), torch.tensor([0.5]).double()
    s = v ** 0.5
    got = mixture_score(x, alpha, sigma, torch.ones(1).double(), m, s)
    assert got is not None and got.shape == x.shape, "the score has the shape of x"
    expected = (alpha[:, None] * m - x) / (alpha ** 2 * v + sigma ** 2)[:, None]
    k = (got - expected).abs().sum(1).argmax()
    message = (f"alpha = {alpha[k]:.2f}, sigma = {sigma[k]:.2f}, v = {v.item()}: expected "
               f"{expected[k].detach().numpy().round(4)}, got {got[k].detach().numpy().round(4)}")
    assert torch.allclose(got, expected, atol=1e-9), message


@test_case(name='two equal Gaussians', points=1, hidden=False, failure_message='For weights 1/2 at +a and -a: the score is (-x + alpha a tanh(alpha a.x / V)) / V with V = alpha^2 v + sigma^2.')
def test_two(mixture_score):
    import torch
    g = torch.Generator().manual_seed(2)
    x = torch.randn(6, 3, generator=g).double()
    alpha, sigma = torch.full((6,), 0.8).double(), torch.full((6,), 0.6).double()
    a, v = torch.tensor([1.0, 0.5, -1.0]).double(), torch.tensor([0.3, 0.3]).double()
    s = v ** 0.5
    got = mixture_score(x, alpha, sigma, torch.tensor([0.5, 0.5]).double(), torch.stack([a, -a]), s)
    assert got is not None, "nothing was returned"
    V = 0.8 ** 2 * 0.3 + 0.6 ** 2
    expected = (-x + 0.8 * a * torch.tanh(0.8 * x @ a / V)[:, None]) / V
    k = (got - expected).abs().sum(1).argmax()
    message = f"expected {expected[k].detach().numpy().round(4)}, got {got[k].detach().numpy().round(4)}"
    assert torch.allclose(got, expected, atol=1e-9), message
