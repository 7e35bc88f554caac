"""The laws of the Gaussian path, against closed form, in float64."""

import math

import pytest
import torch

import dpmlib as d
from dpmlib.levels import combine

VP = [d.LinearVP(), d.CosineVP(), d.DiscreteVP.linear(1000), d.DiscreteVP.cosine(1000)]
ALL = [*VP, d.SubVP(), d.VE(), d.Flow()]
ETAS = (0.0, 0.5, 1.0)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=gen(seed), dtype=torch.float64)


def mixture(dim=2, K=3, seed=0):
    g = gen(seed)
    root = torch.randn(K, dim, dim, generator=g, dtype=torch.float64) * 0.4
    return d.GaussianMixture(torch.rand(K, generator=g) + 0.2, torch.randn(K, dim, generator=g, dtype=torch.float64),
                             root @ root.mT + 0.02 * torch.eye(dim, dtype=torch.float64))


# --- schedules and grids ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_lam_and_its_inverse(schedule):
    t = torch.linspace(0.001, 0.999 * schedule.t_max, 997, dtype=torch.float64)
    assert (schedule.t_of_lam(schedule.lam(t)) - t).abs().max() < 1e-10
    assert (schedule.lam(t) - (schedule.alpha(t) / schedule.sigma(t)).log()).abs().max() < 1e-9
    assert (schedule.lam(t).diff() < 0).all()
    if schedule in VP:
        assert (schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2 - 1).abs().max() < 1e-14


def test_known_noisy_ends():
    assert d.LinearVP().lam(1.0) == pytest.approx(-5.025, abs=2e-3)
    assert d.DiscreteVP.linear().lam(1.0) == pytest.approx(-5.06, abs=5e-3)
    assert d.DiscreteVP.cosine().lam(1.0) == pytest.approx(-9.9, abs=0.05)
    assert d.CosineVP().lam(d.CosineVP().t_max) == pytest.approx(-5.1, abs=1e-9)


def test_sigma_keeps_its_digits_near_the_data():
    mpmath_value = 3.8729833462074169e-06  # sigma of LinearVP(0.1, 20) where ½β₀t = 7.5e-12, to 1st order √(2·7.5e-12)
    assert d.LinearVP().sigma(1.5e-10) == pytest.approx(mpmath_value, rel=1e-6)


def test_chain_is_the_product_of_its_steps():
    chain = d.DiscreteVP.linear(1000)
    n = torch.arange(1001)
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), (1 - chain.betas).cumprod(0)])
    assert (chain.alpha(n.double() / 1000) ** 2 / alpha_bar - 1).abs().max() < 1e-12
    assert chain.betas[[0, -1]].tolist() == pytest.approx([1e-4, 0.02])


@pytest.mark.parametrize("schedule", ALL, ids=repr)
@pytest.mark.parametrize("spacing", ["time", "quad", "lam"])
def test_grids(schedule, spacing):
    start = 0.999 * schedule.t_max
    for n in (1, 2, 7):
        grid = d.levels(schedule, n, spacing, t_start=start)
        d.check_grid(grid)
        assert len(grid) == n + 1 and grid.t[0] == start and grid.t[-1] == schedule.t_end
        clean = d.levels(schedule, n, spacing, t_start=start, t_end=0.01, to_zero=True)
        assert len(clean) == n + 1 and (clean.alpha[-1], clean.sigma[-1]) == (1, 0)
        d.check_grid(clean)
    steps = {"time": grid.t, "quad": grid.t.sqrt(), "lam": grid.lam}[spacing].diff()
    assert (steps / steps[0] - 1).abs().max() < 1e-6


def test_whole_chain_as_a_grid():
    grid = d.levels(d.DiscreteVP.linear(1000), 1000, to_zero=True)
    assert (grid.t * 1000 - torch.arange(1000, -1, -1)).abs().max() < 1e-9


# --- the path -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_forward_marginals_compose(schedule):
    """x_t from x_0 at once, and from x_0 through x_s, have the same mean and variance."""
    s, t = schedule.level(0.3 * schedule.t_max), schedule.level(0.8 * schedule.t_max)
    ratio = t.alpha / s.alpha
    between = t.sigma**2 - ratio**2 * s.sigma**2
    assert between > 0
    assert ratio * s.alpha == pytest.approx(t.alpha.item(), rel=1e-12)
    assert ratio**2 * s.sigma**2 + between == pytest.approx(t.sigma.item() ** 2, rel=1e-12)
    x0 = torch.full((200_000, 1), 0.7, dtype=torch.float64)
    xt = ratio * d.diffuse(x0, s, randn(*x0.shape, seed=1)) + between.sqrt() * randn(*x0.shape, seed=2)
    standard_error = t.sigma / math.sqrt(len(x0))
    assert abs(xt.mean() - t.alpha * 0.7) < 4 * standard_error
    assert abs(xt.var() / t.sigma**2 - 1) < 4 * math.sqrt(2 / len(x0))


@pytest.mark.parametrize("schedule", ALL, ids=repr)
@pytest.mark.parametrize("eta", ETAS)
def test_kernel_keeps_the_marginals(schedule, eta):
    """If x_t = α_t x_0 + σ_t ε, the kernel's x_s given x_0 has mean α_s x_0 and variance σ_s², for every η."""
    grid = d.levels(schedule, 12, t_start=0.999 * schedule.t_max, to_zero=True, t_end=0.01)
    k, t, s = d.kernel(grid, eta), grid[:-1], grid[1:]
    assert (k.gamma + k.kappa * t.alpha - s.alpha).abs().max() < 1e-12
    assert (k.kappa**2 * t.sigma**2 + k.omega2 - s.sigma**2).abs().max() < 1e-12 * max(1, schedule.sigma(0.99 * schedule.t_max) ** 2)
    if eta == 1:  # q(x_s | x_t, x_0) by Bayes' rule
        ratio2 = (t.alpha / s.alpha) ** 2
        between = t.sigma**2 - ratio2 * s.sigma**2
        precision = ratio2 / between + 1 / s.sigma**2
        assert torch.allclose(k.omega2, 1 / precision, rtol=1e-9)
        assert torch.allclose(k.gamma, s.alpha / s.sigma**2 / precision, rtol=1e-9, equal_nan=True) or s.sigma[-1] == 0


def test_eta_one_is_the_chain_of_ddpm():
    chain = d.DiscreteVP.linear(1000)
    grid = d.levels(chain, 1000, to_zero=True)
    k = d.kernel(grid)
    beta = chain.betas.flip(0)
    bar = (1 - chain.betas).cumprod(0).flip(0)
    before = torch.cat([bar[1:], torch.ones(1, dtype=torch.float64)])
    assert (k.omega2 - (1 - before) / (1 - bar) * beta).abs().max() < 1e-13
    assert (k.gamma - before.sqrt() * beta / (1 - bar)).abs().max() < 1e-10
    assert (k.kappa - (1 - beta).sqrt() * (1 - before) / (1 - bar)).abs().max() < 1e-10
    # c of N(0, I) data gives β, c = 0 gives β̃
    assert (k.omega2 + k.gamma**2 * d.n0i_variance(grid) - beta).abs().max() < 1e-12


@pytest.mark.parametrize("predicts", list(d.PREDICTIONS))
@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_predictions_round_trip(predicts, schedule):
    x0, eps = randn(64, 5), randn(64, 5, seed=1)
    for t in (0.02, 0.5, 0.98):
        level = schedule.level(t * schedule.t_max)
        x = d.diffuse(x0, level, eps)
        out = d.target(x0, eps, level, predicts)
        belief = d.Denoiser(lambda x, _: out, schedule, predicts)(x, level)
        worst = 1e-12 * max(1, level.sigma / level.alpha)  # one rounding of x, seen through 1/α
        assert (belief.mean - x0).abs().max() < worst
        views = {"eps": eps, "v": level.alpha * eps - level.sigma * x0, "flow": eps - x0, "score": -eps / level.sigma}
        for name, truth in views.items():
            scale = max(1, truth.abs().max(), level.alpha / level.sigma)
            assert (getattr(belief, name) - truth).abs().max() < worst * scale * (1 / level.sigma).clamp(min=1), name


def test_levels_per_sample_agree_with_one_by_one():
    schedule, gm = d.LinearVP(), mixture()
    x, t = randn(6, 2), torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    for oracle in (gm, d.Empirical(randn(40, 2, seed=3))):
        together = oracle.denoiser()(x, schedule.level(t)).mean
        apart = torch.cat([oracle.denoiser()(x[i : i + 1], schedule.level(t[i])).mean for i in range(6)])
        assert (together - apart).abs().max() < 1e-12
        assert (oracle.log_prob(x, schedule.level(t))[2] - oracle.log_prob(x[2:3], schedule.level(t[2]))).abs() < 1e-10


# --- oracles ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("schedule", [d.LinearVP(), d.VE(0.01, 5.0), d.Flow()], ids=repr)
def test_mixture_against_autograd_and_quadrature(schedule):
    gm = mixture()
    for t in (0.05, 0.4, 0.9):
        level = schedule.level(t)
        x = randn(5, 2).requires_grad_()
        belief = gm.denoiser("full")(x.detach(), level)
        score = torch.autograd.grad(gm.log_prob(x, level).sum(), x)[0]
        assert (belief.score - score).abs().max() < 1e-9  # Tweedie's formula
        # Cov[x_0 | x_t] = σ²/α² (I + σ² ∇² log q)
        hessian = torch.stack([torch.autograd.functional.hessian(lambda v: gm.log_prob(v[None], level)[0], row) for row in x.detach()])
        eye = torch.eye(2, dtype=torch.float64)
        assert (belief.cov - level.sigma**2 / level.alpha**2 * (eye + level.sigma**2 * hessian)).abs().max() < 1e-9
        assert torch.equal(gm.denoiser("diagonal")(x.detach(), level).var.round(decimals=12), belief.var.round(decimals=12))
        assert (gm.denoiser("isotropic")(x.detach(), level).var[:, 0] - belief.var.mean(1)).abs().max() < 1e-12


def test_mixture_density_integrates_to_one_and_samples_match():
    gm, level = mixture(), d.LinearVP().level(0.2)
    axis = torch.linspace(-9, 9, 900, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    assert gm.log_prob(points, level).exp().sum() * (axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=1e-8)
    x = gm.sample(100_000, gen())
    mean = (gm.weights[:, None] * gm.means).sum(0)
    second = (gm.weights[:, None, None] * (gm.covariances + gm.means[:, :, None] * gm.means[:, None, :])).sum(0)
    assert (x.mean(0) - mean).abs().max() < 0.02
    assert (x.T @ x / len(x) - second).abs().max() < 0.03


def test_empirical_is_the_limit_of_a_mixture():
    points = randn(7, 3)
    level = d.LinearVP().level(0.3)
    x = randn(4, 3, seed=5)
    tiny = d.GaussianMixture(torch.ones(7), points, 1e-14 * torch.eye(3).expand(7, 3, 3))
    a, b = d.Empirical(points), tiny
    assert (a.denoiser()(x, level).mean - b.denoiser()(x, level).mean).abs().max() < 1e-9
    assert (a.denoiser("diagonal")(x, level).var - b.denoiser("diagonal")(x, level).var).abs().max() < 1e-9
    assert (a.log_prob(x, level) - b.log_prob(x, level)).abs().max() < 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_empirical_returns_the_nearest_point_as_noise_vanishes(dtype):
    points = randn(500, 3, 8, 8).to(dtype)
    x = points[:20] + 0.3 * randn(20, 3, 8, 8, seed=1).to(dtype)
    nearest = torch.cdist(x.flatten(1).double(), points.flatten(1).double()).argmin(1)
    for t in (1e-5, 1e-3):
        level = d.VE(1e-4, 10.0).level(t)
        assert (d.Empirical(points).denoiser()(x, level).mean - points[nearest]).abs().max() < 1e-6


# --- the ancestral kernel -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("eta", ETAS)
def test_kernel_moments_are_the_exact_conditional_moments(eta):
    """E and Cov of x_s given x_t under q_ω for a mixture, integrated over x_0 by brute force."""
    gm = mixture()
    t, s = d.LinearVP().level(0.6), d.LinearVP().level(0.35)
    grid = d.Levels(*(torch.stack([getattr(t, f), getattr(s, f)]) for f in ("t", "alpha", "sigma", "lam")))
    k = d.kernel(grid, eta)
    x = randn(1, 2)
    axis = torch.linspace(-9, 9, 1201, dtype=torch.float64)
    x0 = torch.cartesian_prod(axis, axis)
    weight = torch.softmax(gm.log_prob(x0) - ((x - t.alpha * x0) ** 2).sum(1) / (2 * t.sigma**2), 0)
    omega2 = k.omega2[0]
    centre = s.alpha * x0 + (s.sigma**2 - omega2).sqrt() * (x - t.alpha * x0) / t.sigma
    mean = weight @ centre
    cov = (weight[:, None] * (centre - mean)).T @ (centre - mean) + omega2 * torch.eye(2)
    belief = gm.denoiser("full")(x, t)
    assert (k.gamma[0] * belief.mean[0] + k.kappa[0] * x[0] - mean).abs().max() < 1e-7
    assert (omega2 * torch.eye(2) + k.gamma[0] ** 2 * belief.cov[0] - cov).abs().max() < 1e-7


def test_ddim_is_deterministic_and_needs_no_generator():
    gm, grid = mixture(), d.levels(d.LinearVP(), 30)
    start = randn(8, 2)
    a = list(d.ancestral(gm.denoiser(), start, grid, eta=0))
    b = list(d.ancestral(gm.denoiser(), start, grid, eta=0))
    assert torch.equal(a[-1], b[-1]) and len(a) == 30
    with pytest.raises(ValueError, match="generator"):
        list(d.ancestral(gm.denoiser(), start, grid))


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_ancestral_with_exact_covariance_samples_a_gaussian_exactly_in_few_steps(covariance):
    cov = torch.tensor([[1.0, 0.6], [0.6, 0.5]]) if covariance == "full" else torch.diag(torch.tensor([1.5, 0.1]))
    g = d.Gaussian(torch.tensor([1.0, -1.0]), cov)
    grid = d.levels(d.LinearVP(), 3, t_end=1e-4)
    start = d.diffuse(g.sample(200_000, gen(1)), grid[0], randn(200_000, 2, seed=2))
    *_, x = d.ancestral(g.denoiser(covariance), start, grid, generator=gen(3))
    assert (x.mean(0) - torch.tensor([1.0, -1.0])).abs().max() < 0.015
    assert (x.T.cov() - cov).abs().max() < 0.02


def test_samples_do_not_depend_on_batch_mates():
    gm, grid, start = mixture(), d.levels(d.LinearVP(), 10, to_zero=True), randn(6, 2)
    own = [gen(i) for i in range(6)]
    *_, together = d.ancestral(gm.denoiser("diagonal"), start, grid, generator=own)
    *_, alone = d.ancestral(gm.denoiser("diagonal"), start[4:5], grid, generator=[gen(4)])
    assert (together[4] - alone[0]).abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_dtype_is_kept_and_nothing_overflows(dtype, schedule):
    grid = d.levels(schedule, 5, to_zero=True, t_start=0.999 * schedule.t_max, t_end=0.01)
    denoiser = d.Denoiser(lambda x, number: 0.1 * x, schedule, predicts="x0")
    for x in d.ancestral(denoiser, torch.ones(2, 3, dtype=dtype), grid, generator=gen()):
        assert x.dtype == dtype and x.isfinite().all()


def test_clipping_the_mean_changes_eps_with_it():
    level = d.LinearVP().level(0.5)
    x = 3 * randn(10, 2)
    plain, clipped = mixture().denoiser(), d.clip_x0(mixture().denoiser(), -0.5, 0.5)
    belief = clipped(x, level)
    assert belief.mean.abs().max() <= 0.5
    assert (level.alpha * belief.mean + level.sigma * belief.eps - x).abs().max() < 1e-12
    assert not torch.allclose(belief.eps, plain(x, level).eps)


# --- the bound ----------------------------------------------------------------------------------------------------

def sigma_points(x0):
    """Noise ±√d e_i: 2d equally likely points with mean 0 and covariance I, so quadratics are averaged exactly."""
    n, dim = x0.shape
    points = math.sqrt(dim) * torch.cat([torch.eye(dim, dtype=x0.dtype), -torch.eye(dim, dtype=x0.dtype)])
    return x0.repeat_interleave(2 * dim, 0), points.repeat(n, 1)


def exact_bound(denoiser, x0, grid, **kwargs):
    many, noise = sigma_points(x0)
    bound = d.elbo(denoiser, many, grid, noise=noise, **kwargs)
    return bound.nats.reshape(len(x0), -1).mean(1)


@pytest.mark.parametrize("K", [1, 5, 50])
@pytest.mark.parametrize("schedule", [d.LinearVP(), d.DiscreteVP.linear(1000), d.Flow()], ids=repr)
def test_bound_is_exact_for_isotropic_gaussian_data(K, schedule):
    g = d.Gaussian(torch.tensor([0.5, -1.0, 0.2]), 0.3 * torch.eye(3))
    grid = d.levels(schedule, K, to_zero=True, t_start=0.99, t_end=0.02 if K > 1 else None)
    x0 = g.sample(5, gen())
    truth = g.log_prob(x0)
    with_qN = exact_bound(g.denoiser("isotropic"), x0, grid, prior=lambda x: g.log_prob(x, grid[0]))
    assert (with_qN - truth).abs().max() < 1e-9
    # with the prior N(0, σ_N² I) the mean over the data drops by exactly KL(q_N ‖ prior)
    many, _ = sigma_points(g.means.expand(1, 3))
    spread = g.means + math.sqrt(0.3) * sigma_points(torch.zeros(1, 3, dtype=torch.float64))[1]
    gap = (g.log_prob(spread) - exact_bound(g.denoiser("isotropic"), spread, grid)).mean()
    end = grid[0]
    var_q, var_p = end.alpha**2 * 0.3 + end.sigma**2, end.sigma**2
    kl = 0.5 * (3 * (var_q / var_p - 1 - (var_q / var_p).log()) + end.alpha**2 * (g.means**2).sum() / var_p)
    assert gap == pytest.approx(kl.item(), abs=1e-9)


@pytest.mark.parametrize("K", [1, 2, 10])
def test_bound_is_exact_for_any_gaussian_with_full_covariance(K):
    g = d.Gaussian(torch.tensor([0.5, -1.0]), torch.tensor([[1.0, 0.6], [0.6, 0.5]]))
    grid = d.levels(d.LinearVP(), K, to_zero=True)
    x0 = g.sample(5, gen())
    bound = exact_bound(g.denoiser("full"), x0, grid, prior=lambda x: g.log_prob(x, grid[0]))
    assert (bound - g.log_prob(x0)).abs().max() < 1e-8


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize("covariance", ["isotropic", "diagonal", "full", "beta"])
def test_bound_never_exceeds_the_likelihood(seed, eta, covariance):
    gm = mixture(seed=seed)
    grid = d.levels(d.LinearVP(), 10, to_zero=True, t_end=0.02)
    x0 = gm.sample(4000, gen(seed))
    kwargs = {"variance": d.n0i_variance(grid)} if covariance == "beta" else {}
    bound = d.elbo(gm.denoiser(None if covariance == "beta" else covariance), x0, grid, eta=eta, generator=gen(9), **kwargs)
    gap = gm.log_prob(x0) - bound.nats
    assert gap.mean() > -3 * gap.std() / math.sqrt(len(gap))


def test_terms_of_the_bound_against_torch_distributions():
    gm, grid = mixture(), d.levels(d.LinearVP(), 4, to_zero=True)
    x0, noise = gm.sample(50, gen()), randn(50, 2, seed=4)
    bound = d.elbo(gm.denoiser(), x0, grid, variance=0.3, noise=noise)
    k, normal = d.kernel(grid), torch.distributions.Normal
    for i in range(3):
        x = d.diffuse(x0, grid[i], noise)
        mean = gm.denoiser()(x, grid[i]).mean
        q = normal(k.gamma[i] * x0 + k.kappa[i] * x, k.omega2[i].sqrt())
        p = normal(k.gamma[i] * mean + k.kappa[i] * x, (k.omega2[i] + k.gamma[i] ** 2 * 0.3).sqrt())
        assert (torch.distributions.kl_divergence(q, p).sum(1) - bound.steps[i]).abs().max() < 1e-9
    prior = torch.distributions.kl_divergence(normal(grid.alpha[0] * x0, grid.sigma[0]), normal(0 * x0, grid.sigma[0]))
    assert (prior.sum(1) - bound.prior).abs().max() < 1e-12


def test_bins_share_out_all_probability():
    values = torch.linspace(-1, 1, 256, dtype=torch.float64)
    for mean, std in ((0.1, 0.5), (-0.99, 1e-3), (0.7, 1e-2), (3.0, 0.2)):
        log_mass = d.log_bin(values, torch.full_like(values, mean), std**2)
        assert torch.logsumexp(log_mass, 0).abs() < 1e-10
        assert log_mass.isfinite().all() or std == 1e-3
    narrow = d.log_bin(values[:1], torch.ones(1), torch.tensor(0.05**2))  # 40 standard deviations away
    assert narrow.isfinite().all() and narrow < -500


def test_bits_per_dim():
    assert d.bits_per_dim(torch.tensor(-3072 * 8 * math.log(2)), 3072) == pytest.approx(8)
    assert d.bits_per_dim(torch.tensor(0.0), 3072, bin_width=1 / 128) == pytest.approx(7)


# --- bad input ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("call, words", [
    (lambda: d.LinearVP().alpha(1.2), "outside"),
    (lambda: d.LinearVP().level(torch.tensor([0.5, float("nan")])), "outside"),
    (lambda: d.LinearVP(-1, 2), "beta_min"),
    (lambda: d.VE(2, 1), "sigma_min"),
    (lambda: d.DiscreteVP([0.1, 1.5]), "betas"),
    (lambda: d.DiscreteVP.linear(0), "N = 0"),
    (lambda: d.levels(d.LinearVP(), 0), "n = 0"),
    (lambda: d.levels(d.LinearVP(), 5, "log"), "spacing"),
    (lambda: d.levels(d.LinearVP(), 5, t_end=1.5), "t_end"),
    (lambda: d.levels(d.LinearVP(), 5, t_end=0, to_zero=True), "t_end"),
    (lambda: d.levels(d.Flow(), 5, "lam"), "finite"),
    (lambda: d.check_grid(d.LinearVP().level([0.1, 0.5])), "step 0"),
    (lambda: d.Denoiser(None, d.LinearVP(), "noise"), "predicts"),
    (lambda: d.Denoiser(lambda x, _: x[:1], d.LinearVP())(torch.ones(2, 2), d.LinearVP().level(0.5)), "net returned"),
    (lambda: d.Denoiser(None, d.LinearVP())(torch.ones(2, 2, dtype=torch.long), d.LinearVP().level(0.5)), "dtype"),
    (lambda: d.diffuse(torch.ones(3, 2), d.LinearVP().level([0.1, 0.2]), torch.ones(3, 2)), "level of shape"),
    (lambda: d.diffuse(torch.ones(3, 2), d.LinearVP().level(0.1), torch.ones(3, 1)), "noise of shape"),
    (lambda: d.GaussianMixture([1.0], [[0.0, 0]], [[[1.0, 2], [2, 1]]]), "positive definite"),
    (lambda: d.GaussianMixture([1.0], [[0.0, 0]], [[[1.0, 2], [0, 1]]]), "symmetric"),
    (lambda: d.GaussianMixture([1.0, -1], [[0.0], [1]], [[[1.0]], [[1.0]]]), "weights"),
    (lambda: d.GaussianMixture([1.0], [[float("nan")]], [[[1.0]]]), "NaN"),
    (lambda: d.GaussianMixture([1.0], [[0.0]], [[1.0]]), "need"),
    (lambda: d.GaussianMixture([1.0], [[0.0]], [[[1.0]]]).log_prob(torch.ones(3, 2)), "x of shape"),
    (lambda: d.GaussianMixture([1.0], [[0.0]], [[[1.0]]]).denoiser("block"), "covariance"),
    (lambda: d.Empirical(torch.tensor([[1.0], [float("nan")]])), "data"),
    (lambda: d.Empirical(torch.ones(3, 2)).denoiser("full"), "full"),
    (lambda: list(d.ancestral(None, torch.ones(1, 2), d.levels(d.LinearVP(), 4), eta=-1)), "eta"),
    (lambda: list(d.ancestral(None, torch.ones(1, 2), d.levels(d.LinearVP(), 4), eta=9)), "eta"),
    (lambda: list(d.ancestral(None, torch.ones(1, 2), d.levels(d.LinearVP(), 4), variance=[1.0])), "variance"),
    (lambda: list(d.ancestral(None, torch.ones(1, 2), d.levels(d.LinearVP(), 4), variance=-1.0)), "variance"),
    (lambda: d.elbo(None, torch.ones(1, 2), d.levels(d.LinearVP(), 4)), "ends at"),
    (lambda: d.elbo(None, torch.ones(1, 2), d.levels(d.LinearVP(), 4, to_zero=True), eta=0), "eta"),
    (lambda: d.elbo(mixture().denoiser(), torch.ones(1, 2), d.levels(d.LinearVP(), 4, to_zero=True), generator=gen()), "last term"),
    (lambda: d.log_bin(torch.tensor([0.0]), torch.zeros(1), 1.0), "256 values"),
    (lambda: d.clip_x0(None, 1, -1), "low"),
    (lambda: d.bits_per_dim(torch.zeros(1), 0), "dims"),
    (lambda: d.Posterior(torch.zeros(1)).eps, "x and level"),
])
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_combining_broadcasts_promotes_and_leaves_its_arguments_alone():
    a, b = torch.tensor([2.0, -3.0], dtype=torch.float64)
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(3, 2, generator=g), torch.randn(4, 3, 2, generator=g)
    before = x.clone(), y.clone()
    for other in (y, y[0], y.double(), y[:, :1]):
        together = combine(a, x, b, other)
        torch.testing.assert_close(together, 2 * x - 3 * other)
    assert torch.equal(x, before[0]) and torch.equal(y, before[1])
    x.requires_grad_()
    combine(a, x, b, y[0]).sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 2.0))
