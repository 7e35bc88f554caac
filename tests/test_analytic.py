"""Γ of the images' Gaussian, and the bound put together from the committed errors of the network."""

import json
import math

import pytest
import torch

import dpmlib as d
from dpmlib import statistics
from dpmlib.data import cifar10_or_generated, to_unit
from dpmlib.trajectory import even, grid_of

CHAIN = d.DiscreteVP.linear(1000)


@pytest.fixture(scope="module")
def pixels():
    """A Gaussian of grey images, 16 × 16: d = 256."""
    images = to_unit(cifar10_or_generated("train", 2000).images).mean(1, keepdim=True).double()
    return torch.nn.functional.avg_pool2d(images, 2)


@pytest.fixture(scope="module")
def images():
    """Four test images with the noise of the command, or generated ones in their place."""
    x0 = cifar10_or_generated("test", 4)
    if x0.generated:
        x = to_unit(x0.images)
        return x, torch.randn(x.shape, generator=torch.Generator().manual_seed(1)), True
    x, noise = statistics.images("test", statistics.IMAGES)
    return x[:4], noise[:4], False


def test_gamma_of_the_images_gaussian_at_all_levels(pixels, record_property):
    """Closed form (1/d) Σ 1/(α² ℓ + σ²) at 1000 levels; Monte Carlo over the images within 3 standard errors of it, where sampled."""
    gauss = d.Gaussian.fit(pixels, ridge=1e-6)
    grid = grid_of(even(1000, 1000), CHAIN)
    t = grid[:-1]
    exact = (1 / (t.alpha[:, None] ** 2 * gauss.variances + t.sigma[:, None] ** 2)).mean(1)
    c = d.posterior_variance(exact, grid, most=math.inf)
    assert ((c > 0) & (c < gauss.variances.mean() + 1e-9)).all() and (c.diff() < 0).all()  # more is known the nearer the data
    few = even(1000, 12)
    found = d.gamma(gauss.denoiser(), pixels, grid_of(few, CHAIN), torch.Generator().manual_seed(0), batch=2000)
    z = (found.value - exact[1000 - torch.tensor(few).flip(0)]) / found.stderr
    record_property("largest z", z.abs().max().item())
    assert z.abs().max() < 3


def test_the_table_puts_the_bound_together(images):
    """For every choice of c, on the same images and noise, the sum of `step_terms` is that of `elbo`."""
    unet, (x0, noise, _) = d.pretrained(), images
    path = even(1000, 6)
    grid = grid_of(path, CHAIN)
    size, error = statistics.mean_squares(unet, x0, noise, grid[:-1])
    table = size.mean(1) / grid.sigma[:-1] ** 2
    for c in (torch.zeros(6, dtype=torch.float64), d.n0i_variance(grid), d.posterior_variance(table, grid)):
        found = d.elbo(unet, x0, grid, variance=c, last_variance=1e-4, bins=256, noise=noise)
        mine = statistics.step_terms(error, grid, c) * x0[0].numel()
        assert (mine / found.steps - 1).abs().max() < 1e-3


def test_step_terms_against_elbo_in_float64():
    """On an oracle there is no rounding to hide behind; η = ½, too."""
    oracle = d.Gaussian(torch.zeros(3), torch.diag(torch.tensor([0.2, 1.0, 2.0], dtype=torch.float64)))
    g = torch.Generator().manual_seed(0)
    x0 = oracle.sample(50, g)
    noise = torch.randn(x0.shape, generator=g, dtype=torch.float64)
    grid = grid_of(even(1000, 20), CHAIN)
    _, error = statistics.mean_squares(oracle.denoiser(), x0, noise, grid[:-1], batch=7)
    for eta in (0.5, 1.0):
        c = d.n0i_variance(grid) / 3
        found = d.elbo(oracle.denoiser(), x0, grid, eta, c, noise=noise).steps / 3
        assert (statistics.step_terms(error, grid, c, eta) - found).abs().max() < 1e-9


def test_the_committed_errors_come_out_again(images):
    unet, (x0, noise, generated) = d.pretrained(), images
    stats = statistics.load()
    assert stats.error.shape == stats.size.shape == (len(stats.steps), statistics.IMAGES)
    assert set(even(1000, 10)) | set(even(1000, 25)) <= set(stats.steps.int().tolist())
    if generated:
        pytest.skip("the committed errors are those of CIFAR-10 images")
    for n in (1, 112, 667):
        i = int((stats.steps == n).nonzero())
        _, error = statistics.mean_squares(unet, x0, noise, CHAIN.level(torch.tensor([n / 1000], dtype=torch.float64)))
        assert (error[0] / stats.error[i, :4] - 1).abs().max() < 2e-3


def test_between_measured_levels():
    """Interpolation is exact where measured, and off by little elsewhere: each level left out is foretold by its neighbours."""
    stats = statistics.load()
    assert torch.equal(stats.at(stats.error, stats.steps), stats.error)
    thin = statistics.Statistics(stats.steps[::2], *(None,) * 6)
    foretold = thin.at(stats.error[::2].mean(1), stats.steps[1:-1])
    inner = stats.steps[1:-1] > 8  # measured one by one below
    assert (foretold / stats.error[1:-1].mean(1) - 1)[inner].abs().max() < 0.05


def test_published_numbers_are_the_papers():
    table = json.loads((statistics.WEIGHTS / "analytic_published.json").read_text())
    assert "Bao" in table["source"] and table["steps"] == [10, 25, 50, 100, 200, 400, 1000]
    assert all(len(row) == 7 for row in table["bits_per_dim"].values())
    assert table["bits_per_dim"]["Analytic-DDPM"][0] == 5.47


@pytest.mark.parametrize("call, words", [
    (lambda: statistics.mean_squares(None, torch.ones(2, 1), torch.ones(2, 1), d.levels(CHAIN, 2, to_zero=True)), "σ"),
    (lambda: statistics.mean_squares(None, torch.ones(2, 1), torch.ones(2, 1), d.levels(CHAIN, 2), batch=0), "batch"),
    (lambda: statistics.step_terms(torch.ones(3), grid_of(even(1000, 4), CHAIN), torch.ones(4)), "errors"),
    (lambda: statistics.load().at(statistics.load().error, [0.5]), "steps"),
])
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
