"""The four score-matching objectives against each other and against scores that are known, in float64."""

import itertools
import math

import pytest
import torch
from test_laws import gen, mixture, randn

import dpmlib as d
from dpmlib import losses
from dpmlib.score_matching import gaussian_probes

LEVEL = d.LinearVP().level(0.3)


def tilted(gm, level, theta):
    """A family that is no gradient field and does not hold the truth: s = (1 + θ0) ∇log q + θ1 x + θ2 tanh(x) + (θ3, θ4)."""
    def score(x):
        own = gm.denoiser()(x, level).score
        return (1 + theta[0]) * own + theta[1] * x + theta[2] * torch.tanh(x.flip(1)) + theta[3:]

    return score


def objectives(gm, level, score, n, seed):
    """One value per sample of each objective, all at the same n draws of x_t."""
    x0, noise = gm.sample(n, gen(seed)), randn(n, 2, seed=seed + 10_000)
    x = d.diffuse(x0, level, noise)
    with torch.no_grad():
        truth = gm.denoiser()(x, level).score
    g = gen(seed + 20_000)
    return {
        "explicit": losses.explicit_score_matching(score, x, truth),
        "implicit": losses.implicit_score_matching(score, x),
        "sliced": losses.sliced_score_matching(score, x, g),
        "sliced, not reduced": losses.sliced_score_matching(score, x, g, probes=2, reduced=False),
        "sliced, normal": losses.sliced_score_matching(score, x, g, draw=gaussian_probes),
        "denoising": losses.denoising_score_matching(score, x0, level, noise),
    }


def test_gradients_agree_in_expectation(record_property):
    """Every pair within three standard errors: |mean difference| as a vector against the root of the summed variances."""
    gm, theta = mixture(), torch.tensor([0.3, -0.2, 0.4, 0.1, -0.3], dtype=torch.float64, requires_grad=True)
    rows = {}
    for batch in range(100):
        for name, value in objectives(gm, LEVEL, tilted(gm, LEVEL, theta), 500, batch).items():
            rows.setdefault(name, []).append(torch.autograd.grad(value.mean(), theta, retain_graph=True)[0])
    rows = {name: torch.stack(r) for name, r in rows.items()}
    size = rows["explicit"].mean(0).norm()
    worst = 0.0
    for a, b in itertools.combinations(rows, 2):
        difference = rows[a] - rows[b]
        error = (difference.var(0).sum() / len(difference)).sqrt()
        z = (difference.mean(0).norm() / error).item()
        worst = max(worst, z)
        assert z < 3, (a, b, z)
        assert error < 0.15 * size, "the test would not see a difference"
    record_property("worst_z", worst)


def test_they_differ_by_the_known_constants():
    """implicit = explicit − J/2 and denoising = explicit + (d/σ² − J)/2, J = E‖∇log q‖² the Fisher information."""
    gm, n = mixture(), 200_000
    x0, noise = gm.sample(n, gen(1)), randn(n, 2, seed=2)
    x = d.diffuse(x0, LEVEL, noise)
    truth = gm.denoiser()(x, LEVEL).score
    score = lambda x: torch.tanh(x) - 0.5 * x  # noqa: E731
    explicit, half = losses.explicit_score_matching(score, x, truth), 0.5 * truth.square().sum(1)
    implicit = losses.implicit_score_matching(score, x)
    denoising = losses.denoising_score_matching(score, x0, LEVEL, noise)
    for gap in (explicit - half - implicit, explicit + 1 / LEVEL.sigma**2 - half - denoising):
        assert abs(gap.mean()) < 3 * gap.std() / math.sqrt(n)
        assert 3 * gap.std() / math.sqrt(n) < 0.1 * half.mean()


# Families for which the loss is a parabola: its minimum in closed form. Gauss–Hermite points make expectations exact.

def hermite(dims, n=4):
    import numpy as np
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    grid = torch.tensor(list(itertools.product(nodes, repeat=dims)))
    w = torch.tensor([math.prod(t) for t in itertools.product(weights / weights.sum(), repeat=dims)])
    return grid, w


def parabola_minimum(loss, size):
    at = torch.zeros(size, dtype=torch.float64)
    gradient = torch.autograd.functional.jacobian(loss, at)
    hessian = torch.autograd.functional.hessian(loss, at)
    return torch.linalg.solve(hessian, -gradient)


def affine(theta):
    return lambda x: x @ theta[:4].reshape(2, 2).T + theta[4:]


def all_signs(x, count, generator):
    return torch.tensor(list(itertools.product((-1.0, 1.0), repeat=2))).to(x)[:, None].expand(-1, *x.shape)


@pytest.mark.parametrize("which", ["explicit", "implicit", "sliced", "sliced, not reduced", "denoising"])
def test_a_gaussian_is_recovered_to_rounding(which):
    """argmin over all affine s is −C⁻¹(x − m), and −(α² C + σ² I)⁻¹(x − α m) for denoising."""
    mean = torch.tensor([0.7, -0.4], dtype=torch.float64)
    cov = torch.tensor([[1.3, 0.5], [0.5, 0.4]], dtype=torch.float64)
    nodes, w = hermite(4)  # (x_0, ε), exact for polynomials of degree 7
    x, noise = mean + nodes[:, :2] @ torch.linalg.cholesky(cov).T, nodes[:, 2:]
    precision = torch.linalg.inv(cov)
    calls = {
        "explicit": lambda s: losses.explicit_score_matching(s, x, -(x - mean) @ precision),
        "implicit": lambda s: losses.implicit_score_matching(s, x),
        "sliced": lambda s: losses.sliced_score_matching(s, x, gen(), draw=all_signs),
        "sliced, not reduced": lambda s: losses.sliced_score_matching(s, x, gen(), reduced=False, draw=all_signs),
        "denoising": lambda s: losses.denoising_score_matching(s, x, LEVEL, noise),
    }
    theta = parabola_minimum(lambda theta: w @ calls[which](affine(theta)), 6)
    if which == "denoising":
        precision = torch.linalg.inv(LEVEL.alpha**2 * cov + LEVEL.sigma**2 * torch.eye(2, dtype=torch.float64))
        mean = LEVEL.alpha * mean
    assert (theta[:4].reshape(2, 2) + precision).abs().max() < 1e-9
    assert (theta[4:] - precision @ mean).abs().max() < 1e-9


def features(seed=0, n=300):
    """∇ of n bumps at random places: a family linear in its parameters, (B, 2, n) at x."""
    centres, width = 2.5 * randn(n, 2, seed=seed), 0.8

    def phi(x):
        apart = x[:, None] - centres
        bump = torch.exp(-0.5 * apart.square().sum(2) / width**2)
        return torch.cat([(bump[..., None] * apart).mT, x[:, :, None]], dim=2)

    return phi, n + 1


@pytest.mark.parametrize("which, allowed", [("implicit", 0.05), ("sliced", 0.05), ("denoising", 0.05)])
def test_a_mixture_is_recovered(which, allowed, record_property):
    """From samples alone, within 5 % of E‖s − ∇log q‖² / E‖∇log q‖², measured where q_t has mass: on fresh draws of it."""
    gm, n = mixture(), 8_000
    level = d.VE(0.01, 10.0).level(d.VE(0.01, 10.0).t_of_lam(math.log(1 / 0.35)))
    x0, noise = gm.sample(n, gen(1)), randn(n, 2, seed=2)
    x, (phi, size) = d.diffuse(x0, level, noise), features()
    calls = {
        "implicit": lambda s: losses.implicit_score_matching(s, x),
        "sliced": lambda s: losses.sliced_score_matching(s, x, gen(3), probes=2),
        "denoising": lambda s: losses.denoising_score_matching(s, x0, level, noise),
    }

    def slope(theta):
        return torch.autograd.grad(calls[which](lambda x: phi(x) @ theta).mean(), theta)[0]

    theta = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    at = phi(x)
    ridge = 1e-4 * torch.eye(size, dtype=torch.float64)
    fitted = torch.linalg.solve(torch.einsum("bdp,bdq->pq", at, at) / n + ridge, -slope(theta)).requires_grad_()
    assert (slope(fitted) + ridge @ fitted).abs().max() < 1e-8  # it is the minimum
    fresh = d.diffuse(gm.sample(5_000, gen(4)), level, randn(5_000, 2, seed=5))
    truth = gm.denoiser()(fresh, level).score
    error = ((phi(fresh) @ fitted - truth).square().sum() / truth.square().sum()).item()
    record_property("relative_error", error)
    assert error < allowed, error


def test_on_a_finite_set_denoising_has_the_smoothed_score_and_implicit_has_no_minimum():
    points = randn(6, 2)
    level = d.VE(0.01, 10.0).level(0.5)
    oracle = d.Empirical(points).denoiser()
    x0, noise = points.repeat(20_000, 1), randn(120_000, 2, seed=1)
    best = losses.denoising_score_matching(lambda x: oracle(x, level).score, x0, level, noise)
    for bend in (torch.tanh, torch.cos, lambda x: 0.3 * x.flip(1)):
        for size in (0.2, -0.2):
            worse = losses.denoising_score_matching(lambda x: oracle(x, level).score + size * bend(x), x0, level, noise) - best
            cost = 0.5 * (size * bend(d.diffuse(x0, level, noise))).square().sum(1)  # exactly, in the mean
            assert abs((worse - cost).mean()) < 3 * (worse - cost).std() / math.sqrt(len(worse))

    def steep(k):  # zero at each point and falling at rate k through it
        nearest = lambda x: points[torch.cdist(x.detach(), points).argmin(1)]  # noqa: E731
        return lambda x: -k * (x - nearest(x))

    assert [losses.implicit_score_matching(steep(k), points).mean().item() for k in (1, 10, 1000)] == [-2, -20, -2000]


def test_denoising_is_the_denoising_loss_in_another_unit():
    x0, noise, level = randn(50, 3, seed=1), randn(50, 3, seed=2), d.LinearVP().level(torch.linspace(0.1, 0.9, 50))
    denoiser = d.Denoiser(lambda x, t: torch.sin(x) * t[:, None], d.LinearVP(), "eps")
    ours = losses.denoising_score_matching(lambda x: denoiser(x, level).score, x0, level, noise)
    assert (ours - losses.denoising_loss(denoiser, x0, level, noise) * 3 / (2 * level.sigma**2)).abs().max() < 1e-10


@pytest.mark.parametrize("draw, law", [(d.rademacher, 0), (gaussian_probes, 1)])
def test_variance_of_the_slices(draw, law):
    """Of vᵀAv, A symmetric: 2(‖A‖² − Σ A_ii²) with signs, 2‖A‖² with normal probes; K probes divide it by K."""
    A = randn(5, 5)
    A = A + A.T
    expected = 2 * (A.square().sum() - (1 - law) * A.diagonal().square().sum())
    x = torch.zeros(40_000, 5, dtype=torch.float64)
    for probes in (1, 4):
        with torch.no_grad():
            value = losses.sliced_score_matching(lambda x: x @ A, x, gen(1), probes=probes, draw=draw)
        assert not value.requires_grad
        assert abs(value.mean() - A.trace()) < 4 * value.std() / 200
        assert value.var() == pytest.approx(float(expected) / probes, rel=0.06)


def test_images_dtypes_and_constant_scores():
    x = torch.randn(3, 2, 4, 4, generator=gen())
    assert losses.implicit_score_matching(lambda x: -x, x).dtype == torch.float32
    assert torch.allclose(losses.implicit_score_matching(lambda x: -x, x), -32 + 0.5 * x.square().flatten(1).sum(1), atol=1e-4)
    constant = torch.nn.Parameter(torch.ones(2, 4, 4))
    for loss in (losses.implicit_score_matching(lambda x: constant.expand_as(x), x),
                 losses.sliced_score_matching(lambda x: constant.expand_as(x), x, gen())):
        assert torch.allclose(loss, torch.full((3,), 16.0))
        assert torch.allclose(torch.autograd.grad(loss.mean(), constant)[0], torch.ones(2, 4, 4))


X = randn(4, 2)
NAN = X.clone()
NAN[1, 0] = math.nan
ALL = {
    "explicit": lambda s, x: losses.explicit_score_matching(s, x, torch.zeros_like(x)),
    "implicit": losses.implicit_score_matching,
    "sliced": lambda s, x: losses.sliced_score_matching(s, x, gen()),
    "denoising": lambda s, x: losses.denoising_score_matching(s, x, LEVEL, torch.zeros_like(x)),
}


@pytest.mark.parametrize("loss", ALL.values(), ids=ALL)
def test_bad_scores_and_data(loss):
    with pytest.raises(ValueError, match=r"score returned shape \(4, 1\) for x of shape \(4, 2\)"):
        loss(lambda x: x[:, :1], X)
    with pytest.raises(FloatingPointError, match="1 of 4 samples is not finite"):
        loss(lambda x: x + NAN - X, X)
    for bad in (NAN, X.long(), X[:, 0]):
        with pytest.raises(ValueError, match="finite floating-point tensor"):
            loss(lambda x: x, bad)


@pytest.mark.parametrize("call, error, names", [
    (lambda: losses.sliced_score_matching(lambda x: x, X, gen(), probes=0), ValueError, "probes = 0"),
    (lambda: gaussian_probes(X, 0, gen()), ValueError, "count = 0"),
    (lambda: losses.sliced_score_matching(lambda x: x, X, None), ValueError, "generator"),
    (lambda: losses.explicit_score_matching(lambda x: x, X, X[:2]), ValueError, "true_score"),
    (lambda: losses.denoising_score_matching(lambda x: x, X, d.levels(d.LinearVP(), 2, to_zero=True)[-1], X), ValueError, "σ > 0"),
    (lambda: losses.denoising_score_matching(lambda x: x, X, LEVEL, X[:2]), ValueError, "noise"),
])
def test_bad_arguments(call, error, names):
    with pytest.raises(error, match=names):
        call()
