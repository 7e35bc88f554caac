"""Theorem 1, theorem 2 and the optimal trajectory, against brute force."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from test_laws import gen, mixture, randn

import dpmlib as d
from dpmlib import covariance as cov
from dpmlib import trajectory

CHAIN = d.DiscreteVP.linear(1000)


def normal_nodes(n, reach=9.0):
    """Nodes and weights for E f(z), z ~ N(0, 1): the trapezoidal rule, which converges spectrally here."""
    z = torch.linspace(-reach, reach, n, dtype=torch.float64)
    return z, torch.softmax(-0.5 * z**2, 0)


def exact_gamma(gm, grid):
    """Γ of a one-dimensional mixture at every step, by quadrature over each component."""
    z, w = normal_nodes(1501)
    values = []
    for level in grid[:-1]:
        std = (level.alpha**2 * gm.variances[:, 0] + level.sigma**2).sqrt()
        x = (level.alpha * gm.means[:, 0])[:, None] + std[:, None] * z  # (K, nodes)
        score = gm.denoiser()(x.reshape(-1, 1), level).score.reshape(x.shape)
        values.append((gm.weights[:, None] * w * score**2).sum())
    return torch.stack(values)


def brute_force_variance(gm, grid, k, i):
    """The v that minimises −E log N(x_s; mean, v) over q_ω(x_s, x_t), by quadrature and a line search: no formula."""
    here, there = grid[i], grid[i + 1]
    (z, w), (u, wu) = normal_nodes(1501), normal_nodes(41)
    v0, mu = gm.variances[:, :1], gm.means[:, :1]
    x = here.alpha * mu + (here.alpha**2 * v0 + here.sigma**2).sqrt() * z  # (K, nodes)
    belief = gm.denoiser()(x.reshape(-1, 1), here).mean.reshape(x.shape)
    gain = here.alpha * v0 / (here.alpha**2 * v0 + here.sigma**2)
    given_k = mu + gain * (x - here.alpha * mu)  # E[x_0 | x_t, k], and its variance v0 − gain α v0
    spread = (k.gamma[i] ** 2 * (v0 - gain * here.alpha * v0) + k.omega2[i]).sqrt()
    x_s = (k.gamma[i] * given_k + k.kappa[i] * x)[..., None] + spread[..., None] * u
    mean = k.gamma[i] * belief + k.kappa[i] * x
    weight = (gm.weights[:, None] * w)[..., None] * wu
    squares = (weight * (x_s - mean[..., None]) ** 2).sum().item()
    found = minimize_scalar(lambda log_v: squares / math.exp(log_v) + log_v, bounds=(math.log(squares) - 3, math.log(squares) + 3),
                            method="bounded", options={"xatol": 1e-10})
    assert there.sigma >= 0
    return math.exp(found.x)


@pytest.mark.parametrize("K", [5, 50, 1000])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_theorem_1_against_brute_force(eta, K):
    gm = mixture(dim=1)
    grid = d.levels(CHAIN, K, to_zero=True)
    k = d.kernel(grid, eta)
    value = cov.reverse_variance(exact_gamma(gm, grid), grid, eta, most=math.inf)
    for i in range(0, K, max(1, K // 40)):
        assert value[i] == pytest.approx(brute_force_variance(gm, grid, k, i), rel=1e-6), i


def test_theorem_2_holds_for_a_hundred_mixtures():
    for seed in range(100):
        gm = mixture(dim=1, K=1 + seed % 5, seed=seed)
        eta = (0.0, 0.5, 1.0)[seed % 3]
        grid = d.levels(CHAIN, 25, to_zero=True)
        value = cov.reverse_variance(exact_gamma(gm, grid), grid, eta, most=math.inf)
        low, high = cov.variance_bounds(grid, eta)
        assert (value >= low - 1e-12).all() and (value <= high + 1e-12).all(), seed


def test_each_bound_is_attained_where_it_should_be():
    grid = d.levels(CHAIN, 50, to_zero=True)
    t = grid[:-1]
    low, high = cov.variance_bounds(grid)
    point = d.GaussianMixture([1.0], [[0.3]], [[[1e-14]]])
    assert (cov.reverse_variance(exact_gamma(point, grid), grid) - low).abs().max() < 1e-9
    # the upper one as data grow wide: Γ = 1/(α² s² + σ²) → 0
    wide = cov.reverse_variance(1 / (t.alpha**2 * 1e14 + t.sigma**2), grid, most=math.inf)
    assert (wide / high - 1).abs().max() < 1e-9
    # data that are ±1 with equal probability reach the bound of [−1, 1] where x_t says nothing about x_0
    signs = d.Empirical(torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
    assert signs.denoiser("isotropic")(torch.zeros(1, 1, dtype=torch.float64), grid[0]).var.item() == pytest.approx(1, abs=1e-9)


def test_gamma_is_within_its_standard_error():
    g = d.Gaussian(torch.zeros(8), torch.diag(torch.linspace(0.1, 2, 8)))
    grid = d.levels(CHAIN, 30, to_zero=True)
    t = grid[:-1]
    exact = (1 / (t.alpha[:, None] ** 2 * g.variances + t.sigma[:, None] ** 2)).mean(1)
    found = cov.gamma(g.denoiser(), g.sample(4000, gen()), grid, gen(1), batch=700)
    assert ((found.value - exact).abs() < 3 * found.stderr).all()
    c = cov.posterior_variance(found, grid)
    assert ((c >= 0) & (c <= 1)).all()


def test_sn_and_npr_agree_with_the_oracle_when_the_mean_is_exact():
    gm, level, x = mixture(), d.LinearVP().level(0.4), randn(20, 2)
    truth = gm.denoiser("diagonal")(x, level)
    square = truth.eps**2 + (level.alpha / level.sigma) ** 2 * truth.var  # E[ε² | x_t]
    sn = cov.with_squared_noise(gm.denoiser(), lambda x, level: square)(x, level)
    npr = cov.with_residual(gm.denoiser(), lambda x, level: square - truth.eps**2)(x, level)
    assert (sn.var - truth.var).abs().max() < 1e-12 and (npr.var - truth.var).abs().max() < 1e-12


def test_variance_that_knows_more_gives_a_better_bound():
    """Fixed ≤ isotropic ≤ diagonal ≤ full, up to Monte Carlo error, on the same noise."""
    gm, grid = mixture(seed=3), d.levels(d.LinearVP(), 10, to_zero=True)
    x0, noise = gm.sample(20_000, gen()), randn(20_000, 2, seed=1)
    table = cov.posterior_variance(cov.gamma(gm.denoiser(), gm.sample(20_000, gen(2)), grid, gen(3)), grid, most=math.inf)
    bounds = [d.elbo(gm.denoiser(), x0, grid, variance=d.n0i_variance(grid), noise=noise)]
    bounds += [d.elbo(gm.denoiser(), x0, grid, variance=table, noise=noise)]
    bounds += [d.elbo(gm.denoiser(c), x0, grid, noise=noise) for c in ("isotropic", "diagonal", "full")]
    means = [b.nats.mean().item() for b in bounds]
    assert means == sorted(means), means


def test_clipping_touches_only_the_last_noisy_step():
    grid = d.levels(CHAIN, 20, to_zero=True, t_end=0.02)
    clipped = cov.clip_last(torch.ones(20), grid, pixels=1)
    assert (clipped[:18] == 1).all() and clipped[18] < 1 and clipped[19] == 1
    k = d.kernel(grid)
    std = (k.omega2[18] + k.gamma[18] ** 2 * clipped[18]).sqrt()
    assert std <= max(2 / 255 * math.sqrt(math.pi / 2), k.omega2[18].sqrt()) * (1 + 1e-12)


# --- trajectories -------------------------------------------------------------------------------------------------

def random_gamma(chain, seed):
    """Γ of a random one-dimensional mixture along a chain, Γ_1 first."""
    return exact_gamma(mixture(dim=1, seed=seed), d.levels(chain, chain.N, to_zero=True)).flip(0)


@pytest.mark.parametrize("seed", range(3))
def test_no_trajectory_beats_the_optimal_one_exhaustively(seed):
    chain = d.DiscreteVP(torch.linspace(0.01, 0.6, 12, dtype=torch.float64))
    cost = trajectory.step_costs(random_gamma(chain, seed), chain)
    total = lambda path: sum(cost[s, t] for s, t in zip(path, path[1:]))
    for K, path in enumerate(trajectory.shortest_paths(cost, 12, block=5), start=1):
        assert len(path) == K and path[-1] == 12
        if K > 1:
            best = min(total((1, *middle, 12)) for middle in itertools.combinations(range(2, 12), K - 2))
            assert total(path) == pytest.approx(best, abs=1e-12)


def test_no_random_trajectory_of_a_thousand_beats_it():
    cost = trajectory.step_costs(random_gamma(CHAIN, 0), CHAIN)
    paths, rng = trajectory.shortest_paths(cost, 100), np.random.default_rng(0)
    for K in (10, 50):
        best = cost[paths[K - 1][:-1], paths[K - 1][1:]].sum()
        middles = np.sort(rng.random((80_000, 998), dtype=np.float32).argpartition(K - 2, 1)[:, : K - 2], 1) + 2 if K == 10 else \
            np.stack([np.sort(rng.choice(998, K - 2, replace=False)) for _ in range(20_000)]) + 2
        ends = np.ones((len(middles), 1), dtype=int)
        many = np.concatenate([ends, middles, 1000 * ends], 1)
        assert best <= cost[many[:, :-1], many[:, 1:]].sum(1).min() + 1e-12
        assert best <= cost[trajectory.even(1000, K)[:-1], trajectory.even(1000, K)[1:]].sum() + 1e-12


def test_the_cost_is_the_bound():
    """Differences of Σ J between trajectories are differences of ½ Σ log(σ*²/β̃), and so of the bound."""
    gamma = random_gamma(CHAIN, 1)
    cost = trajectory.step_costs(gamma, CHAIN)
    values = []
    for path in ([1, 300, 1000], [1, 20, 400, 1000], trajectory.even(1000, 10)):
        grid = trajectory.grid_of(path, CHAIN)
        table = gamma[torch.tensor(path) - 1].flip(0)
        k, star = d.kernel(grid), cov.reverse_variance(table, grid, most=math.inf)
        values.append((star[:-1] / k.omega2[:-1]).log().sum().item() - cost[path[:-1], path[1:]].sum())
    assert max(values) - min(values) < 1e-9


@pytest.mark.parametrize("call, words", [
    (lambda: cov.gamma(None, torch.ones(1, 2), None), "data"),
    (lambda: cov.reverse_variance(torch.ones(3), d.levels(CHAIN, 5)), "gamma"),
    (lambda: cov.reverse_variance(-torch.ones(5), d.levels(CHAIN, 5)), "negative"),
    (lambda: cov.variance_bounds(d.levels(CHAIN, 5), data_range=(1, -1)), "data_range"),
    (lambda: trajectory.even(10, 11), "K"),
    (lambda: trajectory.optimal(torch.ones(5), CHAIN, 3), "gamma"),
    (lambda: trajectory.optimal(torch.full((1000,), 5.0), CHAIN, 3), "too large"),
    (lambda: trajectory.grid_of([1, 5, 5, 1000], CHAIN), "path"),
    (lambda: trajectory.grid_of([1, 5, 999], CHAIN), "path"),
])
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
