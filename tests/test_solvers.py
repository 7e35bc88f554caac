"""Orders appear as slopes; families coincide at order 1; evaluations are counted."""

import math

import pytest
import torch
from scipy.integrate import quad
from test_laws import gen, mixture, randn

import dpmlib as d
from dpmlib import solvers

MIXTURE, X = mixture(), randn(64, 2, seed=7)


def last(states):
    *_, x = states
    return x


@pytest.fixture(scope="module")
def exact():
    grid = d.levels(d.LinearVP(), 6_000, "lam", t_end=1e-2)
    return last(d.ode_multistep(MIXTURE.denoiser(), X, grid, 3, rule="taylor"))


def slope(exact, solve, counts, spacing="lam"):
    errors = []
    for n in counts:
        x = last(solve(MIXTURE.denoiser(), X, d.levels(d.LinearVP(), n, spacing, t_end=1e-2), n))
        errors.append((x - exact).square().mean().sqrt().item())
    return math.log(errors[0] / errors[-1]) / math.log(counts[-1] / counts[0])


def test_moments_against_quadrature():
    for z in (1e-8, -1e-3, 0.99, 1.01, -1.0, 7.0, -6.0):
        values = solvers.moments(torch.tensor(z, dtype=torch.float64), 4)
        for k in range(4):
            truth = z * quad(lambda u: u**k * math.exp(-z * (1 - u)), 0, 1, epsabs=1e-14, epsrel=1e-13)[0]
            assert values[k] == pytest.approx(truth, rel=1e-10)


@pytest.mark.parametrize("predicts", ["x0", "eps"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_orders_are_slopes_on_lam_grids(exact, order, predicts):
    counts = (192, 384, 768)
    for rule in ("midpoint", "taylor"):
        k = slope(exact, lambda f, x, g, n: d.ode_multistep(f, x, g, order, predicts, rule), counts)
        assert abs(k - order) < 0.15, (rule, k)
    k = slope(exact, lambda f, x, g, n: d.ode_singlestep(f, x, g, [order] * (n // order), predicts), counts)
    assert abs(k - order) < 0.15, k


@pytest.mark.parametrize("predicts", ["x0", "eps"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_multistep_orders_are_slopes_on_time_grids(exact, order, predicts):
    k = slope(exact, lambda f, x, g, n: d.ode_multistep(f, x, g, order, predicts, "taylor"), (384, 768, 1536), "time")
    assert abs(k - order) < 0.15, k


def test_published_third_order_is_second(exact):
    k = slope(exact, lambda f, x, g, n: d.ode_multistep(f, x, g, 3, rule="published"), (192, 384, 768))
    assert abs(k - 2) < 0.15


def test_first_order_is_ddim_in_every_family():
    for to_zero in (False, True):
        grid = d.levels(d.DiscreteVP.linear(1000), 9, to_zero=to_zero)
        f = MIXTURE.denoiser()
        ddim = last(d.ancestral(f, X, grid, eta=0))
        for solve in (d.ode_multistep, d.ode_singlestep):
            for predicts in ("x0", "eps"):
                assert (last(solve(f, X, grid, 1, predicts)) - ddim).abs().max() < 1e-12


def test_first_order_sde_is_ddpm():
    grid = d.levels(d.LinearVP(), 9, to_zero=True)
    a = last(d.sde_multistep(MIXTURE.denoiser(), X, grid, 1, generator=gen()))
    b = last(d.ancestral(MIXTURE.denoiser(), X, grid, generator=gen()))
    assert (a - b).abs().max() < 1e-12


@pytest.mark.parametrize("order", [1, 2, 3])
def test_evaluations_asked_are_evaluations_used(order):
    for n in range(1, 51):
        grid = d.levels(d.LinearVP(), n, "lam", to_zero=n % 2 == 0)
        assert sum(d.singlestep_orders(n, order)) == n
        counted = d.CountCalls(MIXTURE.denoiser())
        last(d.ode_multistep(counted, X[:1], grid, order))
        assert counted.calls == n
        if n % 2:
            counted = d.CountCalls(MIXTURE.denoiser())
            last(d.ode_singlestep(counted, X[:1], grid, order))
            assert counted.calls == n


def test_split_of_evaluations():
    assert d.singlestep_orders(9, 3) == [3, 3, 2, 1]
    assert d.singlestep_orders(10, 3) == [3, 3, 3, 1]
    assert d.singlestep_orders(11, 3) == [3, 3, 3, 2]


@pytest.mark.parametrize("schedule", [d.LinearVP(), d.DiscreteVP.cosine(), d.Flow(), d.VE()], ids=repr)
def test_multistep_reaches_the_data_from_anywhere(schedule):
    grid = d.levels(schedule, 12, to_zero=True, t_end=0.01)
    for x in (X, X.half(), X.bfloat16()):
        denoiser = d.Denoiser(lambda x, number: 0.5 * x, schedule, "x0")
        end = last(d.ode_multistep(denoiser, x, grid, 3))
        assert end.isfinite().all() and end.dtype == x.dtype


@pytest.mark.parametrize("call, words", [
    (lambda g: d.ode_multistep(None, X, g, 4), "orders"),
    (lambda g: d.ode_multistep(None, X, g, [1, 3, 1, 1]), "fit"),
    (lambda g: d.ode_multistep(None, X, g, [1] * 5), "fit"),
    (lambda g: d.ode_multistep(None, X, g, 2, "v"), "predicts"),
    (lambda g: d.ode_multistep(None, X, g, 2, rule="best"), "rule"),
    (lambda g: d.ode_multistep(None, X, d.levels(d.LinearVP(), 4, to_zero=True), [1, 2, 2, 2]), "infinite"),
    (lambda g: d.ode_multistep(None, X, g[torch.arange(4, -1, -1)], 2), "grid"),
    (lambda g: d.ode_singlestep(None, X, g, [2, 3]), "fit"),
    (lambda g: d.sde_multistep(None, X, g, 2), "generator"),
])
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        list(call(d.levels(d.LinearVP(), 4)))
