from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q5_loss'
points = None


@test_case(name='a model that knows nothing', points=2, hidden=False, failure_message='a model that answers 0 has loss 1; every n from 1 to N is asked for equally often, each row has its own.')
def test_ignorant(simple_loss):
    import torch
    asked = []
    betas = torch.linspace(0.05, 0.4, 5, dtype=torch.float64)

    def model(x, n):
        asked.append(n.clone())
        return torch.zeros_like(x)

    loss = simple_loss(model, torch.zeros(5000, 2), betas, torch.Generator().manual_seed(1))
    assert abs(float(loss) - 1) < 5 * (2 / 10_000) ** 0.5, f"the model answers 0, so the loss estimates E eps^2 = 1; yours is {float(loss):.4f}"
    n = torch.cat([each.reshape(-1) for each in asked])
    assert len(n) == 5000, f"5000 rows, but the model was asked about {len(n)} values of n"
    share = torch.bincount(n, minlength=6).double() / 5000
    assert share[0] == 0 and len(share) == 6, f"n runs from 1 to N = 5, you asked for {n.min().item()} to {n.max().item()}"
    assert (share[1:] - 0.2).abs().max() < 5 * (0.16 / 5000) ** 0.5, f"each n should have a share of 0.2, yours are {share[1:].detach().numpy().round(6)}"


@test_case(name='a model that knows the answer', points=1, hidden=False, failure_message='if all data are one known point, the noise can be computed from x_n exactly, and the loss is 0.')
def test_omniscient(simple_loss):
    import torch
    betas, tau, point = torch.linspace(0.02, 0.3, 6, dtype=torch.float64), 2.0, 1.7
    a, s = [1.0], [0.0]
    for beta in betas.tolist():
        a.append((1 - beta) ** 0.5 * a[-1])
        s.append(((1 - beta) * s[-1] ** 2 + tau**2 * beta) ** 0.5)
    a, s = torch.tensor(a, dtype=torch.float64), torch.tensor(s, dtype=torch.float64)
    model = lambda x, n: (x - a[n][:, None] * point) / s[n][:, None]
    loss = float(simple_loss(model, torch.full((200, 3), point, dtype=torch.float64), betas, torch.Generator().manual_seed(2)))
    assert loss < 1e-16, f"this model returns the noise that is in x_n; the loss must be 0, yours is {loss:.3g}"
