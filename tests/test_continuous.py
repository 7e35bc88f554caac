"""SDEs, the probability-flow ODE and its likelihood against closed form, in float64."""

import math
from functools import partial

import pytest
import torch
from test_laws import gen, mixture, randn

import dpmlib as d
from dpmlib.metrics import energy_distance

SCHEDULES = [d.LinearVP(), d.CosineVP(), d.VE(0.02, 5.0), d.SubVP(), d.Flow()]


def last(states):
    *_, x = states
    return x


def fresh(gm, level, n, seed):
    return d.diffuse(gm.sample(n, gen(seed)), level, randn(n, 2, seed=seed + 100))


def alike(a, b, trials=8, seed=0):
    """Is the energy distance of a and b within four times the mean over random re-splits of their union?

    Under chance it behaves like |z|, mostly the difference of one mean: four times the mean of |z| are 3.2 standard errors.
    """
    both, g = torch.cat([a, b]), gen(seed)
    shuffles = [both[torch.randperm(len(both), generator=g)] for _ in range(trials)]
    chance = sum(energy_distance(mixed[: len(a)], mixed[len(a):]) for mixed in shuffles) / trials
    return energy_distance(a, b) < 4 * chance


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_drift_and_diffusion_reproduce_the_path(schedule):
    """d log α/dt = f and dσ²/dt = 2 f σ² + g², by central differences."""
    t, h = torch.linspace(0.05, 0.9, 40, dtype=torch.float64) * schedule.t_max, 1e-5
    f, g2 = d.drift_diffusion(schedule, t)
    log_alpha = (schedule.log_alpha(t + h) - schedule.log_alpha(t - h)) / (2 * h)
    var = (schedule.sigma(t + h) ** 2 - schedule.sigma(t - h) ** 2) / (2 * h)
    assert (f - log_alpha).abs().max() < 1e-7
    assert (2 * f * schedule.sigma(t) ** 2 + g2 - var).abs().max() < 1e-6 * max(1, var.abs().max())
    assert (g2 > 0).all()


def test_linear_vp_is_the_sde_of_the_paper():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)[1:]
    beta = 0.1 + t * 19.9
    f, g2 = d.drift_diffusion(d.LinearVP(), t)
    assert (f + beta / 2).abs().max() < 1e-12 and (g2 - beta).abs().max() < 1e-9
    f, g2 = d.drift_diffusion(d.SubVP(), t)
    assert (f + beta / 2).abs().max() < 1e-12
    assert (g2 - beta * (1 - (-2 * (0.1 * t + 9.95 * t**2)).exp())).abs().max() < 1e-9


@pytest.mark.parametrize("schedule", [d.LinearVP(), d.VE(0.02, 5.0), d.SubVP()], ids=repr)
def test_forward_sde_has_the_marginals(schedule):
    gm, n = mixture(), 1000
    times = torch.linspace(1e-3, schedule.t_max, 1001, dtype=torch.float64)
    start = fresh(gm, schedule.level(1e-3), n, 1)
    for i, x in enumerate(d.forward_sde(start, schedule, times, gen(2))):
        if (i + 1) % 100 == 0:  # ten times
            assert alike(x, fresh(gm, schedule.level(times[i + 1]), n, 3 + i)), float(times[i + 1])


@pytest.mark.parametrize("schedule", [d.LinearVP(), d.VE(0.02, 5.0), d.SubVP()], ids=repr)
def test_reversed_from_the_exact_end_gives_the_data(schedule):
    gm, n = mixture(), 1000
    grid = d.levels(schedule, 400, "lam", t_end=2e-3 if schedule.t_end else 0.0)
    start, truth = fresh(gm, grid[0], n, 1), fresh(gm, grid[-1], n, 2)
    f = gm.denoiser()
    ways = {
        "euler_maruyama": d.euler_maruyama(f, start, grid, schedule, generator=gen(3)),
        "half the noise": d.euler_maruyama(f, start, grid, schedule, zeta=0.5, generator=gen(3)),
        "reverse_diffusion": d.reverse_diffusion(f, start, grid, gen(3)),
        "predictor_corrector": d.predictor_corrector(f, start, grid, partial(d.reverse_diffusion, generator=gen(3)), snr=0.05,
                                                     generator=gen(4)),
        "ode": d.runge_kutta(d.probability_flow(f, schedule, "lam"), start, grid.lam[::10], 4),
    }
    for name, states in ways.items():
        assert alike(last(states), truth), name


def test_weak_order_of_euler_maruyama_is_one():
    """For a Gaussian the variance of the Euler–Maruyama chain obeys a recursion without noise: its error is exact."""
    schedule, v0 = d.LinearVP(), 0.25
    g = d.Gaussian(torch.zeros(1), torch.tensor([[v0]]))
    errors = []
    for n in (200, 400, 800, 1600):
        grid = d.levels(schedule, n, t_end=1e-2)
        f, g2 = d.drift_diffusion(schedule, grid.t[:-1])
        var = grid.alpha[0] ** 2 * v0 + grid.sigma[0] ** 2
        unit = torch.ones(1, 1, dtype=torch.float64)
        for i, dt in enumerate(-grid.t.diff()):
            slope = g.denoiser()(unit, grid[i]).score.item()  # the score is linear: slope · x
            var = (1 - f[i] * dt + g2[i] * dt * slope) ** 2 * var + g2[i] * dt
        errors.append(abs(var - (grid.alpha[-1] ** 2 * v0 + grid.sigma[-1] ** 2)).item())
    slopes = [math.log2(a / b) for a, b in zip(errors, errors[1:])]
    assert abs(slopes[-1] - 1) < 0.15, slopes
    start = math.sqrt(grid.alpha[0] ** 2 * v0 + grid.sigma[0] ** 2) * randn(20_000, 1)
    x = last(d.euler_maruyama(g.denoiser(), start, d.levels(schedule, 100, t_end=1e-2), schedule, generator=gen(1)))
    assert x.var() > v0  # and the sampler is what the recursion describes: too wide at few steps


@pytest.mark.parametrize("clock", ["t", "lam"])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_runge_kutta_orders_are_slopes(clock, order):
    gm, schedule, x = mixture(), d.LinearVP(), randn(32, 2, seed=7)
    field = d.probability_flow(gm.denoiser(), schedule, clock)
    ends = (1.0, 0.05) if clock == "t" else (float(schedule.lam(1.0)), float(schedule.lam(0.05)))
    exact = d.solve_adaptive(field, x, *ends, rtol=1e-12, atol=1e-12, method="DOP853")[0]
    counts, errors = ((200, 400) if clock == "t" else (100, 200)) if order > 2 else (600, 1200), []
    for n in counts:
        knots = torch.linspace(*ends, n + 1, dtype=torch.float64)
        errors.append((last(d.runge_kutta(field, x, knots, order)) - exact).square().mean().sqrt())
    assert abs(math.log2(errors[0] / errors[1]) - order) < 0.15


def test_likelihood_of_the_ode_is_the_exact_density():
    gm, schedule = mixture(), d.LinearVP()
    x = fresh(gm, schedule.level(1e-5), 24, 1)
    truth = gm.log_prob(x, schedule.level(1e-5))
    q_T = lambda z: gm.log_prob(z, schedule.level(1.0))
    values = {}
    for probes, f in (("exact", gm.denoiser()), ("posterior", gm.denoiser("diagonal"))):
        values[probes], latent = d.ode_log_prob(f, x, schedule, steps=400, t_end=1e-5, prior=q_T, probes=probes)
        assert (values[probes] - truth).abs().max() < 1e-6, probes
    assert (values["exact"] - values["posterior"]).abs().max() < 1e-9
    normal, _ = d.ode_log_prob(gm.denoiser("diagonal"), x, schedule, steps=400, t_end=1e-5, probes="posterior")
    prior = -0.5 * (latent / schedule.sigma(1.0)).square().sum(1) - math.log(2 * math.pi) - 2 * schedule.sigma(1.0).log()
    assert (normal - truth - (prior - q_T(latent))).abs().max() < 1e-6  # the gap is the prior's, and nothing else


def test_hutchinson_is_unbiased_and_signs_beat_normals():
    gm, schedule = mixture(), d.LinearVP()
    field, t = d.probability_flow(gm.denoiser(), schedule), torch.tensor(0.3, dtype=torch.float64)
    x = randn(1, 2).expand(10_000, 2)
    truth = d.divergence(field, x[:1], t)[1]
    signs = d.divergence(field, x, t, d.rademacher(x, 1, gen()))[1]
    normals = d.divergence(field, x, t, randn(1, *x.shape, seed=1))[1]
    for values in (signs, normals):
        assert (values.mean() - truth).abs() < 3 * values.std() / 100
    assert signs.var() < normals.var()


def test_encoding_and_back():
    gm, schedule = mixture(), d.LinearVP()
    field, x = d.probability_flow(gm.denoiser(), schedule, "lam"), gm.sample(50, gen())
    knots = torch.linspace(float(schedule.lam(1e-3)), float(schedule.lam(1.0)), 201, dtype=torch.float64)
    back = last(d.runge_kutta(field, last(d.runge_kutta(field, x, knots)), knots.flip(0)))
    assert (back - x).abs().max() < 1e-5


def test_a_network_that_fails_midway_is_named():
    def fails(x, level):
        return d.Posterior(x * (float("nan") if level.t < 0.5 else 0.1), x=x, level=level)

    grid, x = d.levels(d.LinearVP(), 10), torch.ones(2, 2)
    with pytest.raises(FloatingPointError, match=r"step 6, t = 0\.4"):
        last(d.euler_maruyama(fails, x, grid, d.LinearVP(), generator=gen()))
    with pytest.raises(FloatingPointError, match="λ"):
        last(d.runge_kutta(d.probability_flow(fails, d.LinearVP()), x, [1.0, 0.7, 0.4, 0.1]))


@pytest.mark.parametrize("call, words", [
    (lambda: last(d.forward_sde(torch.ones(1, 2), d.LinearVP(), [0.5, 0.1], gen())), "times"),
    (lambda: last(d.euler_maruyama(None, torch.ones(1, 2), d.levels(d.LinearVP(), 4)[torch.arange(4, -1, -1)], d.LinearVP())), "grid"),
    (lambda: last(d.euler_maruyama(None, torch.ones(1, 2), d.levels(d.LinearVP(), 4), d.LinearVP(), zeta=-1)), "zeta"),
    (lambda: last(d.langevin(None, torch.ones(1, 2), d.LinearVP().level(0.5), 0)), "steps"),
    (lambda: last(d.predictor_corrector(None, torch.ones(1, 2), d.levels(d.LinearVP(), 4), None, -1)), "corrector_steps"),
    (lambda: d.probability_flow(None, d.LinearVP(), "log"), "clock"),
    (lambda: last(d.runge_kutta(None, torch.ones(1, 2), [0.1, 0.2], 5)), "order"),
    (lambda: last(d.runge_kutta(None, torch.ones(1, 2), [0.1, 0.3, 0.2])), "knots"),
    (lambda: d.rademacher(torch.ones(1, 2), 0, gen()), "count"),
    (lambda: d.ode_log_prob(None, torch.ones(1, 2), d.LinearVP(), probes=0), "probes"),
    (lambda: d.ode_log_prob(None, torch.ones(1, 2), d.Flow()), "finite"),
    (lambda: d.ode_log_prob(mixture().denoiser(), randn(1, 2), d.LinearVP(), probes="posterior"), "variance"),
    (lambda: d.drift_diffusion(d.LinearVP(), 2.0), "outside"),
])
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
