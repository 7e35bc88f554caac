"""The bounds of the optimal variance, what a step costs, and the cheapest steps through a chain."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from test_covariance import exact_gamma, random_gamma
from test_laws import mixture, randn

import dpmlib as d
from dpmlib import statistics, trajectory
from dpmlib.covariance import clip_last, posterior_variance, reverse_variance, variance_bounds

CHAIN = d.DiscreteVP.linear(1000)
SHORT = d.DiscreteVP(torch.linspace(0.01, 0.6, 12, dtype=torch.float64))


def chain_table(gamma, chain):
    """Γ_1 … Γ_N → c_1 … c_N, without a clamp."""
    level = chain.level(torch.arange(1, chain.N + 1, dtype=torch.float64) / chain.N)
    return (level.sigma / level.alpha) ** 2 * (1 - level.sigma**2 * torch.as_tensor(gamma))


# --- theorem 2 ------------------------------------------------------------------------------------------------------------------

def test_all_bounds_hold_for_a_hundred_mixtures(record_property):
    """25 steps, three members of the family, and the tighter bound of data whose variance is known."""
    grid = trajectory.grid_of(trajectory.even(1000, 1000), CHAIN)
    steps = d.Levels(*(v[torch.arange(0, 1001, 40)] for v in vars(grid).values()))
    closest = math.inf
    for seed in range(100):
        gm = mixture(dim=1, K=1 + seed % 5, seed=seed)
        variance = (gm.weights @ (gm.means[:, 0] ** 2 + gm.variances[:, 0]) - (gm.weights @ gm.means[:, 0]) ** 2).item()
        gamma = exact_gamma(gm, steps)
        for eta in (0.0, 0.5, 1.0):
            value = reverse_variance(gamma, steps, eta, most=math.inf)
            for known in ({}, {"data_variance": variance}):
                low, high = variance_bounds(steps, eta, **known)
                assert (value >= low - 1e-12).all() and (value <= high * (1 + 1e-9) + 1e-12).all(), (seed, eta, known)
            closest = min(closest, (high / value).min().item())
    record_property("upper bound over truth, smallest ratio", closest)


def test_bounded_data_keep_within_their_bound():
    """Random sets of points in [−1, 1]: mixtures of components without width."""
    grid = trajectory.grid_of(trajectory.even(1000, 25), CHAIN)
    g = torch.Generator().manual_seed(0)
    for _ in range(20):
        points = 2 * torch.rand(4, 1, generator=g, dtype=torch.float64) - 1
        gm = d.GaussianMixture([0.25] * 4, points, torch.full((4, 1, 1), 1e-12, dtype=torch.float64))
        for eta in (0.0, 1.0):
            value = reverse_variance(exact_gamma(gm, grid), grid, eta, most=math.inf)
            low, high = variance_bounds(grid, eta, data_range=(-1, 1))
            assert (value <= high + 1e-9).all() and (value >= low - 1e-9).all()


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_each_bound_is_attained(eta):
    """To 1e-9: a point, a round Gaussian, a Gaussian without end, and the corners of a box at the noisy end."""
    grid = trajectory.grid_of(trajectory.even(1000, 50), CHAIN)
    t, k = grid[:-1], d.kernel(grid, eta)
    low, high = variance_bounds(grid, eta)
    star = lambda v: reverse_variance(1 / (t.alpha**2 * v + t.sigma**2), grid, eta, most=math.inf)
    assert (star(0.0) - low).abs().max() < 1e-9
    for v in (0.01, 1.0, 30.0):
        assert (star(v) / variance_bounds(grid, eta, data_variance=v)[1] - 1).abs().max() < 1e-9
    assert (star(1e14) / high - 1).abs().max() < 1e-9
    noisy = d.VE(1e-3, 1e6)
    box = d.levels(noisy, 2, t_end=noisy.t_end)
    signs = d.Empirical(torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
    x = box.sigma[0] * randn(400, 1) + signs.sample(400, torch.Generator().manual_seed(1))
    c = signs.denoiser("isotropic")(x, box[0]).var.mean()
    top = variance_bounds(box, eta, data_range=(-1, 1))[1][0]
    k = d.kernel(box, eta)
    assert abs((k.omega2[0] + k.gamma[0] ** 2 * c) / top - 1) < 1e-9


def test_clipping_lowers_as_many_of_the_last_steps_as_it_is_told():
    grid = trajectory.grid_of(trajectory.even(1000, 20), CHAIN)
    c = torch.full((20,), 0.3, dtype=torch.float64)
    for steps in (0, 1, 3, 50):
        lowered = (clip_last(c, grid, steps=steps) < c).sum().item()
        assert lowered == min(steps, 19) or steps > 3 and 3 < lowered <= 19
    k, bounded = d.kernel(grid), clip_last(0.3, grid, pixels=1)
    most = max(2 / 255 * math.sqrt(math.pi / 2), k.omega2[18].sqrt())  # what DDPM's own noise exceeds stays
    assert torch.equal(bounded[:18], c[:18]) and (k.omega2 + k.gamma**2 * bounded)[18].sqrt() <= most * (1 + 1e-12)


# --- what a step costs ----------------------------------------------------------------------------------------------------------

def test_the_table_has_the_terms_of_the_bound():
    """`bound_table` at the steps of a path = `statistics.step_terms` = KL, for any c; with the best c it is half of J and 2h."""
    gamma = random_gamma(CHAIN, 2)
    level = CHAIN.level(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    errors, c = 1 - level.sigma**2 * gamma, chain_table(gamma, CHAIN)
    for variance in (c, torch.zeros(1000), level.sigma**2, 0.5 * c):
        table = trajectory.bound_table(errors, CHAIN, variance)
        for path in ([1, 2, 5, 400, 1000], [1, 999, 1000], trajectory.even(1000, 30)):
            grid, i = trajectory.grid_of(path, CHAIN), torch.tensor(path).flip(0) - 1
            terms = statistics.step_terms(errors[i], grid, variance[i].double())
            assert trajectory.path_cost(table, path) == pytest.approx(terms.sum().item(), rel=1e-8)
    best, J, lam = trajectory.bound_table(errors, CHAIN, c), trajectory.step_costs(gamma, CHAIN), level.lam.numpy()
    s, t = np.triu_indices(1000, 1)
    capacity = 0.5 * np.log1p((np.exp(2 * lam[s]) - np.exp(2 * lam[t])) * c.numpy()[t])
    assert np.abs(best[s + 1, t + 1] - capacity).max() < 1e-9
    assert np.abs(0.5 * J[s + 1, t + 1] + lam[s] - lam[t] - capacity).max() < 1e-9
    assert np.isinf(best[np.tril_indices(1001)]).all()


def test_another_level_never_hurts_and_costs_nothing_for_a_gaussian():
    chain = d.DiscreteVP.linear(200)
    level = chain.level(torch.arange(1, 201, dtype=torch.float64) / 200)
    for seed in range(5):
        gamma = random_gamma(chain, seed) if seed else 1 / (0.2 * level.alpha**2 + level.sigma**2)
        cost = trajectory.bound_table(1 - level.sigma**2 * gamma, chain, chain_table(gamma, chain))
        rng = np.random.default_rng(seed)
        s, r, t = np.sort(np.stack([rng.choice(200, 3, replace=False) + 1 for _ in range(2000)]), 1).T
        extra = cost[s, t] - cost[s, r] - cost[r, t]
        assert extra.min() > -1e-9
        assert (extra.max() < 1e-9) == (seed == 0)


# --- the cheapest path ----------------------------------------------------------------------------------------------------------

def everything(cost, K):
    N = len(cost) - 1
    return min(trajectory.path_cost(cost, (1, *middle, N)) for middle in itertools.combinations(range(2, N), K - 2))


@pytest.mark.parametrize("kind", ["analytic", "beta", "beta-tilde", "noise"])
def test_exhaustive_search_finds_nothing_cheaper(kind):
    """All paths of a chain of 12, under the table of each variance and under a table of random numbers."""
    gamma = random_gamma(SHORT, 4)
    level = SHORT.level(torch.arange(1, 13, dtype=torch.float64) / 12)
    c = {"analytic": chain_table(gamma, SHORT), "beta": level.sigma**2, "beta-tilde": torch.zeros(12)}.get(kind)
    cost = np.random.default_rng(0).random((13, 13)) if kind == "noise" else \
        trajectory.bound_table(1 - level.sigma**2 * gamma, SHORT, c)
    for K, path in enumerate(trajectory.shortest_paths(cost, 12, block=5), start=1):
        assert len(path) == K and path[-1] == 12
        if K > 1:
            assert trajectory.path_cost(cost, path) == pytest.approx(everything(cost, K), abs=1e-12)


def test_a_hundred_thousand_random_paths_find_nothing_cheaper(record_property):
    """On the network's table: K = 10, half of the paths anywhere, half of them near the optimum, which is the harder rival."""
    stats = statistics.load()
    n = torch.arange(1, 1001)
    level = CHAIN.level(n.double() / 1000)
    errors = stats.at(stats.error, n).mean(1)
    cost = trajectory.bound_table(errors, CHAIN, (level.sigma / level.alpha) ** 2 * errors)
    best = trajectory.shortest_paths(cost, 10)[-1]
    rng = np.random.default_rng(0)
    anywhere = np.sort(2 + rng.integers(0, 998, (50_000, 8)), 1)
    near = np.array(best[1:-1]) + rng.integers(-3, 4, (50_000, 8))
    middle = np.concatenate([anywhere, near])
    middle = middle[(np.diff(middle, axis=1) > 0).all(1) & (middle[:, 0] > 1) & (middle[:, -1] < 1000)]
    ends = np.ones((len(middle), 1), dtype=int)
    many = np.concatenate([ends, middle, 1000 * ends], 1)
    found = cost[many[:, :-1], many[:, 1:]].sum(1)
    record_property("nats per dimension, best random path less optimal", found.min() - trajectory.path_cost(cost, best))
    assert len(many) > 75_000 and found.min() >= trajectory.path_cost(cost, best) - 1e-12


def test_the_programme_pays_off_on_the_networks_table():
    """Optimal ≤ even for every K, non-increasing in K, equal at K = N."""
    stats, n = statistics.load(), torch.arange(1, 1001)
    level = CHAIN.level(n.double() / 1000)
    errors = stats.at(stats.error, n).mean(1)
    cost = trajectory.bound_table(errors, CHAIN, level.sigma**2)
    values = [trajectory.path_cost(cost, p) for p in trajectory.shortest_paths(cost, 200)[1:]]
    for K in (2, 10, 50, 200):
        assert values[K - 2] <= trajectory.path_cost(cost, trajectory.even(1000, K)) + 1e-12
    assert values[8] > values[48] > values[198]


def test_posterior_variance_is_the_tables():
    grid = trajectory.grid_of(trajectory.even(12, 12), SHORT)
    gamma = random_gamma(SHORT, 5)
    assert (posterior_variance(gamma.flip(0), grid, most=math.inf).flip(0) - chain_table(gamma, SHORT)).abs().max() < 1e-12


def test_a_possible_gamma_stays_and_an_impossible_one_is_mended(record_property):
    for seed in range(5):
        gamma = random_gamma(CHAIN, seed).numpy()
        assert np.abs(trajectory.monotone_gamma(gamma, CHAIN, most=100) / gamma - 1).max() < 1e-6
    stats, n = statistics.load(), torch.arange(1, 1001)
    sigma2 = CHAIN.level(n.double() / 1000).sigma ** 2
    raw = stats.at(stats.size, n).mean(1) / sigma2
    with pytest.raises(ValueError, match="too large"):
        trajectory.step_costs(raw, CHAIN)
    mended = trajectory.monotone_gamma(raw, CHAIN)
    assert np.allclose(trajectory.monotone_gamma(mended, CHAIN), mended, rtol=1e-12)
    c = chain_table(torch.as_tensor(mended), CHAIN).numpy()
    S = np.exp(2 * CHAIN.lam(n.double() / 1000).numpy())
    assert (np.diff(1 / c - S) <= 1e-6 * (1 / c)[1:]).all() and c.min() > 0
    path = trajectory.optimal(mended, CHAIN, 10)
    assert path[1] < 20 and path[-2] < 600  # not one jump from noise to data and the rest wherever


def test_published_optimal_trajectories_never_lose():
    table = json.loads((statistics.WEIGHTS / "analytic_published.json").read_text())
    for even, best in ((table["bits_per_dim"]["Analytic-DDPM"], table["optimal"]["Analytic-DDPM"]),
                       (table["bits_per_dim"]["DDPM beta"], table["optimal"]["DDPM beta"]),
                       (table["cosine"]["even"], table["cosine"]["optimal"])):
        assert len(even) == len(best) == len(table["steps"]) and all(b <= a for a, b in zip(even, best)) and even[-1] == best[-1]


@pytest.mark.parametrize("call, words", [
    (lambda: trajectory.monotone_gamma(torch.ones(10), CHAIN), "gamma"),
    (lambda: trajectory.monotone_gamma(torch.ones(1000), CHAIN, most=0), "most"),
    (lambda: trajectory.optimal(torch.ones(1000), CHAIN, 1001), "K, N"),
    (lambda: trajectory.optimal(-torch.ones(1000), CHAIN, 3), "gamma"),
    (lambda: trajectory.optimal(torch.full((1000,), math.nan), CHAIN, 3), "gamma"),
    (lambda: trajectory.bound_table(torch.ones(3), CHAIN, torch.ones(1000)), "errors"),
    (lambda: trajectory.bound_table(torch.ones(1000), CHAIN, -torch.ones(1000)), "variance"),
    (lambda: trajectory.shortest_paths(np.ones((4, 5)), 2), "square"),
    (lambda: trajectory.shortest_paths(np.full((4, 4), np.nan), 2), "NaN"),
    (lambda: trajectory.shortest_paths(np.ones((4, 4)), 4), "K, N"),
    (lambda: trajectory.path_cost(np.ones((4, 4)), [1, 1, 3]), "path"),
    (lambda: trajectory.path_cost(np.ones((4, 4)), [1, 4]), "path"),
    (lambda: variance_bounds(d.levels(CHAIN, 5), data_variance=0.0), "data_variance"),
    (lambda: clip_last(-torch.ones(5), d.levels(CHAIN, 5)), "variance"),
    (lambda: clip_last(torch.ones(3), d.levels(CHAIN, 5)), "variance"),
    (lambda: clip_last(torch.ones(5), d.levels(CHAIN, 5), pixels=-1), "pixels"),
])
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
