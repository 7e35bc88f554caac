"""SN-DPM and NPR-DPM: the diagonal optimum, with an exact and with a wrong mean."""

import math
from dataclasses import replace

import pytest
import torch
from test_laws import ETAS, gen, mixture, randn

import dpmlib as d
from dpmlib import covariance as cov

CHAIN = d.DiscreteVP.linear(1000)
MIXTURES = [(2, 3, 0), (2, 5, 1), (3, 4, 2), (4, 2, 3)]  # dimension, components, seed


def tilted(gm, scale=0.9, shift=0.0):
    """A wrong mean: x̂_0 = scale · E[x_0 | x_t] + shift."""
    def denoiser(x, level):
        belief = gm.denoiser()(x, level)
        return replace(belief, mean=scale * belief.mean + shift)

    return denoiser


def squared_noise(gm):
    """E[ε² | x_t] of the mixture, per coordinate."""
    def head(x, level):
        truth = gm.denoiser("diagonal")(x, level)
        return truth.eps**2 + (level.alpha / level.sigma) ** 2 * truth.var

    return head


def residual(gm, denoiser):
    """E[(ε − ε̂)² | x_t] of the mixture for the ε̂ of `denoiser`."""
    def head(x, level):
        truth = gm.denoiser("diagonal")(x, level)
        return (truth.eps - denoiser(x, level).eps) ** 2 + (level.alpha / level.sigma) ** 2 * truth.var

    return head


def cross_entropy(gm, denoiser, grid, eta, n=4000, last=False):
    """Σ over steps of E CE(q_ω(x_s | x_t), p(x_s | x_t)), nats: for η > 0 minus the bound up to a constant, finite for η = 0, too."""
    k, full, total = d.kernel(grid, eta), gm.denoiser("full"), 0.0
    x0, noise = gm.sample(n, gen(5)), randn(n, gm.means.shape[1], seed=6)
    for i, level in enumerate(grid[:-1] if last else grid[:-2]):
        x = d.diffuse(x0, level, noise)
        truth, belief = full(x, level), denoiser(x, level)
        apart = (k.gamma[i] * (truth.mean - belief.mean)) ** 2
        v = (k.omega2[i] + k.gamma[i] ** 2 * belief.var).clamp(min=1e-12)  # with η = 0 an SN head that was cut leaves no noise: +∞
        spread = k.omega2[i] + k.gamma[i] ** 2 * truth.var + apart
        total += 0.5 * ((2 * math.pi * v).log() + spread / v).expand(x.shape).sum(1).mean().item()
    return total


@pytest.mark.parametrize("dim, K, seed", MIXTURES)
def test_npr_equals_sn_where_the_mean_is_exact(dim, K, seed):
    gm, x = mixture(dim, K, seed), randn(50, dim)
    for t in (0.01, 0.2, 0.6, 1.0):
        level = CHAIN.level(t)
        truth = gm.denoiser("diagonal")(x, level)
        sn = cov.with_squared_noise(gm.denoiser(), squared_noise(gm))(x, level)
        npr = cov.with_residual(gm.denoiser(), residual(gm, gm.denoiser()))(x, level)
        # at the noisy end σ²/α² = 2.5e4 multiplies the rounding of h − ε̂²
        assert (sn.var - truth.var).abs().max() < 1e-9 and (npr.var - truth.var).abs().max() < 1e-9
        assert (sn.mean - truth.mean).abs().max() < 1e-12


@pytest.mark.parametrize("dim, K, seed", MIXTURES)
@pytest.mark.parametrize("scale, shift", [(0.9, 0.0), (1.1, 0.0), (1.0, 0.1)])
def test_npr_has_the_better_bound_where_the_mean_is_wrong(dim, K, seed, scale, shift, record_property):
    gm, grid = mixture(dim, K, seed), d.levels(CHAIN, 20, to_zero=True)
    wrong = tilted(gm, scale, shift)
    heads = {"sn": cov.with_squared_noise(wrong, squared_noise(gm)), "npr": cov.with_residual(wrong, residual(gm, wrong))}
    x0, noise = gm.sample(4000, gen()), randn(4000, dim, seed=1)
    bounds = {name: d.elbo(head, x0, grid, last_variance=1e-4, noise=noise).nats for name, head in heads.items()}
    gain = bounds["npr"] - bounds["sn"]
    record_property("nats", gain.mean().item())
    assert gain.mean() > 3 * gain.std() / math.sqrt(len(gain))
    # and so for every member of the family, DDIM included, in the sum of cross-entropies
    for eta in ETAS:
        assert cross_entropy(gm, heads["npr"], grid, eta) < cross_entropy(gm, heads["sn"], grid, eta)


def test_sn_is_off_by_the_error_of_the_mean_with_the_wrong_sign():
    gm, x, level = mixture(3, 4, 7), randn(200, 3), CHAIN.level(0.3)
    wrong = tilted(gm, 1.05)
    truth, eps = gm.denoiser("diagonal")(x, level), wrong(x, level).eps
    error, wide = eps - truth.eps, (level.sigma / level.alpha) ** 2
    sn = cov.with_squared_noise(wrong, squared_noise(gm))(x, level).var
    npr = cov.with_residual(wrong, residual(gm, wrong))(x, level).var
    assert (npr - truth.var - wide * error**2).abs().max() < 1e-12
    raw = truth.var - wide * (2 * truth.eps * error + error**2)
    assert (sn - raw.clamp(min=0)).abs().max() < 1e-12 and (raw < npr).any() and (raw > npr).any()


@pytest.mark.parametrize("dim, K, seed", MIXTURES)
@pytest.mark.parametrize("eta", ETAS)
def test_diagonal_is_better_than_isotropic_is_better_than_fixed(dim, K, seed, eta):
    gm = mixture(dim, K, seed)
    for steps in (5, 30):
        grid = d.levels(CHAIN, steps, to_zero=True)
        x0, noise = gm.sample(4000, gen(5)), randn(4000, dim, seed=6)
        table = torch.stack([gm.denoiser("isotropic")(d.diffuse(x0, level, noise), level).var.mean() for level in grid[:-1]])
        at = {float(t): c for t, c in zip(grid.t, table)}
        fixed = {float(t): c for t, c in zip(grid.t, d.n0i_variance(grid))}
        rungs = [d.with_variance(gm.denoiser(), lambda level, t=t: t[float(level.t)]) for t in (fixed, at)]
        rungs += [gm.denoiser("isotropic"), gm.denoiser("diagonal")]
        losses = [cross_entropy(gm, rung, grid, eta) for rung in rungs]
        assert losses == sorted(losses, reverse=True), losses


def test_the_best_diagonal_for_a_wrong_mean_is_found_by_no_other():
    """Any other head, here that of the residual times a factor, has a greater cross-entropy; exact, not up to sampling error."""
    gm, grid = mixture(2, 3, 4), d.levels(CHAIN, 10, to_zero=True)
    wrong = tilted(gm, 0.9, 0.05)
    head = residual(gm, wrong)
    best = cross_entropy(gm, cov.with_residual(wrong, head), grid, 0.5)
    for factor in (0.8, 0.99, 1.01, 1.3, lambda x: 1 + 0.1 * x.sin()):
        other = cov.with_residual(wrong, lambda x, level, f=factor: head(x, level) * (f(x) if callable(f) else f))
        assert cross_entropy(gm, other, grid, 0.5) > best


def test_variances_are_positive_whatever_a_head_says():
    gm, x = mixture(), randn(200, 2)
    for seed, t in enumerate((0.001, 0.3, 1.0)):
        level, noise = CHAIN.level(t), 100 * randn(200, 2, seed=seed)
        for make in (cov.with_squared_noise, cov.with_residual):
            var = make(gm.denoiser(), lambda x, level, n=noise: n, most=1.0)(x, level).var
            assert ((var >= 0) & (var <= 1)).all() and (var == 0).any()
    # such a denoiser can be sampled from and has a finite bound
    bold = cov.with_residual(gm.denoiser(), lambda x, level: -torch.ones_like(x))
    grid = d.levels(CHAIN, 5, to_zero=True)
    *_, out = d.ancestral(bold, randn(10, 2), grid, 1.0, generator=gen())
    assert out.isfinite().all() and d.elbo(bold, out, grid, last_variance=0.1, generator=gen()).nats.isfinite().all()


def test_a_factor_gives_the_full_covariance():
    gm, x, level = mixture(), randn(30, 2), CHAIN.level(0.3)
    truth = gm.denoiser("full")(x, level)
    root = torch.linalg.cholesky(truth.cov) * level.alpha / level.sigma
    full = cov.with_residual_factor(gm.denoiser(), lambda x, level: root)(x, level)
    assert (full.cov - truth.cov).abs().max() < 1e-12 and (full.var - truth.var).abs().max() < 1e-12
    thin = cov.with_residual_factor(gm.denoiser(), lambda x, level: randn(30, 2, 1))
    assert torch.linalg.eigvalsh(thin(x, level).cov).min() > -1e-9
    grid = d.levels(CHAIN, 4, to_zero=True)  # a thin factor can be sampled from: ω² I is beneath it
    *_, out = d.ancestral(thin, randn(30, 2), grid, 1.0, generator=gen())
    assert out.isfinite().all()


def test_a_step_with_exact_mean_and_covariance_keeps_the_moments():
    """E x_s and Cov x_s are those of q for every η, since x_s has the right mean and covariance given x_t."""
    gm, n = mixture(2, 3, 1), 100_000
    grid = d.levels(CHAIN, 6, to_zero=True)
    x0 = gm.sample(n, gen())
    mean = gm.weights @ gm.means
    total = torch.einsum("k,kde->de", gm.weights, gm.covariances) + (gm.means - mean).T @ ((gm.means - mean) * gm.weights[:, None])
    for eta in ETAS:
        t, s = grid[2], grid[3]
        step = d.Levels(*(torch.stack([a, b]) for a, b in zip(vars(t).values(), vars(s).values())))
        x = d.diffuse(x0, t, randn(n, 2, seed=2))
        out = next(d.ancestral(gm.denoiser("full"), x, step, eta, generator=gen(3)))
        want = s.alpha**2 * total + s.sigma**2 * torch.eye(2)
        assert (out.mean(0) - s.alpha * mean).abs().max() < 0.02 and (torch.cov(out.T) - want).abs().max() < 0.02


@pytest.mark.parametrize("call, words", [
    (lambda gm, x, level: cov.with_residual(gm.denoiser(), lambda x, level: torch.ones(3))(x, level), "head gave shape"),
    (lambda gm, x, level: cov.with_squared_noise(gm.denoiser(), lambda x, level: x[:1, :1, None])(x, level), "head gave shape"),
    (lambda gm, x, level: cov.with_residual(gm.denoiser(), lambda x, level: x * math.nan)(x, level), "NaN"),
    (lambda gm, x, level: cov.with_residual_factor(gm.denoiser(), lambda x, level: x)(x, level), "need \\(B, d, r\\)"),
    (lambda gm, x, level: cov.with_residual(gm.denoiser(), None, most=-1.0), "most"),
])
def test_bad_heads_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call(mixture(), randn(4, 2), CHAIN.level(0.3))
