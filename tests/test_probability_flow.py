"""The probability-flow ODE in many dimensions: images' Gaussian, encoding, probes, and the committed numbers of the U-Net."""

import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch
from test_laws import gen, mixture, randn

import dpmlib as d
from dpmlib.data import cifar10_or_generated, to_unit

BIN = 2 / 255
BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "ode_likelihood.py"


def last(states):
    *_, x = states
    return x


class Pixels:
    """N(m, Σ) fitted to all training images, in the eigenbasis of Σ: coordinates are independent there, and calls are cheap."""

    def __init__(self):
        test = cifar10_or_generated("test", 64)
        self.generated, self.images = test.generated, test.images
        train = cifar10_or_generated("train", 4000 if test.generated else None).images.flatten(1)
        total, square = torch.zeros(3072, dtype=torch.float64), torch.zeros(3072, 3072, dtype=torch.float64)
        for some in train.split(1000):  # sums of 1000 products of at most 2¹⁴ are exact in float32
            z = some.float() - 128
            total += z.sum(0)
            for i in range(0, 3072, 1024):  # the blocks on and above the diagonal
                square[i:i + 1024, i:] += z[:, i:i + 1024].T @ z[:, i:]
        square = square.triu() + square.triu(1).T
        mean = total / len(train)
        covariance = square / len(train) - torch.outer(mean, mean)
        covariance.diagonal().add_(1 / 12)  # of the uniform noise
        values, self.basis = torch.linalg.eigh(covariance / 127.5**2)
        self.variances, self.mean = values, ((mean + 0.5) / 127.5) @ self.basis
        u = torch.rand(self.images.shape, generator=gen(1), dtype=torch.float64)
        self.y = d.dequantise(self.images, u).flatten(1) @ self.basis

    def marginal(self, level):
        return level.alpha**2 * self.variances + level.sigma**2

    def denoiser(self, y, level):
        v = self.variances / self.marginal(level)
        mean = self.mean + level.alpha * v * (y - level.alpha * self.mean)
        return d.Posterior(mean, level.sigma**2 * v, x=y, level=level)

    def log_prob(self, y, level):
        v = self.marginal(level)
        return -0.5 * ((y - level.alpha * self.mean) ** 2 / v + (2 * math.pi * v).log()).sum(1)


@pytest.fixture(scope="session")
def pixels():
    return Pixels()


def test_bits_of_a_gaussian_of_all_images(pixels, record_property):
    schedule, data = d.LinearVP(), d.Levels(*torch.tensor([0.0, 1.0, 0.0, torch.inf], dtype=torch.float64))
    closed = d.bits_per_dim(pixels.log_prob(pixels.y, data), 3072, BIN)
    top = schedule.level(1.0)
    options = dict(steps=40, t_end=1e-7, probes="posterior")
    exact, codes = d.ode_log_prob(pixels.denoiser, pixels.y, schedule, prior=lambda z: pixels.log_prob(z, top), **options)
    bits = d.bits_per_dim(exact, 3072, BIN)
    record_property("bits per dimension", closed.mean().item())
    assert (bits - closed).abs().max() < 0.005
    assert 4 < closed.mean() < 5.5 or pixels.generated
    standard, _ = d.ode_log_prob(pixels.denoiser, pixels.y, schedule, **options)
    log_n = torch.distributions.Normal(0, top.sigma).log_prob(codes).sum(1)
    gap = exact - standard
    assert (gap - (pixels.log_prob(codes, top) - log_n)).abs().max() < 1e-6  # the prior's, and nothing else
    assert gap.mean().abs() / (3072 * math.log(2)) < 1e-3


def test_images_come_back_from_their_codes(pixels, record_property):
    schedule = d.LinearVP()
    field, low = d.probability_flow(pixels.denoiser, schedule, "lam"), schedule.level(1e-5)
    knots = torch.linspace(*schedule.lam([1e-5, 1.0]).tolist(), 101, dtype=torch.float64)
    codes = last(d.runge_kutta(field, pixels.y[:16], knots))
    back = last(d.runge_kutta(field, codes, knots.flip(0)))
    rmse = (back - pixels.y[:16]).square().mean().sqrt().item()  # the basis is orthonormal: that of pixels
    record_property("rmse", rmse)
    assert rmse <= 1e-3
    top = schedule.level(1.0)
    scale = (pixels.marginal(top) / pixels.marginal(low)).sqrt()
    assert (codes - top.alpha * pixels.mean - scale * (pixels.y[:16] - low.alpha * pixels.mean)).abs().max() < 1e-3


def test_a_sign_probe_is_exact_where_the_jacobian_is_diagonal(pixels):
    schedule, y = d.LinearVP(), pixels.y[:4]
    options = dict(steps=10, t_end=1e-3)
    probed, _ = d.ode_log_prob(pixels.denoiser, y, schedule, probes=1, generator=gen(2), **options)
    known, _ = d.ode_log_prob(pixels.denoiser, y, schedule, probes="posterior", **options)
    assert (probed - known).abs().max() < 1e-4


def test_the_library_agrees_with_the_eigenbasis():
    """`Gaussian` in pixels and a diagonal one in the eigenbasis: one ODE."""
    images = torch.nn.functional.avg_pool2d(to_unit(cifar10_or_generated("test", 300).images, torch.float64), 8)
    g, schedule = d.Gaussian.fit(images, ridge=1e-4), d.LinearVP()
    rotated = d.Gaussian(g.means[0] @ g.bases[0], g.variances[0].diag())
    x = images[:3]
    options = dict(schedule=schedule, steps=10, probes="posterior")
    a, z = d.ode_log_prob(g.denoiser("diagonal"), x, **options)
    b, w = d.ode_log_prob(rotated.denoiser("diagonal"), x.flatten(1) @ g.bases[0], **options)
    assert (a - b).abs().max() < 1e-6 and (z.flatten(1) @ g.bases[0] - w).abs().max() < 1e-8


def test_variances_of_hutchinsons_estimator():
    """2(‖A‖² − Σ a_ii²) for signs, 2‖A‖² for normals, A the symmetric part of a Jacobian that is not symmetric."""
    J = randn(6, 6, seed=3)
    A, n = (J + J.T) / 2, 10_000
    x = torch.zeros(n, 6, dtype=torch.float64)
    field = lambda x, s: x @ J.T
    cases = {"signs": (d.rademacher(x, 1, gen(1)), 2 * (A.square().sum() - A.diagonal().square().sum())),
             "normals": (randn(1, n, 6, seed=2), 2 * A.square().sum())}
    for name, (probes, variance) in cases.items():
        values = d.divergence(field, x, None, probes)[1]
        assert (values.mean() - J.trace()).abs() < 3 * values.std() / n**0.5, name
        assert abs(values.var() / variance - 1) < 0.1, name
    assert cases["signs"][1] < cases["normals"][1]
    assert (d.divergence(field, x[:2], None)[1] - J.trace()).abs().max() < 1e-12


def test_the_posterior_variance_is_the_divergence():
    gm, schedule, x = mixture(), d.LinearVP(), randn(20, 2, seed=4)
    for t in (0.05, 0.3, 0.8):
        level = schedule.level(t)
        trace = d.divergence(lambda x, s: gm.denoiser()(x, level).eps, x, None)[1]
        var = gm.denoiser("diagonal")(x, level).var.sum(1)
        assert (trace - (2 - (level.alpha / level.sigma) ** 2 * var) / level.sigma).abs().max() < 1e-9


def test_ranks_are_conserved_on_a_line():
    gm = d.GaussianMixture([0.3, 0.7], [[-1.0], [0.8]], [[[0.05]], [[0.1]]])
    schedule, x = d.LinearVP(), torch.linspace(-2, 2, 20, dtype=torch.float64)[:, None]
    grid = d.levels(schedule, 200, "lam")

    def rank(x, level):
        scale = (level.alpha**2 * gm.covariances[:, 0, 0] + level.sigma**2).sqrt()
        return torch.special.ndtr((x - level.alpha * gm.means.T) / scale) @ gm.weights

    states = d.runge_kutta(d.probability_flow(gm.denoiser(), schedule, "lam"), x, grid.lam)
    assert max((rank(s, level) - rank(x, grid[0])).abs().max() for s, level in zip(states, grid[1:])) < 1e-5


def test_kl_of_two_starts_is_kept():
    """log q/p is constant along the ODE: two priors, one map."""
    gm, schedule = mixture(), d.LinearVP()
    x = gm.sample(10, gen())
    priors = [torch.distributions.Normal(m, torch.tensor(1.0, dtype=torch.float64)) for m in (0.0, 0.5)]
    values = [d.ode_log_prob(gm.denoiser("diagonal"), x, schedule, steps=50, probes="posterior",
                             prior=lambda z: p.log_prob(z).sum(1)) for p in priors]
    codes = values[0][1]
    apart = priors[0].log_prob(codes).sum(1) - priors[1].log_prob(codes).sum(1)
    assert (values[0][0] - values[1][0] - apart).abs().max() < 1e-9


def test_dequantise():
    images = torch.tensor([[0, 255, 128]], dtype=torch.uint8)
    middle = d.dequantise(images, torch.full((1, 3), 0.5, dtype=torch.float64))
    assert (middle - to_unit(images, torch.float64)).abs().max() < 1e-12
    edge = d.dequantise(images, torch.zeros(1, 3, dtype=torch.float64))
    assert torch.allclose(middle - edge, torch.full_like(edge, BIN / 2))


@pytest.mark.parametrize("call, words", [
    (lambda: d.dequantise(torch.ones(1, 3), torch.zeros(1, 3)), "uint8"),
    (lambda: d.dequantise(torch.ones(1, 3, dtype=torch.uint8), torch.zeros(1, 2)), "one number per pixel"),
    (lambda: d.dequantise(torch.ones(1, 3, dtype=torch.uint8), torch.ones(1, 3)), r"\[0, 1\)"),
    (lambda: d.ode_log_prob(None, randn(2, 2), d.LinearVP(), probes=randn(1, 3, 2)), "probes of shape"),
    (lambda: d.ode_log_prob(None, randn(2, 2), d.LinearVP(), probes=torch.ones(0, 2, 2)), "probes of shape"),
    (lambda: d.ode_log_prob(None, randn(2, 2), d.LinearVP(), probes=-1), "probes"),
    (lambda: d.ode_log_prob(None, randn(2, 2), d.LinearVP(), probes="few"), "probes"),
    (lambda: d.ode_log_prob(None, randn(2, 2), d.LinearVP(), steps=0), "steps"),
    (lambda: d.ode_log_prob(None, randn(2, 2), d.LinearVP(), clock="log"), "clock"),
])
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("clock", ["t", "lam"])
def test_a_network_that_fails_is_named_with_step_and_level(clock):
    schedule = d.LinearVP()
    fails = d.Denoiser(lambda x, t: x * (float("nan") if t[0] < 0.5 else 0.1), schedule)
    ends = (1.0, 0.1) if clock == "t" else schedule.lam([1.0, 0.1]).tolist()
    with pytest.raises(FloatingPointError, match=r"step \d+, t = 0\.\d+, λ = "):
        last(d.runge_kutta(d.probability_flow(fails, schedule, clock), randn(2, 2), torch.linspace(*ends, 11)))
    with pytest.raises(FloatingPointError, match=r"step \d+, t = 0\.\d+, λ = "):
        d.ode_log_prob(fails, randn(2, 2), schedule, steps=5, clock=clock)
    wrong = d.Denoiser(lambda x, t: x[:, :1], schedule)
    with pytest.raises(ValueError, match="shape"):
        d.ode_log_prob(wrong, randn(2, 2), schedule, steps=5, clock=clock)


def test_the_committed_bits_of_the_unet_come_out_again(record_property):
    saved = json.loads((Path(d.__file__).parent / "weights" / "cifar10_ode.json").read_text())
    assert {"command", "commit", "device", "seed", "steps", "probes", "images", "standard_error"} <= saved.keys()
    bits = torch.tensor(saved["bits_per_dim"], dtype=torch.float64)
    assert bits.shape == (saved["images"], len(saved["columns"]))
    assert torch.allclose(bits.mean(0), torch.tensor(saved["mean"], dtype=torch.float64), atol=1e-3)
    assert torch.allclose(bits.std(0) / len(bits) ** 0.5, torch.tensor(saved["standard_error"], dtype=torch.float64), atol=1e-3)
    test = cifar10_or_generated("test", 1)
    if test.generated:
        pytest.skip("CIFAR-10 is not on this machine")
    spec = importlib.util.spec_from_file_location("ode_likelihood", BENCHMARK)
    command = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(command)
    unet = d.pretrained("cifar10")
    again = command.bits_of(unet, test.images[:1], [0], saved["last_variance"], command.chains(unet.schedule, d.statistics.load()),
                            saved["steps"], saved["order"], seed=saved["seed"])[0]
    record_property("bits per dimension", again[0])
    assert max(abs(a - b) for a, b in zip(again, saved["bits_per_dim"][0])) < 2e-3


def test_ode_and_bounds_agree_in_the_order_of_images_and_what_they_differ_by(record_property):
    """Paired. What the chain's steps cost more than the SDE is gone when they are even in λ; then the ODE agrees to 0.1 bits."""
    saved = json.loads((Path(d.__file__).parent / "weights" / "cifar10_ode.json").read_text())
    bits = torch.tensor(saved["bits_per_dim"], dtype=torch.float64)
    assert saved["images"] == len(bits) >= 512
    by = dict(zip(saved["columns"], bits.T))
    order = torch.corrcoef(bits.argsort(0).argsort(0).double().T)
    ode, chain = (saved["columns"].index(name) for name in ("gaussian", "elbo"))
    record_property("rank correlation of ODE and chain", order[ode, chain].item())
    assert order.min() > 0.95
    means = {}
    for a, b in (("gaussian", "sde"), ("sde", "elbo"), ("gaussian", "elbo"), ("sde", "elbo_lam"), ("gaussian", "elbo_lam"),
                 ("uniform", "gaussian")):
        apart = by[a] - by[b]
        means[a, b], error = apart.mean().item(), (apart.std() / len(apart) ** 0.5).item()
        record_property(f"{a} - {b}, bits per dimension", means[a, b])
        record_property(f"{a} - {b}, standard error", error)
        assert error < 0.01
    assert abs(means["gaussian", "elbo_lam"]) < 0.1 < abs(means["gaussian", "elbo"]) < 0.2
    assert abs(means["sde", "elbo_lam"]) < 0.02 < -means["sde", "elbo"]
