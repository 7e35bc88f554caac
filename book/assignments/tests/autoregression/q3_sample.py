from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q3_sample'
points = None


@test_case(name='frequencies of all states', points=2, hidden=False, failure_message='With 20,000 draws every one of the 16 states must come as often as its probability says (a chi-squared test).')
def test_frequencies(nade_sample):
    import torch
    phi = torch.tanh
    D, L, n = 4, 3, 20_000
    x = (torch.arange(2 ** D)[:, None] >> torch.arange(D) & 1).double()
    for s in (0, 1):
        g = torch.Generator().manual_seed(40 + s)
        W, V = (1.5 * torch.randn(D, L, generator=g).double() for _ in range(2))
        b, c = torch.randn(L, generator=g).double(), 0.3 * torch.randn(D, generator=g).double()
        drawn = nade_sample(W, b, V, c, n, g)
        assert drawn is not None and tuple(drawn.shape) == (n, D), "the shape must be (n, D)"
        assert ((drawn == 0) | (drawn == 1)).all(), "the entries must be zeros and ones"
        h = torch.stack([phi(b + x[:, :i] @ W[:i]) for i in range(D)], 1)
        p = torch.distributions.Bernoulli(logits=(h * V).sum(-1) + c).log_prob(x).sum(1).exp()
        counts = (drawn.long() << torch.arange(D)).sum(1).bincount(minlength=2 ** D)
        big = n * p > 5  # rare states are pooled
        seen = torch.cat([counts[big], counts[~big].sum()[None]]).double()
        due = torch.cat([n * p[big], n * p[~big].sum()[None]]).clamp(min=1e-9)
        chi2 = ((seen - due) ** 2 / due.clamp(min=1)).sum()
        k = (counts - n * p).abs().argmax()
        message = (f"state {x[k].int().tolist()} came {counts[k]} times in {n}, expected "
                   f"{n * p[k]:.0f}; chi-squared {chi2:.0f}, right samplers stay below 60")
        assert chi2 < 60, message
