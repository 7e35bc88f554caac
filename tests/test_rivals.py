"""The other solvers: their orders as slopes, and state by state beside diffusers; guidance on a mixture."""

import warnings

import pytest
import torch
from test_laws import gen, mixture, randn
from test_solvers import MIXTURE, X, exact, last, slope  # noqa: F401  exact is a fixture

import dpmlib as d

CHAIN = d.DiscreteVP.linear(1000)


@pytest.mark.parametrize("solve, order", [
    (lambda f, x, g, n: d.heun(f, x, g), 2),
    (lambda f, x, g, n: d.deis(f, x, g, 2), 2),
    (lambda f, x, g, n: d.deis(f, x, g, 3), 3),
    (lambda f, x, g, n: d.unipc(f, x, g, 1), 1.5),  # the corrector lifts all but the last step: between 1 and 2
    (lambda f, x, g, n: d.unipc(f, x, g, 2), 3),
], ids=["heun", "deis2", "deis3", "unipc1", "unipc2"])
def test_orders_are_slopes(exact, solve, order):  # noqa: F811
    k = slope(exact, solve, (192, 384, 768))
    assert abs(k - order) < (0.15 if order == int(order) else 0.5), k


def theirs(cls, n, **kwargs):
    diffusers = pytest.importorskip("diffusers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = getattr(diffusers, cls)(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear",
                                            timestep_spacing="trailing", **kwargs)
        scheduler.set_timesteps(n)
        x, states = X[:8], []
        for t in scheduler.timesteps:
            eps = MIXTURE.denoiser()(x, CHAIN.level((float(t) + 1) / 1000)).eps
            x = scheduler.step(eps, t, x).prev_sample
            states.append(x)
    return [float(t) for t in scheduler.timesteps], states


ZERO = {"final_sigmas_type": "zero"}


@pytest.mark.parametrize("n", [5, 10, 20])
@pytest.mark.parametrize("cls, kwargs, solve", [
    ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": True}, lambda f, x, g: d.ancestral(f, x, g, eta=0)),
    ("DPMSolverMultistepScheduler", {"solver_order": 1, **ZERO}, lambda f, x, g: d.ode_multistep(f, x, g, 1)),
    ("DPMSolverMultistepScheduler", {"solver_order": 2, **ZERO}, lambda f, x, g: d.ode_multistep(f, x, g, 2)),
    ("UniPCMultistepScheduler", {"solver_order": 1, **ZERO}, lambda f, x, g: d.unipc(f, x, g, 1)),
    ("UniPCMultistepScheduler", {"solver_order": 2, **ZERO}, lambda f, x, g: d.unipc(f, x, g, 2)),
    ("UniPCMultistepScheduler", {"solver_order": 3, **ZERO},
     lambda f, x, g: d.unipc(f, x, g, [min(i + 1, 3, len(g) - 1 - i) for i in range(len(g) - 1)])),
], ids=["ddim", "dpm++1", "dpm++2", "unipc1", "unipc2", "unipc3"])
def test_states_are_those_of_diffusers(cls, kwargs, solve, n):
    times, states = theirs(cls, n, **kwargs)
    grid = d.with_data(CHAIN.level((torch.tensor(times, dtype=torch.float64) + 1) / 1000))
    ours = list(solve(MIXTURE.denoiser(), X[:8], grid))
    # UniPC's scheduler shows predicted states on the way, ours corrected ones; the last is the same
    pairs = list(zip(ours, states, strict=True))[-1 if "UniPC" in cls else 0:]
    assert max((a - b).abs().max() for a, b in pairs) < 1e-4


@pytest.mark.parametrize("order", [1, 2])
def test_dpm_solver_in_eps_form_and_deis_beside_diffusers(order):
    for cls, kwargs, solve in (
        ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
         lambda g: d.ode_multistep(MIXTURE.denoiser(), X[:8], g, order, "eps")),
        ("DEISMultistepScheduler", {}, lambda g: d.deis(MIXTURE.denoiser(), X[:8], g, order)),
    ):
        times, states = theirs(cls, 12, solver_order=order, **kwargs)
        grid = CHAIN.level((torch.tensor(times, dtype=torch.float64) + 1) / 1000)
        assert max((a - b).abs().max() for a, b in zip(solve(grid), states)) < 1e-4, cls


def test_pndm_beside_diffusers():
    # 20 divides 1000; where n does not, diffusers steps by the floor of 1000/n and leaves the grid it was given
    times, states = theirs("PNDMScheduler", 20, skip_prk_steps=True, set_alpha_to_one=True)
    grid = d.with_data(CHAIN.level((torch.tensor([times[0], *times[2:]], dtype=torch.float64) + 1) / 1000))
    assert max((a - b).abs().max() for a, b in zip(d.pndm(MIXTURE.denoiser(), X[:8], grid), states[1:], strict=True)) < 1e-4


@pytest.mark.parametrize("solve, count", [
    (d.heun, lambda n: 2 * n - 1), (d.pndm, lambda n: n + (n > 1)), (d.deis, lambda n: n), (d.unipc, lambda n: n)])
def test_evaluations(solve, count):
    for n in range(1, 21):
        counted = d.CountCalls(MIXTURE.denoiser())
        states = list(solve(counted, X[:2], d.levels(d.LinearVP(), n, to_zero=True)))
        assert counted.calls == count(n) and len(states) == n


# --- guidance -----------------------------------------------------------------------------------------------------

def test_classifier_guidance_is_bayes_rule():
    """With the exact p(k | x_t) of a mixture, scale 1 is the exact conditional denoiser."""
    gm, level, x = mixture(), d.LinearVP().level(0.4), randn(16, 2)
    one = d.GaussianMixture([1.0], gm.means[1:2], gm.covariances[1:2])
    log_prob = lambda x, level: gm.weights[1].log() + one.log_prob(x, level) - gm.log_prob(x, level)
    guided = d.classifier_guidance(gm.denoiser(), log_prob)(x, level)
    assert (guided.mean - one.denoiser()(x, level).mean).abs().max() < 1e-9
    assert (guided.eps - one.denoiser()(x, level).eps).abs().max() < 1e-9


def test_classifier_free_guidance_interpolates_scores():
    gm, level, x = mixture(), d.LinearVP().level(0.4), randn(16, 2)
    one = d.GaussianMixture([1.0], gm.means[1:2], gm.covariances[1:2])
    both = lambda x, level, y=None: (gm if y is None else one).denoiser()(x, level)
    for s in (0.0, 1.0, 3.0):
        score = d.cfg(both, s, y=1)(x, level).score
        assert (score - (1 - s) * gm.denoiser()(x, level).score - s * one.denoiser()(x, level).score).abs().max() < 1e-9


def test_dynamic_threshold_is_idle_inside_and_scales_outside():
    level, x = d.LinearVP().level(0.4), randn(4, 3, 8, 8)
    inside = d.dynamic_threshold(lambda x, level: d.Posterior(x.clamp(-1, 1), x=x, level=level))
    assert torch.equal(inside(x, level).mean, x.clamp(-1, 1))
    outside = d.dynamic_threshold(lambda x, level: d.Posterior(5 * x, x=x, level=level), 0.9)(x, level).mean
    assert outside.abs().max() == pytest.approx(1) and (outside.abs() < 1 - 1e-9).double().mean() == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("call, words", [
    (lambda: d.cfg(None, 2.0), "condition"),
    (lambda: d.classifier_guidance(MIXTURE.denoiser(), lambda x, level: torch.zeros(len(x)))(X, d.LinearVP().level(0.5)), "gradient"),
    (lambda: d.dynamic_threshold(None, 1.5), "quantile"),
    (lambda: list(d.unipc(None, X, d.levels(d.LinearVP(), 3), 4)), "orders"),
    (lambda: list(d.heun(None, X, d.levels(d.LinearVP(), 3)[torch.tensor([3, 1])])), "grid"),
    (lambda: gen() and list(d.pndm(None, X, d.levels(d.LinearVP(), 3)[:1])), "grid"),
])
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
