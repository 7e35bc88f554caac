"""Metrics against closed forms, against scipy, and against what they must not depend on."""

import numpy as np
import pytest
import scipy.stats
import torch

from dpmlib import metrics


def g(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(n, d=2, seed=0):
    return torch.randn(n, d, generator=g(seed), dtype=torch.float64)


def covariance(d, seed):
    root = normal(d, d, seed)
    return root @ root.T / d


BOTH = [lambda a, b: metrics.sliced_wasserstein(a, b, 64, g(9)), metrics.mmd, metrics.energy_distance, metrics.frechet_distance]


@pytest.mark.parametrize("metric", BOTH)
def test_order_and_origin_do_not_matter_and_arguments_swap(metric):
    a, b = normal(200), normal(300, seed=1) * 1.3
    expected = metric(a, b)
    assert metric(a.flip(0), b[torch.randperm(300, generator=g())]) == pytest.approx(expected, rel=1e-6)
    assert metric(a + 1000, b + 1000) == pytest.approx(expected, rel=1e-5, abs=1e-9)
    assert metric(b, a) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("metric", [*BOTH, lambda a, b: metrics.precision_recall(a, b, 1)])
def test_bad_sets_are_refused(metric, bad):
    a = normal(5)
    with pytest.raises(ValueError, match="numbers per point|scatters"):
        metric(a, normal(5, 3))
    with pytest.raises(ValueError, match="1 points|count is 1"):
        metric(a, a[:1])
    broken = a.clone()
    broken[2, 1] = bad
    with pytest.raises(ValueError, match="NaN"):
        metric(a, broken)


def test_sliced_wasserstein_is_exact_in_one_dimension_for_any_sizes():
    # W2 between empirical quantile functions, here on the fine grid that both sizes divide
    a, b = normal(12, 1), normal(18, 1, seed=1)
    fine_a, fine_b = (s.sort(0).values.repeat_interleave(36 // len(s), 0) for s in (a, b))
    expected = (fine_a - fine_b).square().mean().sqrt().item()
    assert metrics.sliced_wasserstein(a, b, 3, g()) == pytest.approx(expected, abs=1e-12)


def test_sliced_wasserstein_bounds_scipys_w1_and_equals_it_for_a_shift():
    a = normal(50, 1)
    shifted = a[:, 0] + 0.3
    assert metrics.sliced_wasserstein(a, shifted, 2, g()) == pytest.approx(0.3, abs=1e-12)
    assert scipy.stats.wasserstein_distance(a[:, 0], shifted) == pytest.approx(0.3, abs=1e-12)
    b = 2 * normal(70, 1, seed=3)
    assert scipy.stats.wasserstein_distance(a[:, 0], b[:, 0]) <= metrics.sliced_wasserstein(a, b, 1, g())


def test_sliced_wasserstein_of_a_shift_and_of_gaussians():
    a, shift = normal(100, 4), torch.tensor([1., -2., 0.5, 0.])
    expected = shift.norm().item() / 2  # E <u, s>^2 = |s|^2 / d
    assert metrics.sliced_wasserstein(a, a + shift, 20_000, g()) == pytest.approx(expected, rel=0.02)
    # N(0, 1) against N(0, s^2): W2 = |s - 1| in every direction; a scaled copy has it exactly up to the sample's own scale
    a = normal(20_000)
    assert metrics.sliced_wasserstein(a, 1.5 * normal(20_000, seed=1), 64, g()) == pytest.approx(0.5, rel=0.05)


def test_sliced_wasserstein_depends_on_the_generator_alone_and_chunks_do_not_show(monkeypatch):
    a, b = normal(40, 3), normal(30, 3, 1)
    torch.manual_seed(5)
    first = metrics.sliced_wasserstein(a, b, 50, g(2))
    torch.manual_seed(6)
    monkeypatch.setattr(metrics, "_CHUNK", 100)
    assert metrics.sliced_wasserstein(a, b, 50, g(2)) == pytest.approx(first, rel=1e-12)
    for bad in (dict(n_projections=0, generator=g()), dict(n_projections=5)):
        with pytest.raises(ValueError, match=r"n_projections|generator"):
            metrics.sliced_wasserstein(a, b, **bad)


def test_mmd_is_unbiased_and_right_for_gaussians():
    # E k(x, y) for x - y ~ N(m, 2 I) in d dimensions: (h^2/(h^2 + 2))^(d/2) exp(-|m|^2 / (2 (h^2 + 2)))
    h, m = 0.9, torch.tensor([0.8, -0.3], dtype=torch.float64)
    peak = h**2 / (h**2 + 2)
    expected = 2 * peak * (1 - torch.exp(-m.square().sum() / (2 * (h**2 + 2)))).item()
    draws = [metrics.mmd(normal(60, seed=i), normal(50, seed=1000 + i) + m, [h]) for i in range(300)]
    error = np.std(draws) / len(draws)**0.5
    assert abs(np.mean(draws) - expected) < 4 * error < 0.15 * expected
    same = [metrics.mmd(normal(60, seed=i), normal(50, seed=1000 + i)) for i in range(300)]
    assert abs(np.mean(same)) < 4 * np.std(same) / 300**0.5 and min(same) < 0


def test_mmd_checks_bandwidths():
    a = normal(10)
    for bandwidths in ([1., 0.], [-1.], [float("nan")]):
        with pytest.raises(ValueError, match="bandwidths"):
            metrics.mmd(a, a, bandwidths)
    with pytest.raises(ValueError, match="bandwidths"):
        metrics.mmd(torch.zeros(5, 2), torch.zeros(5, 2))


def test_energy_distance_is_scipys_in_one_dimension(monkeypatch):
    a, b = normal(80, 1), 1.4 * normal(53, 1, seed=1) + 0.2
    expected = scipy.stats.energy_distance(a[:, 0].numpy(), b[:, 0].numpy())
    assert metrics.energy_distance(a, b) == pytest.approx(expected, rel=1e-10)
    monkeypatch.setattr(metrics, "_CHUNK", 64)
    assert metrics.energy_distance(a, b) == pytest.approx(expected, rel=1e-10)
    assert metrics.energy_distance(a, a) == 0


def test_distances_in_high_dimension_agree_with_the_direct_ones():
    a, b = normal(30, 100) + 50, normal(40, 100, seed=1) + 50
    direct = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    assert torch.allclose(metrics._distances(a - 50, b - 50), direct, rtol=1e-10)


@pytest.mark.parametrize("d", [1, 5, 40])
def test_frechet_of_gaussians_in_closed_form(d):
    mean_a, mean_b = normal(2, d)
    a, b = covariance(d, 1), covariance(d, 2)
    root = scipy.linalg.sqrtm(a.numpy() @ b.numpy()).real
    expected = (mean_a - mean_b).square().sum().item() + (a.trace() + b.trace()).item() - 2 * np.trace(root)
    assert metrics.gaussian_frechet(mean_a, a, mean_b, b) == pytest.approx(expected, rel=1e-8)
    # commuting covariances: the sum of squared differences of standard deviations
    s, t = torch.rand(2, d, generator=g(), dtype=torch.float64)
    assert metrics.gaussian_frechet(mean_a, s.square().diag(), mean_a, t.square().diag()) == pytest.approx(
        (s - t).square().sum().item(), abs=1e-12)


def test_frechet_with_singular_covariances():
    a = normal(20, 64)  # rank 19 in 64 dimensions
    assert metrics.frechet_distance(a, a) < 1e-10
    assert metrics.frechet_distance(a, a.flip(0) + 0.5) == pytest.approx(64 / 4, rel=1e-10)
    assert metrics.frechet_distance(a, 3 * a) == pytest.approx(
        4 * metrics.Moments.of(a).covariance.trace().item() + 4 * a.mean(0).square().sum().item(), rel=1e-10)
    one = torch.zeros(5, 3)  # a point mass: all of the other's variance counts
    b = normal(50, 3, 1)
    assert metrics.frechet_distance(one, b) == pytest.approx(
        (b.mean(0).square().sum() + b.var(0).sum()).item(), rel=1e-10)


def test_moments_of_a_stream():
    x = normal(1000, 6) + 1e6  # where Σx² − n mean² has lost everything
    x[:, 1] += x[:, 0]
    for full in (True, False):
        total = metrics.Moments.of(x[:1], full)
        for part in x[1:].split([1, 2, 300, 696]):
            total = total + metrics.Moments.of(part, full)
        expected = torch.cov(x.T - 1e6)
        assert torch.allclose(total.covariance, expected if full else expected.diag(), rtol=1e-8, atol=1e-10)
        assert torch.allclose(total.mean, x.mean(0), rtol=1e-14) and total.count == 1000
    parts = metrics.Moments.of(x[:500]) + metrics.Moments.of(x[500:])
    assert metrics.frechet_distance(parts, x) < 1e-8
    with pytest.raises(ValueError, match="count"):
        _ = metrics.Moments.of(x[:1]).covariance
    with pytest.raises(ValueError, match="scatter"):
        _ = parts + metrics.Moments.of(x, full=False)
    with pytest.raises(ValueError, match="square"):
        metrics.frechet_distance(parts, metrics.Moments.of(x, full=False))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8])
def test_nearest_neighbours(dtype):
    points = torch.randint(256, (500, 3, 4, 4), generator=g(), dtype=torch.uint8).to(dtype)
    queries = points[:40].roll(1, 0).clone()
    queries[0, 0, 0, 0] += 1
    distances, indices = metrics.nearest_neighbours(queries, points, 3)
    exact = torch.cdist(queries.flatten(1).double(), points.flatten(1).double(), compute_mode="donot_use_mm_for_euclid_dist")
    expected = exact.topk(3, largest=False)
    assert torch.allclose(distances, expected.values, atol=1e-6) and torch.equal(indices, expected.indices)
    assert indices[1:, 0].tolist() == list(range(39)) and (distances[1:, 0] == 0).all()
    for bad in (0, 501):
        with pytest.raises(ValueError, match="k is"):
            metrics.nearest_neighbours(queries, points, bad)
    with pytest.raises(ValueError, match="numbers each"):
        metrics.nearest_neighbours(queries[:, :2], points)


def test_precision_and_recall():
    a, b = normal(1000), normal(1000, seed=1)
    assert metrics.precision_recall(a, a) == (1., 1.)
    assert metrics.precision_recall(a, b + 100) == (0., 0.)
    precision, recall = metrics.precision_recall(a, b)
    assert precision > 0.9 and recall > 0.9
    precision, recall = metrics.precision_recall(torch.cat([a, b + 100]), b)  # one mode of two dropped
    assert precision > 0.9 and recall == pytest.approx(0.5, abs=0.05)
    precision, recall = metrics.precision_recall(b, torch.cat([a, a + 100]))  # half of the samples off the data
    assert precision == pytest.approx(0.5, abs=0.05) and recall > 0.9
    with pytest.raises(ValueError, match="real has 3 points"):
        metrics.precision_recall(a[:3], a)


def test_jackknife_of_a_mean_is_the_error_of_a_mean():
    x = torch.randn(40, generator=g(3), dtype=torch.float64)
    values = metrics.jackknife(lambda keep: x[keep].mean().item(), 40, parts=40)
    assert values[0] == x.mean() and metrics.jackknife_error(values) == pytest.approx((x.std() / 40**0.5).item(), rel=1e-10)
    for parts in (1, 41):
        with pytest.raises(ValueError, match=f"parts is {parts}"):
            metrics.jackknife(lambda keep: 0.0, 40, parts)
