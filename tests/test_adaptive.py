"""DPM-Solver-12 and -23: tolerance buys error, evaluations are counted, failures are named."""

import math

import pytest
import torch
from test_laws import mixture, randn

import dpmlib as d

MIXTURE, X, VP, END = mixture(), randn(32, 2, seed=7), d.LinearVP(), 1e-2


def end(run):
    *_, x = run
    return x


def rmse(a, b):
    return (a.double() - b).square().mean().sqrt().item()


@pytest.fixture(scope="module")
def reference():
    """The exact ODE by scipy's DOP853 at 1e-12."""
    field = d.probability_flow(MIXTURE.denoiser(), VP, "lam")
    return d.solve_adaptive(field, X, VP.lam(1.0), VP.lam(END), 1e-12, 1e-12, "DOP853")[0]


@pytest.mark.parametrize("order, tolerances", [(2, (1e-2, 1e-3, 1e-4)), (3, (1e-3, 1e-4, 1e-5))])
@pytest.mark.parametrize("predicts", ["eps", "x0"])
def test_error_is_proportional_to_the_tolerance(reference, order, tolerances, predicts, record_property):
    errors = []
    for tol in tolerances:
        run = d.adaptive(MIXTURE.denoiser(), X, VP, order, tol, tol, t_end=END, predicts=predicts)
        errors.append(rmse(end(run), reference))
        assert errors[-1] < 3 * tol
    slope = math.log(errors[0] / errors[-1]) / math.log(tolerances[0] / tolerances[-1])
    record_property("slope", slope)
    assert 0.7 < slope < 1.2


@pytest.mark.parametrize("order", [2, 3])
def test_evaluations_are_counted_and_rejections_keep_the_first_one(order):
    counted = d.CountCalls(MIXTURE.denoiser())
    run = d.adaptive(counted, X, VP, order, 1e-3, 1e-3, t_end=END)
    states = list(run)
    assert run.evaluations == counted.calls == order * run.accepted + (order - 1) * run.rejected
    assert run.rejected > 0 and len(states) == run.accepted == len(run.grid) - 1
    d.check_grid(run.grid)
    assert run.grid.t[0] == VP.t_max and run.grid.t[-1] == END


def test_first_step_is_the_pair_of_singlesteps():
    """The first accepted step is DPM-Solver-3's with thirds in λ: the fixed solver on the visited levels gives the same state."""
    for order in (2, 3):
        run = d.adaptive(MIXTURE.denoiser(), X, VP, order, 1e-2, 1e-2, t_end=END)
        first = next(run)
        a, b = run.grid.lam[:2]
        grid = d.levels(VP, order, "lam", t_end=VP.t_of_lam(b).item())
        assert grid.lam[0] == a
        assert (first - end(d.ode_singlestep(MIXTURE.denoiser(), X, grid, [order]))).abs().max() < 1e-12


def test_a_grid_uniform_in_lam_is_hard_to_beat(reference, record_property):
    """At equal evaluations the adaptive pair is within a small factor of the fixed grid, on either side."""
    for order, tol in ((2, 1e-3), (3, 1e-5)):
        run = d.adaptive(MIXTURE.denoiser(), X, VP, order, tol, tol, t_end=END)
        adaptive = rmse(end(run), reference)
        steps = run.evaluations // order
        grid = d.levels(VP, order * steps, "lam", t_end=END)
        fixed = rmse(end(d.ode_singlestep(MIXTURE.denoiser(), X, grid, [order] * steps)), reference)
        record_property(f"adaptive over fixed, order {order}", adaptive / fixed)
        assert 0.2 < adaptive / fixed < 5


def test_float32_reaches_the_same_end(reference):
    run = d.adaptive(MIXTURE.denoiser(), X.float(), VP, 3, 1e-3, 1e-3, t_end=END)
    x = end(run)
    assert x.dtype == torch.float32 and rmse(x, reference) < 3e-3
    assert rmse(x, end(d.adaptive(MIXTURE.denoiser(), X, VP, 3, 1e-3, 1e-3, t_end=END))) < 1e-4


def test_stiff_data_are_walked_in_unequal_steps():
    two = d.GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], 1e-4 * torch.eye(2).expand(2, 2, 2))
    run = d.adaptive(two.denoiser(), X, VP, 3, 1e-3, 1e-3, t_end=END)
    assert rmse(end(run).abs()[:, :1], 1.0) < 0.2
    steps = run.grid.lam.diff()
    assert steps.max() > 3 * steps[1:-1].min()


def test_what_cannot_be_met_is_named():
    with pytest.raises(FloatingPointError, match="λ = .*h_min"):
        list(d.adaptive(MIXTURE.denoiser(), X.float(), VP, 3, 1e-9, 1e-9, t_end=END))

    def broken(x, level):
        belief = MIXTURE.denoiser()(x, level)
        return d.Posterior(belief.mean / (level.lam < 0), x=x, level=level)

    with pytest.raises(FloatingPointError, match="λ = "):
        list(d.adaptive(broken, X, VP, t_end=END))


@pytest.mark.parametrize("kwargs, words", [
    ({"order": 1}, "order = 1"), ({"order": 4}, "order = 4"), ({"rtol": 0.0}, "rtol"), ({"rtol": -1.0}, "rtol"), ({"atol": 0.0}, "atol"),
    ({"theta": 1.0}, "theta"), ({"h_init": 0.0}, "h_init"), ({"h_min": 0.0}, "h_min"), ({"predicts": "v"}, "predicts"),
    ({"t_end": 0.0}, "finite"), ({"t_start": 0.1, "t_end": 0.5}, "increasing"),
])
def test_bad_input_is_named(kwargs, words):
    with pytest.raises(ValueError, match=words):
        d.adaptive(MIXTURE.denoiser(), X, VP, **kwargs)
