"""Solvers beside one another: equivalences, evaluations, orders, and who is nearer the true ODE where codes differ."""

import importlib
import importlib.util
import json
import math
import warnings
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from test_solvers import MIXTURE, X, exact, last, slope  # noqa: F401  exact is a fixture

import dpmlib as d
from dpmlib.rivals import karras

ROOT = Path(__file__).resolve().parents[1]
F, VP, CHAIN = MIXTURE.denoiser(), d.LinearVP(), d.DiscreteVP.linear(1000)


# --- Karras's levels --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("schedule", [VP, CHAIN, d.VE(0.01, 50.0), d.CosineVP(), d.DiscreteVP.cosine()], ids=repr)
def test_karras_levels_are_even_in_the_seventh_root(schedule):
    grid = karras(schedule, 10, t_end=schedule.t_end or 0.0)
    root = (-grid.lam / 7).exp()
    assert (root.diff() / root.diff()[0] - 1).abs().max() < 1e-6
    assert grid.t[0] == schedule.t_max and len(grid) == 11
    to_data = karras(schedule, 10, to_zero=True)
    assert len(to_data) == 11 and to_data.sigma[-1] == 0


def test_karras_levels_lie_between_even_rho_and_even_lambda():
    noise = (-karras(VP, 8, rho=1.0).lam).exp()
    assert (noise.diff() / noise.diff()[0] - 1).abs().max() < 1e-6
    assert (karras(VP, 8, rho=1e6).lam - d.levels(VP, 8, "lam").lam).abs().max() < 1e-4


@pytest.mark.parametrize("call, words", [
    (lambda: karras(VP, 0), "n, rho = 0"), (lambda: karras(VP, 3, rho=0.0), "rho = "), (lambda: karras(VP, 3, rho=math.nan), "rho = "),
    (lambda: karras(VP, 3, t_end=2.0), "t_end = 2"), (lambda: karras(d.Flow(), 3), "t_start = 1"),
    (lambda: list(d.deis(F, X, d.levels(VP, 4), 5)), "orders"),
    (lambda: list(d.deis(F, X, d.levels(VP, 4), [1, 3, 1, 1])), "fit"),
    (lambda: list(d.unipc(F, X, d.levels(VP, 4), [1] * 9)), "fit"),
    (lambda: list(d.unipc(F, X, d.levels(VP, 4), predicts="v")), "predicts"),
    (lambda: list(d.unipc(F, X, d.levels(VP, 4, to_zero=True), [1, 2, 2, 2])), "infinite"),
    *[(lambda solve=solve: list(solve(F, X, d.levels(VP, 4)[torch.arange(4, -1, -1)])), "grid")
      for solve in (d.heun, d.pndm, d.deis, d.unipc)],
])
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# --- evaluations, orders, equivalences --------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["heun", "pndm", "deis", "unipc"])
def test_evaluations_for_every_number_of_steps(name):
    solve = getattr(d, name)
    for n in range(1, 51):
        for grid in (d.levels(VP, n, "lam"), karras(VP, n, to_zero=True)):
            asked = {"heun": 2 * n - int(grid.sigma[-1] == 0), "pndm": n + int(n > 1 or grid.sigma[-1] > 0)}.get(name, n)
            counted = d.CountCalls(F)
            states = list(solve(counted, X[:1], grid))
            assert counted.calls == asked and len(states) == n, (n, counted.calls)


@pytest.mark.parametrize("solve, order", [
    (lambda f, x, g, n: d.pndm(f, x, g), 2),
    (lambda f, x, g, n: d.heun(f, x, g), 2),
    (lambda f, x, g, n: d.deis(f, x, g, 1), 1),
    (lambda f, x, g, n: d.unipc(f, x, g, 1), 2),
    (lambda f, x, g, n: d.unipc(f, x, g, 2, "eps"), 3),
], ids=["pndm", "heun", "deis1", "unipc1", "unipc2-eps"])
def test_orders_are_slopes(exact, solve, order, record_property):  # noqa: F811
    k = slope(exact, solve, (192, 384, 768))
    record_property("slope", float(k))
    assert abs(k - order) < 0.25, k


def stretch(n, spacing):
    """A calm part of the path, where fourth order is seen before rounding."""
    return karras(VP, n, rho=1.0, t_start=0.5, t_end=0.2) if spacing == "rho" else d.levels(VP, n, spacing, t_start=0.5, t_end=0.2)


@pytest.mark.parametrize("solve, spacing, low, high", [
    (lambda f, x, g: d.unipc(f, x, g, 3), "lam", 3.6, 4.6),  # the corrector raises order 3 to 4
    (d.pndm, "lam", 1.8, 2.2),    # fourth-order weights on the wrong clock
    (d.pndm, "rho", 2.9, 4.2),    # and on the right one, started by lower orders
], ids=["unipc3", "pndm-lam", "pndm-rho"])
def test_orders_on_a_calm_stretch(solve, spacing, low, high):
    truth = last(d.ode_multistep(F, X, stretch(2000, spacing), 3, rule="taylor"))
    errors = [(last(solve(F, X, stretch(n, spacing))) - truth).square().mean().sqrt().item() for n in (16, 32, 64)]
    k = math.log(errors[0] / errors[-1], 4)
    assert low < k < high, k


@pytest.mark.parametrize("to_zero", [False, True])
def test_order_one_of_every_family_is_ddim(to_zero):
    grid = d.levels(CHAIN, 9, to_zero=to_zero)
    ddim = list(d.ancestral(F, X, grid, eta=0))
    for states in (d.deis(F, X, grid, 1), d.ode_multistep(F, X, grid, 1), d.ode_multistep(F, X, grid, 1, "eps"),
                   d.ode_singlestep(F, X, grid, 1)):
        assert max((a - b).abs().max() for a, b in zip(states, ddim, strict=True)) < 1e-12
    one = grid[-2:]
    single = last(d.ancestral(F, X, one, eta=0))
    for solve in (lambda f, x, g: d.unipc(f, x, g, 1), lambda f, x, g: d.unipc(f, x, g, 1, "eps")):
        assert (last(solve(F, X, one)) - single).abs().max() < 1e-12
    if to_zero:  # a single step to the data is Euler's in these, too
        for solve in (d.heun, d.pndm):
            assert (last(solve(F, X, one)) - single).abs().max() < 1e-12


def test_unipc_is_the_multistep_method_but_for_its_corrector():
    grid = d.levels(VP, 8, "lam")
    for order in (1, 2, 3):
        predicted = last(d.unipc(F, X, grid[:2], order))
        assert (predicted - last(d.ode_multistep(F, X, grid[:2], order))).abs().max() < 1e-13


@pytest.mark.parametrize("solve", [d.heun, d.pndm, d.deis, d.unipc], ids=lambda f: f.__name__)
@pytest.mark.parametrize("schedule", [VP, d.DiscreteVP.cosine(), d.VE(), d.Flow()], ids=repr)
def test_low_precision_stays_finite_and_keeps_its_dtype(solve, schedule):
    start = {"t_start": 0.999} if isinstance(schedule, d.Flow) else {}
    for grid in (d.levels(schedule, 12, to_zero=True, t_end=0.01, **start), karras(schedule, 12, t_end=0.01, **start)):
        for dtype in (torch.float16, torch.bfloat16):
            x0 = d.Denoiser(lambda x, number: torch.zeros_like(x), schedule, "x0")
            x = (X[:8].clamp(-3, 3) * min(1.0, float(grid.sigma[0]))).to(dtype)
            end = last(solve(x0, x, grid))
            assert end.isfinite().all() and end.dtype == dtype


# --- who is nearer the true ODE, where we differ on purpose ------------------------------------------------------------

def theirs(cls, n=None, chain=CHAIN, timesteps=None, **kwargs):
    """The last state of a scheduler that is fed the exact ε of the level that the number it gives out names."""
    diffusers = pytest.importorskip("diffusers")
    N = chain.N
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = getattr(diffusers, cls)(num_train_timesteps=N, beta_start=0.1 / N, beta_end=20 / N, beta_schedule="linear", **kwargs)
        scheduler.set_timesteps(n, timesteps=timesteps) if timesteps else scheduler.set_timesteps(n)
        x = X
        for t in scheduler.timesteps:
            x = scheduler.step(F(x, chain.level((float(t) + 1) / N)).eps, t, x).prev_sample
    return x


def distance(x, y):
    return (x - y).square().mean().sqrt().item()


def nearly_even(n):
    """Whole numbers of steps, nearly even in λ, for schedulers that know no others: and the levels that they name."""
    steps = sorted({round(float(t) * 1000) - 1 for t in d.levels(CHAIN, n, "lam").t[:-1]}, reverse=True)
    steps = [s for s in steps if s > 0]
    return steps, CHAIN.level((torch.tensor([*steps, 0], dtype=torch.float64) + 1) / 1000)


@pytest.fixture(scope="module")
def chain_truth():
    """The exact ODE of the chain from t = 1, at t = 1/1000 and at the data."""
    at_end = last(d.ode_multistep(F, X, d.levels(CHAIN, 2000, "lam"), 3, rule="taylor"))
    rest = d.levels(CHAIN, 300, "lam", t_start=1e-3, t_end=1e-7, to_zero=True)
    return at_end, last(d.ode_multistep(F, at_end, rest, 1))


def test_third_order_multistep_beside_diffusers(record_property):
    """Its second difference lacks a factor 2: the exact one is nearer to the true ODE, and the more so the more steps there are.

    On a chain of 20,000, where rounding to whole steps and float32 do not decide; levels even in λ, then the data.
    """
    chain = d.DiscreteVP.linear(20_000)
    truth, errors = last(d.ode_multistep(F, X, d.levels(chain, 1500, "lam", to_zero=True), 3)), {}
    for n in (40, 160):
        grid = d.levels(chain, n, "lam", to_zero=True)
        x = theirs("DPMSolverMultistepScheduler", n, chain, solver_order=3, use_lu_lambdas=True, final_sigmas_type="zero")
        ours, published = (last(d.ode_multistep(F, X, grid, 3, rule=rule)) for rule in ("taylor", "published"))
        errors[n] = {"theirs": distance(x, truth), "ours": distance(ours, truth), "published": distance(published, truth)}
    record_property("errors", json.dumps(errors))
    for n in (40, 160):
        assert errors[n]["ours"] < 0.5 * min(errors[n]["theirs"], errors[n]["published"])
    assert errors[40]["theirs"] / errors[40]["ours"] < errors[160]["theirs"] / errors[160]["ours"]


def test_last_step_reaches_the_data(chain_truth):
    """In ε form diffusers must end at its smallest σ and leaves that noise; our last step goes to the data."""
    steps, grid = nearly_even(250)
    x = theirs("DPMSolverMultistepScheduler", timesteps=steps, solver_order=2, algorithm_type="dpmsolver", final_sigmas_type="sigma_min")
    ours = last(d.ode_multistep(F, X, d.with_data(grid), 2, "eps"))
    assert distance(ours, chain_truth[1]) < 0.9 * distance(x, chain_truth[1])


def test_numbers_of_levels_are_not_rounded(record_property):
    """diffusers keeps σ but rounds the number it feeds to the network to an integer: the answer is for another level."""
    chain, n = d.DiscreteVP.linear(100), 80
    truth = last(d.ode_multistep(F, X, d.levels(chain, 2000, "lam", to_zero=True), 2))
    x = theirs("DPMSolverMultistepScheduler", n, chain, solver_order=2, final_sigmas_type="zero", use_lu_lambdas=True)
    grid = d.levels(chain, n, "lam", to_zero=True)
    ours = distance(last(d.ode_multistep(F, X, grid, 2)), truth)
    record_property("rounded_over_exact", distance(x, truth) / ours)
    assert ours < 0.5 * distance(x, truth)


def test_dynamic_thresholding_of_diffusers_is_clipping_by_default():
    """Its `sample_max_value` = 1 caps the quantile at 1, so nothing is ever divided; ours scales, and keeps what lies inside."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DPMSolverMultistepScheduler(thresholding=True)
    x0 = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(scheduler._threshold_sample(x0), x0.clamp(-1, 1))
    scaled = d.dynamic_threshold(lambda x, level: d.Posterior(x, x=x, level=level))(x0, VP.level(0.3)).mean
    assert scaled.abs().max() <= 1 + 1e-6 and (scaled - x0.clamp(-1, 1)).abs().max() > 0.1
    inside = x0.clamp(-0.9, 0.9)
    assert torch.equal(d.dynamic_threshold(lambda x, level: d.Posterior(x, x=x, level=level))(inside, VP.level(0.3)).mean, inside)


# --- linear samplers: the closed form ---------------------------------------------------------------------------------

def gaussian(v):
    return lambda x, level: d.Posterior(level.alpha * v / (level.alpha**2 * v + level.sigma**2) * x,
                                        v * level.sigma**2 / (level.alpha**2 * v + level.sigma**2), x=x, level=level)


def test_full_variance_is_exact_for_gaussians_in_any_number_of_steps():
    v = torch.tensor([1e-4, 0.3, 7.0], dtype=torch.float64)
    for n in (1, 2, 9):
        grid, x = d.levels(VP, n), torch.zeros(n + 2, 3, dtype=torch.float64)
        x[0], drawn = 1, []

        def impulse(x, generator, drawn=drawn):
            drawn.append(1)
            return (torch.arange(len(x)) == len(drawn)).to(x)[:, None].expand_as(x)

        with patch.object(importlib.import_module("dpmlib.ancestral"), "normal_like", impulse):
            end = last(d.ancestral(gaussian(v), x, grid)).square().sum(0)
        first, level = grid[0], grid[-1]
        slack = (1 / (first.alpha**2 * v + first.sigma**2) - 1).abs()  # the start is N(0, I), not q(x_T)
        assert ((end / (level.alpha**2 * v + level.sigma**2) - 1).abs() <= slack + 1e-9).all()


@pytest.mark.parametrize("v", [4.0, 0.25])
def test_noise_forgets_by_the_correlation(v):
    """A deviation at level t arrives multiplied by √(v/V) c^ζ²: with noise, smaller by corr(x_0, x_t)."""
    v, grid = torch.tensor([v], dtype=torch.float64), d.levels(VP, 400, "lam", t_start=0.6, t_end=1e-5)
    x = torch.ones(1, 1, dtype=torch.float64)
    ode = last(d.ode_multistep(gaussian(v), x, grid, 2)).item()
    with patch.object(importlib.import_module("dpmlib.solvers"), "normal_like", lambda x, generator: torch.zeros_like(x)):
        sde = last(d.sde_multistep(gaussian(v), x, grid, 2, generator=torch.Generator())).item()
    here = grid[0]
    total = (here.alpha**2 * v + here.sigma**2).sqrt()
    assert ode == pytest.approx((v.sqrt() / total).item(), rel=1e-3)
    assert sde / ode == pytest.approx((here.alpha * v.sqrt() / total).item(), rel=1e-3)


# --- cost ---------------------------------------------------------------------------------------------------------------

def benchmark(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_step_costs_half_of_diffusers(record_property):
    pytest.importorskip("diffusers")
    cost, ratios = benchmark("solver_cost"), []
    for _ in range(8):  # a busy machine may spoil a round
        ours, theirs = cost.medians(7)
        ratios.append(ours / theirs)
        if min(ratios) <= 0.5:
            break
    record_property("ratio", float(min(ratios)))
    assert min(ratios) <= 0.5, ratios


@pytest.mark.parametrize("solve", [
    d.deis, d.unipc, d.heun, d.pndm, lambda f, x, g: d.ode_multistep(f, x, g, 3), lambda f, x, g: d.ode_singlestep(f, x, g, 3),
    lambda f, x, g: d.sde_multistep(f, x, g, 2, generator=torch.Generator())],
    ids=["deis", "unipc", "heun", "pndm", "multistep", "singlestep", "sde"])
def test_the_loop_reads_no_number_off_the_state(solve):
    """Whatever is read back from the device makes it wait: no .item(), float(), bool(), .tolist() of anything of the state's shape."""
    class State(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            name = getattr(func, "__name__", "")
            assert name not in ("item", "tolist", "__float__", "__bool__", "__int__", "cpu", "numpy", "nonzero", "equal"), name
            return super().__torch_function__(func, types, args, kwargs or {})

    def quiet(x, level):
        return F(x, level)

    quiet.watched = True  # leave out the check that every answer is finite, which off a CPU is read once, at the last step
    states = list(solve(quiet, X[:4].as_subclass(State), d.levels(VP, 9)))
    assert all(isinstance(x, State) for x in states)


def test_no_more_predictions_are_kept_than_the_order_needs():
    """Memory O(order · batch): of the answers of a long run only the last few are alive."""
    import weakref
    for solve, most in ((lambda f, x, g: d.ode_multistep(f, x, g, 3), 4), (d.unipc, 5), (d.pndm, 6), (d.deis, 5), (d.heun, 4)):
        alive = []

        def remembered(x, level, alive=alive):
            belief = F(x, level)
            mean = belief.mean.clone()
            alive.append(weakref.ref(mean))
            return d.Posterior(mean, x=x, level=level)

        for _ in solve(remembered, X[:2], d.levels(VP, 30)):
            assert sum(ref() is not None for ref in alive) <= most


# --- the committed table ----------------------------------------------------------------------------------------------

def test_quality_table_says_where_it_comes_from():
    parts = json.loads((ROOT / "dpmlib/weights/solver_quality.json").read_text())
    assert set(parts) == {"network", "empirical", "spectrum"}
    for name, part in parts.items():
        assert {"command", "commit", "seed", "device", "torch"} <= set(part), name
    rows = parts["network"]["rows"]
    best = {key: min(r["rmse"] for r in rows if (r["solver"], r["evaluations"]) == key)
            for key in {(r["solver"], r["evaluations"]) for r in rows}}
    assert best["DPM-Solver++(2M)", 10] < best["DDIM", 40] and best["DPM-Solver++(2M)", 20] < best["DDIM", 80]
    assert parts["network"]["reference_against_unipc"] < 0.1 * min(r["rmse"] for r in rows)
