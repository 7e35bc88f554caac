"""Weights of the denoising loss: against closed forms, finite differences and the bound itself."""

import math

import pytest
import torch

import dpmlib as d
from dpmlib.losses import denoising_loss, edm, elbo_weight, error_of, lam_rate, min_snr, random_level

SCHEDULES = [d.LinearVP(), d.CosineVP(), d.VE(0.01, 50.0), d.Flow(), d.DiscreteVP.linear(1000)]


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=gen(seed), dtype=torch.float64)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("predicts", list(d.PREDICTIONS))
def test_error_of_is_the_error_of_the_output(schedule, predicts):
    x0, eps, wrong = randn(32, 3), randn(32, 3, seed=1), randn(32, 3, seed=2)
    level = schedule.level(torch.linspace(0.02, 0.98, 32, dtype=torch.float64) * schedule.t_max)
    truth = d.target(x0, eps, level, predicts)
    got = denoising_loss(d.Denoiser(lambda x, t: truth + wrong, schedule, predicts), x0, level, eps, error_of(predicts))
    assert torch.allclose(got, wrong.square().mean(1), rtol=1e-8)


def test_weights_in_closed_form():
    level = d.LinearVP().level(torch.linspace(0.01, 1, 50, dtype=torch.float64))
    snr = (level.alpha / level.sigma) ** 2
    assert torch.allclose(min_snr(5.0)(level), snr.clamp(max=5) / snr)
    assert torch.allclose(edm(1.0)(level), error_of("v")(level))  # EDM's, with unit variance, is v-prediction's
    # the best linear denoiser of N(0, s² I) has the error s²σ²/(α²s² + σ²) in x_0
    for s in (0.5, 2.0):
        error = s**2 * level.sigma**2 / (level.alpha**2 * s**2 + level.sigma**2)
        assert torch.allclose(edm(s)(level) * snr * error, torch.ones(50, dtype=torch.float64))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_lam_rate_against_differences(schedule):
    t = torch.tensor([0.1, 0.37, 0.9], dtype=torch.float64) * schedule.t_max + 1e-4  # off the knots of the chain
    h = 1e-6
    assert torch.allclose(lam_rate(schedule, t), (schedule.lam(t + h) - schedule.lam(t - h)) / (2 * h), rtol=1e-6)
    assert lam_rate(schedule, t[0]).shape == () and bool((lam_rate(schedule, t) < 0).all())
    with torch.no_grad():
        assert not elbo_weight(schedule)(schedule.level(t)).requires_grad


def test_elbo_weight_is_the_bound():
    """Gaussian data: the mean over t of w E‖ε − ε̂‖² is ½ Σ log(1 + v snr) between the ends, and what `elbo` tends to."""
    v = torch.tensor([2.0, 0.3], dtype=torch.float64)
    for schedule in (d.LinearVP(), d.CosineVP(), d.VE(0.01, 50.0)):
        n = 20_000
        t = schedule.t_end + (schedule.t_max - schedule.t_end) * (torch.arange(n) + 0.5).double() / n
        level = schedule.level(t)
        snr = (2 * level.lam).exp()[:, None]
        error = (snr * v / (1 + snr * v)).sum(1)  # E‖ε − ε̂‖²
        high, low = (2 * schedule.lam(schedule.t_end)).exp(), (2 * schedule.lam(schedule.t_max)).exp()
        exact = 0.5 * ((1 + v * high).log() - (1 + v * low).log()).sum()
        assert (elbo_weight(schedule)(level) * error).mean() == pytest.approx(exact.item(), rel=1e-4)
    oracle, grid = d.Gaussian(torch.zeros(2), torch.diag(v)), d.levels(d.LinearVP(), 400, "lam", to_zero=True)
    steps = d.elbo(oracle.denoiser(), oracle.sample(2000, gen()), grid, variance=0.0, last_variance=1.0, generator=gen(1)).steps.sum(0)
    snr = (2 * grid.lam[:-1]).exp()[:, None]
    riemann = 0.5 * (snr.diff(dim=0) * (v / (1 + snr * v))[:-1]).sum()  # the integral's sum from the noisy ends
    exact = 0.5 * ((1 + v * snr[-1]).log() - (1 + v * snr[0]).log()).sum()
    assert abs(steps.mean() - riemann) < 4 * steps.std() / math.sqrt(2000)
    assert 0 < riemann - exact < 0.2


def test_elbo_weight_of_a_chain():
    chain = d.DiscreteVP.linear(1000)
    grid = d.levels(chain, 999)  # n = 1000 … 1
    own = 1000 * 0.5 * torch.expm1(2 * (grid.lam[1:] - grid.lam[:-1]))  # N ½ (SNR_{n−1}/SNR_n − 1)
    got = elbo_weight(chain)(grid[:-1]) * 1000 / 999
    assert (got / own - 1).abs()[:900].max() < 0.02


def test_random_level_from_a_density_of_lam():
    n = 4000
    for schedule in SCHEDULES:
        lam = random_level(schedule, n, gen(), lambda u: -2 + 4 * u).lam
        assert (lam.sort().values - (-2 + 4 * (torch.arange(n) + 0.5) / n)).abs().max() < 4.1 / n
    edm_like = random_level(d.Flow(), n, gen(), lambda u: 1.2 + 1.2 * torch.special.ndtri(u)).lam
    assert edm_like.mean() == pytest.approx(1.2, abs=0.01) and edm_like.std() == pytest.approx(1.2, abs=0.01)
    cut = random_level(d.LinearVP(), n, gen(), lambda u: 20 * torch.special.ndtri(u))
    assert bool(((cut.t >= 1e-3) & (cut.t <= 1)).all())
    assert torch.equal(random_level(d.LinearVP(), 8, gen(3)).t, random_level(d.LinearVP(), 8, gen(3)).t)


@pytest.mark.parametrize("call, named", [
    (lambda: error_of("noise"), "noise"), (lambda: min_snr(0.0), "cap"), (lambda: edm(-1.0), "data_std"),
    (lambda: random_level(d.Flow(), 0, gen()), "n = 0")])
def test_bad_input(call, named):
    with pytest.raises(ValueError, match=named):
        call()
