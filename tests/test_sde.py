"""What holds for SDEs beyond tests/test_continuous.py: Fokker–Planck, weak orders without sampling noise, memory, answers of no use."""

import gc
import math
from functools import partial

import pytest
import torch
from test_laws import gen, mixture, randn

import dpmlib as d

LINEAR = d.LinearVP()
SAMPLERS = {
    "ancestral": lambda f, x, grid: d.ancestral(f, x, grid, generator=gen()),
    "ode_multistep": lambda f, x, grid: d.ode_multistep(f, x, grid, 3),
    "ode_singlestep": lambda f, x, grid: d.ode_singlestep(f, x, grid, 3),
    "sde_multistep": lambda f, x, grid: d.sde_multistep(f, x, grid, 3, generator=gen()),
    "heun": d.heun,
    "pndm": d.pndm,
    "deis": d.deis,
    "unipc": lambda f, x, grid: d.unipc(f, x, grid, 3),
    "euler_maruyama": lambda f, x, grid: d.euler_maruyama(f, x, grid, LINEAR, generator=gen()),
    "reverse_diffusion": lambda f, x, grid: d.reverse_diffusion(f, x, grid, generator=gen()),
    "predictor_corrector": lambda f, x, grid: d.predictor_corrector(f, x, grid, partial(d.ancestral, generator=gen()), generator=gen()),
}
each_sampler = pytest.mark.parametrize("sample", SAMPLERS.values(), ids=SAMPLERS.keys())


def last(states):
    *_, x = states
    return x


def slopes(errors):
    return [math.log2(a / b) for a, b in zip(errors, errors[1:])]


# --- Fokker–Planck --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("zeta", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("schedule", [LINEAR, d.CosineVP(), d.VE(0.02, 5.0), d.SubVP(), d.Flow()], ids=repr)
def test_fokker_planck_holds_to_second_order(schedule, zeta, record_property):
    """∂q/∂t + div(u q) = ½ ζ² g² Δq with u = f x − ½ (1 − ζ²) g² ∇log q, by central differences with steps h in x, y and t."""
    gm, t0, residuals = mixture(), 0.4 * schedule.t_max, []

    def q(x, t):
        return gm.log_prob(x, schedule.level(t)).exp()

    f, g2 = d.drift_diffusion(schedule, t0)
    axis = torch.linspace(-2, 2, 9, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    for h in (0.04, 0.02, 0.01):
        def flux(x):
            score = gm.denoiser()(x, schedule.level(t0)).score
            return (f * x - 0.5 * (1 - zeta**2) * g2 * score) * q(x, t0)[:, None]
        steps = h * torch.eye(2, dtype=torch.float64)
        div = sum((flux(x + e) - flux(x - e))[:, k] for k, e in enumerate(steps)) / (2 * h)
        laplace = sum(q(x + e, t0) - 2 * q(x, t0) + q(x - e, t0) for e in steps) / h**2
        k = 0.25 * h * schedule.t_max
        rate = (q(x, t0 + k) - q(x, t0 - k)) / (2 * k)
        residuals.append((rate + div - 0.5 * zeta**2 * g2 * laplace).square().mean().sqrt().item())
    record_property("slope", slopes(residuals)[-1])
    assert abs(slopes(residuals)[-1] - 2) < 0.15, residuals


# --- weak order, of the samplers themselves and without sampling noise ------------------------------------------------

def coefficients(sample, grid, v0):
    """(a, b²) of each step x ← a x + b z on N(0, v0) data, read off the sampler itself."""
    f, z = d.Gaussian(torch.zeros(1), torch.tensor([[v0]])).denoiser(), torch.randn(1, generator=gen(), dtype=torch.float64).item()
    ends = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    for i in range(len(grid) - 1):
        at_zero, at_one = last(sample(f, ends, grid[i : i + 2])).flatten().tolist()
        yield at_one - at_zero, (at_zero / z) ** 2


def variance_after(sample, grid, v0):
    var = (grid.alpha[0] ** 2 * v0 + grid.sigma[0] ** 2).item()
    for a, b2 in coefficients(sample, grid, v0):
        var = a**2 * var + b2
    return var


@pytest.mark.parametrize("sample", [
    lambda f, x, grid: d.euler_maruyama(f, x, grid, LINEAR, generator=[gen(), gen()]),
    lambda f, x, grid: d.euler_maruyama(f, x, grid, LINEAR, zeta=0.5, generator=[gen(), gen()]),
    lambda f, x, grid: d.reverse_diffusion(f, x, grid, generator=[gen(), gen()]),
    lambda f, x, grid: d.ancestral(f, x, grid, generator=[gen(), gen()]),
    lambda f, x, grid: d.ancestral(f, x, grid, variance=d.n0i_variance(grid), generator=[gen(), gen()]),
    lambda f, x, grid: d.sde_multistep(f, x, grid, 1, generator=[gen(), gen()]),
], ids=["euler_maruyama", "zeta = 0.5", "reverse_diffusion", "ancestral", "ancestral, beta", "sde_multistep"])
def test_samplers_of_the_reverse_sde_have_weak_order_one(sample, record_property):
    errors = []
    for n in (100, 200, 400):
        grid = d.levels(LINEAR, n, t_end=1e-2)
        errors.append(abs(variance_after(sample, grid, 0.25) - (grid.alpha[-1] ** 2 * 0.25 + grid.sigma[-1] ** 2).item()))
    record_property("slope", slopes(errors)[-1])
    assert abs(slopes(errors)[-1] - 1) < 0.15, errors


def test_one_step_of_each_agrees_to_second_order():
    """Euler–Maruyama, reverse diffusion and ancestral sampling: the same a and b² but for O(h²), away from the data."""
    euler = lambda f, x, grid: d.euler_maruyama(f, x, grid, LINEAR, generator=[gen(), gen()])
    for other in (lambda f, x, grid: d.reverse_diffusion(f, x, grid, generator=[gen(), gen()]),
                  lambda f, x, grid: d.ancestral(f, x, grid, generator=[gen(), gen()])):
        gaps = []
        for h in (0.004, 0.002, 0.001):
            grid = d.levels(LINEAR, 1, t_start=0.5, t_end=0.5 - h)
            (a, b2), (other_a, other_b2) = next(coefficients(euler, grid, 0.25)), next(coefficients(other, grid, 0.25))
            gaps.append((abs(a - other_a), abs(b2 - other_b2)))
        for gap in zip(*gaps):
            assert abs(slopes(gap)[-1] - 2) < 0.15, gaps


def test_the_chain_tends_to_the_sde():
    """log ᾱ of DDPM's chain approaches −∫ β dt like 1/N, and its steps have the drift and diffusion of the SDE."""
    gaps = [abs(d.DiscreteVP.linear(N).log_alpha(1.0) - LINEAR.log_alpha(1.0)).item() for N in (250, 500, 1000, 2000, 4000)]
    assert abs(slopes(gaps)[-1] - 1) < 0.1
    chain = d.DiscreteVP.linear(4000)
    t = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    for mine, its in zip(d.drift_diffusion(chain, t), d.drift_diffusion(LINEAR, t)):
        assert (mine / its - 1).abs().max() < 0.01


def test_reversal_of_the_steepest_and_the_straightest_path():
    """Cosine and flow, which test_continuous leaves out: the ends of the reverse SDE have the data's mean and covariance."""
    gm, n = mixture(), 4000
    truth = gm.sample(100_000, gen(9))
    for schedule, start in ((d.CosineVP(), None), (d.Flow(), 0.999)):
        grid = d.levels(schedule, 300, "lam", t_start=start, t_end=2e-3)
        x = d.diffuse(gm.sample(n, gen(1)), grid[0], randn(n, 2, seed=2))
        x = last(d.euler_maruyama(gm.denoiser(), x, grid, schedule, generator=gen(3)))
        error = (x.mean(0) - truth.mean(0)).abs() / (truth.std(0) / n**0.5)
        assert (error < 4).all()
        assert (x.T.cov() - truth.T.cov()).norm() < 0.08 * truth.T.cov().norm()


# --- memory ----------------------------------------------------------------------------------------------------------

def tensors_alive(shape):
    return sum(type(o) is torch.Tensor and o.shape == shape for o in gc.get_objects())


def alive_at_the_end(states, shape, steps):
    """How many tensors of this shape live while the last but one state is the caller's."""
    before = tensors_alive(shape)
    for _ in range(steps - 1):
        x = next(states)
    count = tensors_alive(shape) - before
    assert x.shape == shape
    return count


SHAPE = torch.Size([7, 11])
ODE = d.probability_flow(lambda x, level: d.Posterior(0.5 * x, x=x, level=level), LINEAR)
STEPS = {
    **{name: (lambda x, n, sample=sample: sample(lambda x, level: d.Posterior(0.5 * x, x=x, level=level), x, d.levels(LINEAR, n, "lam")))
       for name, sample in SAMPLERS.items() if name != "ode_singlestep"},
    "ode_singlestep": lambda x, n: d.ode_singlestep(lambda x, level: d.Posterior(0.5 * x, x=x, level=level), x,
                                                    d.levels(LINEAR, 2 * n, "lam"), [2] * n),
    "langevin": lambda x, n: d.langevin(lambda x, level: d.Posterior(0.5 * x, x=x, level=level), x, LINEAR.level(0.5), n, generator=gen()),
    "forward_sde": lambda x, n: d.forward_sde(x, LINEAR, torch.linspace(0, 1, n + 1), gen()),
    "runge_kutta": lambda x, n: d.runge_kutta(ODE, x, torch.linspace(1, 0.1, n + 1)),
}


@pytest.mark.parametrize("name", STEPS)
def test_memory_does_not_grow_with_the_steps(name, record_property):
    x = torch.ones(SHAPE, dtype=torch.float64)
    few, many = (alive_at_the_end(iter(STEPS[name](x, n)), SHAPE, n) for n in (10, 150))
    record_property("tensors", many)
    assert few == many <= 8


# --- bad input ---------------------------------------------------------------------------------------------------------

def spoilt(how, below):
    """A denoiser that gives nonsense once t is below `below`."""
    def answer(x, level):
        mean = 0.5 * x
        if level.t < below:
            mean = how(mean)
        return d.Posterior(mean, x=x, level=level)
    return answer


@each_sampler
@pytest.mark.parametrize("how, error", [
    (lambda m: m * torch.nan, FloatingPointError),
    (lambda m: torch.where(m > m.min(), m, torch.inf), FloatingPointError),
    (lambda m: m[:, :1], ValueError),  # would broadcast
    (lambda m: m[:1], ValueError),
], ids=["NaN", "infinity", "one coordinate", "one sample"])
def test_an_answer_of_no_use_is_named(sample, how, error):
    grid = d.levels(LINEAR, 10)
    with pytest.raises(error, match=r"step 6, t = 0\.40"):
        last(sample(spoilt(how, 0.45), randn(3, 2), grid))


@each_sampler
def test_a_network_of_another_shape_is_named(sample):
    network = d.Denoiser(lambda x, t: x if t[0] > 0.45 else x[:, :1], LINEAR)
    with pytest.raises(ValueError, match=r"step 6, t = 0\.40.*net returned shape \(3, 1\) for x of shape \(3, 2\)"):
        last(sample(network, randn(3, 2), d.levels(LINEAR, 10)))


@each_sampler
def test_samplers_run_in_inference_mode(sample):
    with torch.inference_mode():
        assert last(sample(mixture().denoiser(), randn(3, 2), d.levels(LINEAR, 4))).isfinite().all()


@each_sampler
def test_a_grid_in_the_wrong_order_is_named(sample):
    grid = d.levels(LINEAR, 10)
    for order in (torch.arange(10, -1, -1), torch.tensor([0, 1, 3, 2, 4, 5, 6, 7, 8, 9, 10]), torch.tensor([0, 1, 1, 2])):
        with pytest.raises(ValueError, match="grid"):
            last(sample(mixture().denoiser(), randn(3, 2), grid[order]))


def test_a_device_waits_for_the_flag_at_the_last_step_only(monkeypatch):
    """Off the CPU nothing is read before the last step; there the first bad step is named. Shown with the meta of a fake device."""
    from dpmlib.denoiser import watched

    class Elsewhere(torch.Tensor):  # a tensor on the CPU that says it is not
        @property
        def device(self):
            return torch.device("cuda")

    grid, x = d.levels(LINEAR, 10), randn(3, 2).as_subclass(Elsewhere)
    ask = watched(lambda x, level: d.Posterior(x * (torch.nan if level.t < 0.45 else 1.0), x=x, level=level), grid)
    for level in grid[:9]:
        ask(x, level)
    with pytest.raises(FloatingPointError, match=r"step 6, t = 0\.40"):
        ask(x, grid[9])


@pytest.mark.parametrize("t", [-0.1, 1.1, math.nan])
def test_times_outside_the_schedule_are_named(t):
    for call in (lambda: d.drift_diffusion(LINEAR, t), lambda: LINEAR.level(t), lambda: d.levels(LINEAR, 5, t_end=t),
                 lambda: last(d.forward_sde(randn(2, 2), LINEAR, [0.5, t] if not t < 0 else [t, 0.5], gen())),
                 lambda: ODE(randn(2, 2), torch.tensor(t, dtype=torch.float64))):
        with pytest.raises(ValueError, match="t =|t_end|times|outside"):
            call()


@pytest.mark.parametrize("schedule", [LINEAR, d.CosineVP(), d.VE(), d.DiscreteVP.linear(100)], ids=repr)
def test_a_lam_outside_the_schedule_is_named(schedule):
    field = d.probability_flow(mixture().denoiser(), schedule, "lam")
    end = schedule.lam(schedule.t_max)
    assert field(randn(2, 2), end).isfinite().all()  # the end itself, whatever rounding makes of its time
    with pytest.raises(ValueError, match="outside"):
        field(randn(2, 2), end - 0.1)
