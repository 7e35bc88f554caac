"""The squared-noise and the residual head: what their losses are least at, one call of the network, and the committed heads."""

import math

import pytest
import torch
from test_nets import awake

import dpmlib as d
from benchmarks import variance_samples
from dpmlib import heads as H
from dpmlib.data import cifar10_or_generated, to_unit
from dpmlib.nets import Preconditioned
from dpmlib.train import fit
from dpmlib.unet import UNet

CHAIN = d.DiscreteVP.linear(1000)
SMALL = dict(channels=1, size=4, width=8, multipliers=(1,), blocks=1, attention=(), patch=1)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def small(chain=CHAIN, seed=0, **changes):
    """An untrained network of 4 × 4 images and untrained heads on it, every weight of which has a say."""
    torch.manual_seed(seed)
    net = awake(UNet(**{**SMALL, **changes}))
    denoiser = d.Denoiser(Preconditioned(net, chain).eval().requires_grad_(False), chain)
    return denoiser, H.build(denoiser, [-5.0, 0.0, 5.0], [1e-4, 0.05, 0.7], width=8)


def test_the_split_network_is_the_network():
    net = awake(UNet(3, 8, 16, (1, 2), 1, (2,), 4, 2, heads=2))
    x, t, y = torch.randn(5, 3, 8, 8, generator=gen()), torch.rand(5, generator=gen()), torch.arange(5)
    features, emb = net.features(x, t, y)
    assert features.shape == (5, 16, 4, 4) and emb.shape == (5, 64)
    assert torch.equal(net.output(features), net(x, t, y))


def test_untrained_heads_are_the_analytic_variance():
    """g = e and h − ε̂² = e, at knots and by straight lines of log e in λ between them."""
    denoiser, heads = small()
    x = torch.randn(3, 1, 4, 4, generator=gen())
    for lam, e in ((-5.0, 1e-4), (0.0, 0.05), (2.5, math.sqrt(0.05 * 0.7))):
        level = CHAIN.level(CHAIN.t_of_lam(torch.tensor(lam, dtype=torch.float64)).clamp(max=1))
        eps, h, g = H.Sighted(denoiser, heads).both(x, level)
        assert torch.allclose(g, torch.full_like(g, e), rtol=1e-3)
        assert torch.allclose(h - eps**2, g, rtol=1e-3, atol=1e-6)


@torch.no_grad()
def test_both_heads_are_positive_whatever_the_weights():
    denoiser, heads = small()
    for p in heads.parameters():
        p.normal_(0, 3, generator=gen(1))
    for t in (0.001, 0.3, 1.0):
        _, h, g = H.Sighted(denoiser, heads).both(torch.randn(8, 1, 4, 4, generator=gen()), CHAIN.level(t))
        assert (h > 0).all() and (g > 0).all() and h.isfinite().all() and g.isfinite().all()


@torch.no_grad()
def test_one_call_of_the_network_and_its_own_mean():
    denoiser, heads = small(classes=3)
    awake(heads)
    calls, features = [], denoiser.net.net.features
    denoiser.net.net.features = lambda *a: calls.append(1) or features(*a)
    x, level, y = torch.randn(4, 1, 4, 4, generator=gen()), CHAIN.level(0.4), torch.tensor([0, 1, 2, 3])
    for make in (H.squared_noise, H.residual):
        plain = denoiser(x, level, y=y)
        calls.clear()
        belief = make(denoiser, heads)(x, level, y=y)
        assert len(calls) == 1 and torch.equal(belief.mean, plain.mean)
        assert belief.var.shape == x.shape and ((belief.var >= 0) & (belief.var <= 1)).all()
        calls.clear()
        grid = d.levels(CHAIN, 5, to_zero=True)
        *_, out = d.ancestral(make(denoiser, heads), x, grid, generator=gen())
        assert len(calls) == 5 and out.isfinite().all()
    sighted = H.Sighted(denoiser, heads)
    calls.clear()
    sighted(x, level)
    other = sighted.residual(x.clone(), level)  # another x: what was remembered is of no use
    assert len(calls) == 2 and torch.equal(sighted.residual(x.clone(), level), other)


class Toy(torch.nn.Module):
    """The network of ε for data N(0, v I) that is `wrong` times the exact one, ε̂ = wrong · σ x/(α² v + σ²)."""

    def __init__(self, variance, wrong=1.0):
        super().__init__()
        self.variance, self.wrong, self.config = variance, wrong, dict(width=2, channels=1, patch=1)

    def features(self, x, t, y=None):
        level = CHAIN.level(t.double())
        alpha, sigma = (v.to(x).reshape(-1, 1, 1, 1) for v in (level.alpha, level.sigma))
        out = sigma * x / alpha * (self.wrong / (alpha**2 * self.variance + sigma**2) - 1)
        return torch.cat([x, out], dim=1), t[:, None].float().expand(-1, 8)

    def output(self, features):
        return features[:, 1:]

    def forward(self, x, t, y=None):
        return self.output(self.features(x, t)[0])

    def truth(self, x, level):
        """E[ε² | x_t] and E[(ε − ε̂)² | x_t]."""
        total = level.alpha**2 * self.variance + level.sigma**2
        mean, spread = level.sigma / total * x, level.alpha**2 * self.variance / total
        return mean**2 + spread, spread + (1 - self.wrong) ** 2 * mean**2


@pytest.mark.parametrize("wrong", [1.0, 0.7])
@pytest.mark.parametrize("start", [1.0, 3.0])
def test_the_loss_is_least_at_the_conditional_means(wrong, start):
    """Both losses are parabolas in a factor on the true h and g, least at factor 1: for any mean, and for any head in the weights."""
    for t in (0.02, 0.3, 0.9):
        level = CHAIN.level(t)
        toy = Toy(0.4, wrong)
        denoiser = d.Denoiser(Preconditioned(toy, CHAIN), CHAIN)
        x0, noise = 0.4**0.5 * torch.randn(20_000, 1, 4, 4, generator=gen()), torch.randn(20_000, 1, 4, 4, generator=gen(1))
        factors = torch.tensor([start, start], requires_grad=True)

        def told(features, emb, belief, toy=toy, level=level, factors=factors):
            h, g = toy.truth(belief.x, level)
            return factors[0] * h, factors[1] * g

        loss = H.head_loss(denoiser)(told, (x0, level.t.expand(len(x0)), noise)).mean()
        slope, = torch.autograd.grad(loss, factors, create_graph=True)
        bend = torch.stack([torch.autograd.grad(s, factors, retain_graph=True)[0][i] for i, s in enumerate(slope)])
        assert ((factors - slope / bend) - 1).abs().max() < 0.03


def test_training_finds_the_closed_form(record_property):
    """From a start that is 2.5 times too much, both heads come to E[ε² | x_t] and E[(ε − ε̂)² | x_t] at every level."""
    toy = Toy(0.4)
    denoiser = d.Denoiser(Preconditioned(toy, CHAIN), CHAIN)
    lams = torch.linspace(-5.1, 5, 40, dtype=torch.float64)
    exact = torch.sigmoid(2 * lams) * 0.4 / (torch.sigmoid(2 * lams) * 0.4 + torch.sigmoid(-2 * lams))
    torch.manual_seed(0)
    heads = H.build(denoiser, lams, 2.5 * exact, width=8)

    def draw(generator):
        x0 = 0.4**0.5 * torch.randn(64, 1, 4, 4, generator=generator)
        return x0, torch.randint(1, 1001, (64,), generator=generator).double() / 1000, torch.randn(x0.shape, generator=generator)

    run = fit(heads, H.head_loss(denoiser), draw, 500, generator=gen(), lr=5e-3, warmup=10, cooldown=0.6, ema=0.95, progress=False)
    z, worst = torch.randn(1000, 1, 4, 4, generator=gen(5)), {"h": 0.0, "g": 0.0}
    with torch.no_grad():
        for n in (20, 150, 400):
            level = CHAIN.level(n / 1000)
            x = (level.alpha**2 * 0.4 + level.sigma**2).sqrt().float() * z
            eps, *said = H.Sighted(denoiser, run.model).both(x, level)
            for name, got, truth in zip("hg", said, toy.truth(x, level)):
                worst[name] = max(worst[name], abs((got - eps**2).mean() / (truth - eps**2).mean() - 1).item() if name == "h"
                                  else abs(got / truth - 1).mean().item())
    for name, value in worst.items():
        record_property(f"largest relative error of {name}", value)
    assert worst["g"] < 0.15 and worst["h"] < 0.3, worst


def test_round_trip(tmp_path):
    denoiser, heads = small()
    awake(heads)
    H.export(tmp_path / "toy.safetensors", heads, network="toy", seed=3)
    again = H.load(tmp_path / "toy.safetensors")
    assert again.notes["network"] == "toy" and again.config == heads.config
    x, level = torch.randn(4, 1, 4, 4, generator=gen()), CHAIN.level(0.2)
    with torch.no_grad():
        for a, b in zip(H.Sighted(denoiser, heads).both(x, level), H.Sighted(denoiser, again).both(x, level)):
            assert torch.allclose(a, b, rtol=0.02, atol=1e-4)


@torch.no_grad()
def test_matched_is_the_same_question_on_another_chain():
    """For a Gaussian the denoiser of one schedule, asked at the λ of another, is the denoiser of the other."""
    g = d.Gaussian(torch.zeros(3), torch.diag(torch.tensor([0.1, 0.5, 1.0])))
    x, cosine = torch.randn(6, 3, generator=gen(), dtype=torch.float64), d.DiscreteVP.cosine(1000)
    borrowed = H.matched(g.denoiser("diagonal"), CHAIN)
    for t in (0.1, 0.5, 0.9):
        here, truth = borrowed(x, cosine.level(t)), g.denoiser("diagonal")(x, cosine.level(t))
        assert torch.allclose(here.mean, truth.mean) and torch.allclose(here.var, truth.var) and torch.allclose(here.eps, truth.eps)
    beyond = borrowed(x, cosine.level(1.0))  # λ = −9.9, the linear chain ends at −5.06: x_0 is as unknown there as here
    assert (beyond.mean - g.denoiser()(x, cosine.level(1.0)).mean).abs().max() < 0.02
    near = borrowed(x, cosine.level(0.001))  # λ = 5.06, the linear chain begins at 4.6: ε is as hidden there as here
    truth = g.denoiser("diagonal")(x, cosine.level(0.001))
    assert (near.mean - truth.mean).abs().max() < 1e-3 and (near.var / truth.var - 1).abs().max() < 0.01


def test_clipping_of_what_a_head_says():
    grid = d.levels(CHAIN, 20, to_zero=True, t_end=0.02)
    big = H.clipped(lambda x, level: d.Posterior(x, torch.full_like(x, 7.0), x=x, level=level), grid, pixels=1)
    limit = d.covariance.clip_last(1.0, grid, pixels=1)
    for i, level in enumerate(grid[:-1]):
        assert big(torch.ones(2, 3), level).var.max() == pytest.approx(limit[i].item())


# --- the committed heads ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["cifar10", "cifar10_cosine"])
def test_the_committed_heads_know_the_errors(name, record_property):
    """On test images the mean of g is the measured mean of (ε − ε̂)² at every level, and g knows where the errors are."""
    if not (H.WEIGHTS / f"{name}_heads.safetensors").exists():
        pytest.skip(f"no heads for {name} yet")
    denoiser, heads = d.pretrained(name), H.load(name)
    held_out = cifar10_or_generated("test", 32)
    x0 = to_unit(held_out.images)
    noise, worst = torch.randn(x0.shape, generator=gen()), 0.0
    with torch.no_grad():
        for n in (1, 10, 60, 200, 500):
            level = denoiser.schedule.level(n / 1000)
            eps, h, g = H.Sighted(denoiser, heads).both(d.diffuse(x0, level, noise), level)
            error = (noise - eps).square()
            worst = max(worst, abs(g.mean() / error.mean() - 1).item())
            if not held_out.generated:
                flat = torch.stack([g.flatten(), error.flatten()])
                assert torch.corrcoef(flat)[0, 1] > (0.1 if n > 1 else 0.03), n
                likelier = error.mean().log() + 1 - (g.log() + error / g).mean()  # than one number, even the best
                assert likelier > (0.01 if 1 < n < 600 else -0.02), n
    record_property("largest relative error of a level's mean", worst)
    if not held_out.generated:
        assert worst < 0.25


@pytest.mark.parametrize("method", ["DDPM beta", "Analytic-DDPM", "Analytic-DDIM", None])
def test_closed_form_of_the_samplers(method):
    """What the recursion of variances says a sampler makes of N(0, I) is what it makes of 40,000 draws."""
    variances, mean = torch.tensor([0.02, 0.3, 1.5], dtype=torch.float64), torch.tensor([0.4, 0.0, -0.2], dtype=torch.float64)
    oracle = d.Gaussian(mean, torch.diag(variances))
    eta, kind = variance_samples.METHODS.get(method, (1.0, "full"))
    path = d.trajectory.even(1000, 6)
    grid = d.trajectory.grid_of(path, CHAIN)
    t = grid[:-1]
    known = 1 / (t.alpha[:, None] ** 2 * variances + t.sigma[:, None] ** 2) * variances * t.sigma[:, None] ** 2
    table = {"beta": d.n0i_variance(grid), "analytic": known.mean(1), "full": None}[kind]
    for clip in (True, False):
        used = d.covariance.clip_last(table, grid, eta, 2.0 if eta else 1.0) if clip and kind == "analytic" else table
        x = torch.randn(40_000, 3, generator=gen(), dtype=torch.float64)
        *_, made = d.ancestral(oracle.denoiser("diagonal"), x, grid, eta, used, gen(1))
        exact = variance_samples.closed_form("linear", method, 6, variances, mean, eta, clip)
        got = 0.0
        for i in range(3):
            got += (made[:, i].mean() - mean[i]) ** 2 + (made[:, i].std() - variances[i].sqrt()) ** 2
        assert got / 3 == pytest.approx(exact, abs=0.03 * exact + 2e-5)


@pytest.mark.parametrize("call, words", [
    (lambda: H.Heads(8, 32, [1.0, 0.0], [1.0, 1.0]), "increasing"),
    (lambda: H.Heads(8, 32, [0.0, 1.0], [1.0, -1.0]), "positive"),
    (lambda: H.load(H.WEIGHTS / "patch_score.safetensors"), "heads"),
])
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
