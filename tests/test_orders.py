"""Orders on every grid and in the weak sense; n asked is n used for every solver; half precision."""

import math

import pytest
import torch
from test_laws import ALL, gen, mixture, randn

import dpmlib as d
from dpmlib import solvers

MIXTURE, X, VP, END = mixture(), randn(32, 2, seed=7), d.LinearVP(), 1e-2


def last(states):
    *_, x = states
    return x


def singlestep(order, predicts):
    return lambda f, x, grid: d.ode_singlestep(f, x, grid, [order] * ((len(grid) - 1) // order), predicts)


def multistep(order, predicts, rule="taylor"):
    return lambda f, x, grid: d.ode_multistep(f, x, grid, order, predicts, rule)


@pytest.fixture(scope="module")
def reference():
    """The exact ODE by scipy's DOP853 at 1e-12, which knows nothing of λ-weights."""
    field = d.probability_flow(MIXTURE.denoiser(), VP, "lam")
    return d.solve_adaptive(field, X, VP.lam(1.0), VP.lam(END), 1e-12, 1e-12, "DOP853")[0]


def slope(solve, counts, spacing, reference):
    errors = []
    for n in counts:
        x = last(solve(MIXTURE.denoiser(), X, d.levels(VP, n, spacing, t_end=END)))
        errors.append((x - reference).square().mean().sqrt().item())
    return math.log(errors[0] / errors[-1]) / math.log(counts[-1] / counts[0])


@pytest.mark.parametrize("predicts", ["x0", "eps"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("spacing", ["time", "quad"])
def test_singlestep_orders_on_grids_that_are_not_uniform_in_lam(reference, spacing, order, predicts, record_property):
    """The nodes are not at thirds of λ there, but tend to them as the grid is refined: the order survives."""
    k = slope(singlestep(order, predicts), (384, 1152), spacing, reference)
    record_property("slope", k)
    assert abs(k - order) < 0.15, k


@pytest.mark.parametrize("predicts", ["x0", "eps"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_multistep_orders_on_quadratic_grids(reference, order, predicts, record_property):
    k = slope(multistep(order, predicts), (192, 768), "quad", reference)
    record_property("slope", k)
    assert abs(k - order) < 0.15, k


def test_second_node_off_two_thirds_costs_an_order(reference):
    """On a grid whose nodes stand at 1/3 and 1/2 of each step in λ, DPM-Solver-3 is of order 2."""
    def grid(n, r2):
        lam = torch.linspace(VP.lam(1.0), VP.lam(END), n + 1, dtype=torch.float64)
        inner = torch.stack([lam[:-1] + r * lam.diff() for r in (0.0, 1 / 3, r2)], 1).flatten()
        return VP.level(VP.t_of_lam(torch.cat([inner, lam[-1:]])).clamp(END, 1.0))

    for r2, order in ((0.5, 2), (2 / 3, 3)):
        errors = [(last(d.ode_singlestep(MIXTURE.denoiser(), X, grid(n, r2), [3] * n)) - reference).square().mean().sqrt().item()
                  for n in (64, 256)]
        assert abs(math.log(errors[0] / errors[1], 4) - order) < 0.15, r2


# --- the SDE, in the weak sense -----------------------------------------------------------------------------------

def final_moments(monkeypatch, n, spacing, order, rule):
    """Mean and variance after n steps on N(0.7, 0.25) data, exactly, and those that the forward process prescribes.

    There the denoiser is affine in x, and so is the solver in x and in its noises: a batch of unit vectors shows every coefficient.
    """
    data = d.Gaussian(torch.tensor([0.7], dtype=torch.float64), torch.tensor([[0.25]], dtype=torch.float64))
    grid = d.levels(VP, n, spacing, t_end=END)
    calls = []

    def unit(x, generator):
        calls.append(None)
        z = torch.zeros_like(x)
        z[len(calls)] = 1
        return z

    monkeypatch.setattr(solvers, "normal_like", unit)
    x = torch.zeros(n + 2, 1, dtype=torch.float64)
    x[-1] = 1
    x = last(d.sde_multistep(data.denoiser(), x, grid, order, rule, generator=gen()))
    constant, coefficients = x[0], x[1:] - x[0]
    here, there = grid[0], grid[-1]
    variance = coefficients[:-1].square().sum() + coefficients[-1] ** 2 * (here.alpha**2 * 0.25 + here.sigma**2)
    mean = constant + coefficients[-1] * here.alpha * 0.7
    return (mean - there.alpha * 0.7).item(), (variance - there.alpha**2 * 0.25 - there.sigma**2).item()


@pytest.mark.parametrize("spacing, order, rule, weak", [
    ("lam", 1, "midpoint", 1), ("lam", 2, "midpoint", 2), ("lam", 2, "taylor", 2), ("lam", 3, "taylor", 2),
    ("time", 1, "midpoint", 1), ("time", 2, "midpoint", 2), ("time", 2, "taylor", 2),
])
def test_weak_orders_of_the_sde_solver(monkeypatch, spacing, order, rule, weak, record_property):
    """Means are exact on Gaussian data, variances of weak order 1 and 2; a third prediction does not make it 3."""
    errors = [final_moments(monkeypatch, n, spacing, order, rule) for n in (400, 800)]
    assert max(abs(mean) for mean, _ in errors) < 1e-12
    k = math.log2(abs(errors[0][1] / errors[1][1]))
    record_property("weak slope", k)
    assert abs(k - weak) < 0.15, k


# --- n asked is n used --------------------------------------------------------------------------------------------

COUNTED = {
    "ancestral": (lambda f, x, g: d.ancestral(f, x, g, generator=gen()), lambda n, to_zero: n),
    "multistep eps": (lambda f, x, g: d.ode_multistep(f, x, g, 3, "eps"), lambda n, to_zero: n),
    "singlestep 1": (lambda f, x, g: d.ode_singlestep(f, x, g, 1), lambda n, to_zero: n),
    "singlestep 2": (lambda f, x, g: d.ode_singlestep(f, x, g, 2), lambda n, to_zero: n),
    "singlestep 3": (lambda f, x, g: d.ode_singlestep(f, x, g, 3), lambda n, to_zero: n),
    "sde": (lambda f, x, g: d.sde_multistep(f, x, g, 3, generator=gen()), lambda n, to_zero: n),
    "deis": (lambda f, x, g: d.deis(f, x, g), lambda n, to_zero: n),
    "unipc": (lambda f, x, g: d.unipc(f, x, g, 3), lambda n, to_zero: n),
    "heun": (lambda f, x, g: d.heun(f, x, g), lambda n, to_zero: 2 * n - to_zero),
    "pndm": (lambda f, x, g: d.pndm(f, x, g), lambda n, to_zero: n + 1 - (to_zero and n == 1)),
}


@pytest.mark.parametrize("name", COUNTED)
def test_evaluations_asked_are_evaluations_used(name):
    solve, cost = COUNTED[name]
    for n in range(1, 51):
        for to_zero in (False, True) if n < 10 else (n % 5 == 0,):
            counted = d.CountCalls(lambda x, level: d.Posterior(0.5 * x, x=x, level=level))
            last(solve(counted, X[:1], d.levels(VP, n, to_zero=to_zero)))
            assert counted.calls == cost(n, to_zero), (n, to_zero)


def test_singlestep_takes_the_last_step_to_the_data_at_order_one():
    grid = d.levels(VP, 10, to_zero=True)
    x = last(d.ode_singlestep(MIXTURE.denoiser(), X, grid, 3))
    before = last(d.ode_singlestep(MIXTURE.denoiser(), X, grid[:-1], 3))
    assert (x - MIXTURE.denoiser()(before, grid[-2]).mean).abs().max() < 1e-12
    flow = d.levels(d.Flow(), 10, to_zero=True, t_end=0.01)  # starts at α = 0
    assert last(d.ode_singlestep(MIXTURE.denoiser(), X, flow, 3, "x0")).isfinite().all()
    for solve in (d.ode_singlestep, d.ode_multistep):
        with pytest.raises(ValueError, match="predicts"):
            last(solve(MIXTURE.denoiser(), X, flow, 2, "eps"))
    with pytest.raises(ValueError, match="orders"):
        last(d.ode_singlestep(MIXTURE.denoiser(), X, d.levels(VP, 1), 4))


# --- half precision -----------------------------------------------------------------------------------------------

SOLVERS = {
    "multistep": lambda f, x, g, p: d.ode_multistep(f, x, g, 3, p),
    "multistep 2": lambda f, x, g, p: d.ode_multistep(f, x, g, 2, p),
    "singlestep 2": lambda f, x, g, p: d.ode_singlestep(f, x, g, 2, p),
    "singlestep 3": lambda f, x, g, p: d.ode_singlestep(f, x, g, 3, p),
    "sde": lambda f, x, g, p: d.sde_multistep(f, x, g, 2, generator=gen()),
    "unipc": lambda f, x, g, p: d.unipc(f, x, g, 2, p),
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_no_nan_in_half_precision(schedule, dtype, solver):
    """On every schedule from its noisy end, to t_end and to the data, with networks of ε and of x_0 that are optimal for N(0, I)."""
    start = 0.999 if isinstance(schedule, d.Flow) else schedule.t_max

    def net(x, number, part):
        level = schedule.level(number.double())
        ratio = (level.sigma if part == "eps" else level.alpha) / (level.alpha**2 + level.sigma**2)
        return ratio.to(x)[:, None] * x

    for spacing in ("time", "lam"):
        for n in (1, 5, 12):
            for to_zero in (False, True):
                grid = d.levels(schedule, n, spacing, t_start=start, t_end=0.01, to_zero=to_zero)
                x = (torch.randn(4, 3, generator=gen()) * torch.hypot(grid.alpha[0], grid.sigma[0])).to(dtype)
                for predicts in ("x0", "eps"):
                    denoiser = d.Denoiser(lambda x, number: net(x, number, predicts), schedule, predicts)
                    exact = list(SOLVERS[solver](denoiser, x.double(), grid, predicts))
                    if max(state.abs().max() for state in exact) > torch.finfo(dtype).max:
                        continue  # DPM-Solver-3 on the cosine chain's time grid: its own overshoot, in any precision
                    for state in SOLVERS[solver](denoiser, x, grid, predicts):
                        assert state.dtype == dtype and state.isfinite().all(), (spacing, n, to_zero, predicts)
