from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q4_gradient'
points = None


@test_case(name='read-out and bias', points=2, hidden=False, failure_message='The gradients for b, V and c must be those of the definition.')
def test_readout(nade_gradient):
    import torch
    phi = torch.tanh
    g = torch.Generator().manual_seed(5)
    D, L = 7, 4
    W, V = (torch.randn(D, L, generator=g).double() for _ in range(2))
    b, c = torch.randn(L, generator=g).double(), torch.randn(D, generator=g).double()
    x = (torch.rand(6, D, generator=g) < 0.5).double()
    with torch.inference_mode():
        got = nade_gradient(W, b, V, c, x)
    assert got is not None and len(got) == 4, "return the four gradients as a tuple"
    leaves = [t.clone().requires_grad_() for t in (b, V, c)]
    h = torch.stack([phi(leaves[0] + x[:, :i] @ W[:i]) for i in range(D)], 1)
    z = (h * leaves[1]).sum(-1) + leaves[2]
    total = torch.distributions.Bernoulli(logits=z).log_prob(x).sum()
    for name, ours, theirs in zip("bVc", torch.autograd.grad(total, leaves), got[1:]):
        assert theirs.shape == ours.shape, f"gradient of {name}: shape {tuple(theirs.shape)}"
        error = (ours - theirs).abs().max()
        assert error < 1e-9, f"gradient of {name}: off by {error:.2e}"


@test_case(name='the gradient has mean zero', points=1, hidden=False, failure_message='Weighted with p(x) and summed over all states, the gradient must vanish.')
def test_zero_mean(nade_gradient):
    import torch
    phi = torch.tanh
    g = torch.Generator().manual_seed(8)
    D, L = 5, 2
    W, V = (torch.randn(D, L, generator=g).double() for _ in range(2))
    b, c = torch.randn(L, generator=g).double(), torch.randn(D, generator=g).double()
    x = (torch.arange(2 ** D)[:, None] >> torch.arange(D) & 1).double()
    h = torch.stack([phi(b + x[:, :i] @ W[:i]) for i in range(D)], 1)
    p = torch.distributions.Bernoulli(logits=(h * V).sum(-1) + c).log_prob(x).sum(1).exp()
    with torch.inference_mode():
        each = [nade_gradient(W, b, V, c, row[None]) for row in x]
    assert each[0] is not None, "nothing was returned"
    for k, name in enumerate("WbVc"):
        parts = torch.stack([gradient[k] for gradient in each])
        total = (p.view(-1, *[1] * (parts.ndim - 1)) * parts).sum(0).abs().max()
        assert total < 1e-10, f"gradient of {name}: its mean is {total:.2e}, expected 0"
        if k != 0 or D > 1:
            assert parts.abs().max() > 1e-3, f"the gradient of {name} is always zero"
