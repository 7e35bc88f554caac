"""The probability-flow ODE, black-box solvers for it, and the likelihood that comes with it.

dx/dt = f x − ½ g² ∇log q_t(x) has the marginals of the SDE (Song et al. 2021, §4.3). With ε̂ = −σ ∇log q_t and λ as clock it
reads dx/dλ = (d log α/dλ) x − σ ε̂. Along it log q changes by −div (Chen et al. 2018), so log q_0 is an integral.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from .schedules import Schedule

# Butcher tableaus: nodes c, rows of A, weights b
TABLEAUS = {
    1: ((0.0,), ((),), (1.0,)),
    2: ((0.0, 1 / 2), ((), (1 / 2,)), (0.0, 1.0)),
    3: ((0.0, 1 / 3, 2 / 3), ((), (1 / 3,), (0.0, 2 / 3)), (1 / 4, 0.0, 3 / 4)),
    4: ((0.0, 1 / 2, 1 / 2, 1.0), ((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}

Field = Callable[[Tensor, Tensor], Tensor]


def _level(schedule, clock, s):
    """The level at clock value `s`, with d log α/d(clock) and d λ/d(clock)."""
    if clock not in ("t", "lam"):
        raise ValueError(f"clock = {clock!r}: choose 't' or 'lam'")
    t = s if clock == "t" else schedule.t_of_lam(s)
    if clock == "lam":  # rounding is mended; a λ that lies outside is left for the schedule to refuse
        inside = t.clamp(0, schedule.t_max)
        t = torch.where((t - inside).abs() < 1e-6 * schedule.t_max, inside, t)
    f, lam_rate = schedule.rates(t)
    return schedule.level(t), (f, lam_rate) if clock == "t" else (f / lam_rate, torch.ones_like(f))


def probability_flow(denoiser, schedule: Schedule, clock: str = "t") -> Field:
    """The field dx/ds of the ODE as a function (x, s), s being time ("t") or λ ("lam").

    dx/ds = (d log α/ds) x − σ ε̂ dλ/ds. Raises FloatingPointError naming the level where the network's answer is not finite.
    """
    _level(schedule, clock, schedule.lam(schedule.t_max / 2) if clock == "lam" else schedule.t_max / 2)

    def field(x, s):
        level, (f, lam_rate) = _level(schedule, clock, s)
        out = f * x - level.sigma * lam_rate * denoiser(x, level).eps
        if not bool(out.isfinite().all()):
            raise FloatingPointError(f"t = {float(level.t):.4g}, λ = {float(level.lam):.4g}: the network's answer is not finite")
        return out

    return field


def runge_kutta(field: Field, x: Tensor, knots: Tensor, order: int = 4) -> Iterator[Tensor]:
    """An explicit Runge–Kutta method of order 1 to 4 from x at knots[0] along `knots`; yields each state.

    A step costs `order` evaluations. `knots` float64, strictly increasing or strictly decreasing. A FloatingPointError of the
    field is raised with the number of the step.
    """
    if order not in TABLEAUS:
        raise ValueError(f"order = {order}: choose 1, 2, 3 or 4")
    knots = torch.as_tensor(knots, dtype=torch.float64)
    if knots.ndim != 1 or len(knots) < 2 or not (bool((knots.diff() > 0).all()) or bool((knots.diff() < 0).all())):
        raise ValueError(f"knots of shape {tuple(knots.shape)}: need at least two, all increasing or all decreasing")
    nodes, rows, weights = TABLEAUS[order]
    for i, (s, h) in enumerate(zip(knots, knots.diff())):
        slopes = []
        for c, row in zip(nodes, rows):
            inner = x
            for a, slope in zip(row, slopes):
                inner = inner + float(a * h) * slope if a else inner
            try:
                slopes.append(field(inner, s + c * h))
            except FloatingPointError as error:
                raise FloatingPointError(f"step {i}, {error}") from None
        for b, slope in zip(weights, slopes):
            x = x + float(b * h) * slope if b else x
        yield x


def solve_adaptive(field: Field, x: Tensor, start: float, end: float, rtol: float = 1e-5, atol: float = 1e-5,
                   method: str = "RK45") -> tuple[Tensor, int]:
    """Adaptive integration by `scipy.integrate.solve_ivp`; returns x at `end` and the number of evaluations of the field.

    The whole batch is one system: step sizes, and so results within the tolerance, depend on the batch-mates.
    """
    def flat(s, values):
        state = torch.as_tensor(values, dtype=x.dtype, device=x.device).reshape(x.shape)
        return field(state, torch.tensor(s, dtype=torch.float64)).detach().double().cpu().numpy().ravel()

    solution = solve_ivp(flat, (float(start), float(end)), x.detach().double().cpu().numpy().ravel(), method, rtol=rtol, atol=atol)
    if not solution.success:
        raise FloatingPointError(f"the adaptive solver stopped at {solution.t[-1]:.4g}: {solution.message}")
    return torch.as_tensor(np.ascontiguousarray(solution.y[:, -1]), dtype=x.dtype, device=x.device).reshape(x.shape), solution.nfev


def divergence(field: Field, x: Tensor, s: Tensor, probes: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(field, its divergence (B,)) at x (B, …): exact by d backward passes, or averaged over `probes` (K, B, …).

    With E v vᵀ = I, E vᵀ J v = tr J (Hutchinson 1989); each probe costs one backward pass.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        out = field(x, s)
        if probes is None:
            flat = out.reshape(len(x), -1)
            trace = sum(torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)[0].reshape(len(x), -1)[:, i]
                        for i in range(flat.shape[1]))
        else:
            trace = sum((torch.autograd.grad((out * v).sum(), x, retain_graph=True)[0] * v).reshape(len(x), -1).sum(1)
                        for v in probes) / len(probes)
    return out.detach(), trace.detach()


def rademacher(x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` probes of independent signs, (count, *x.shape): of all probes with E v vᵀ = I these have the least variance."""
    if count < 1:
        raise ValueError(f"count = {count}: need at least one probe")
    return 2.0 * torch.randint(2, (count, *x.shape), generator=generator, device=generator.device).to(x) - 1


def ode_log_prob(denoiser, x: Tensor, schedule: Schedule, steps: int = 100, order: int = 4, clock: str = "lam",
                 t_start: float | None = None, t_end: float | None = None, prior: Callable[[Tensor], Tensor] | None = None,
                 probes: int | str | Tensor = "exact", generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """log q_{t_end}(x) of the probability-flow ODE in nats, (B,), and the latents x_T (B, …).

    log q(x_{t_end}) = log p(x_T) + ∫ div dx/ds ds, x and the integral advanced together by Runge–Kutta along `steps` equal steps
    of `clock` from `t_end` (default: the schedule's) to `t_start` (default: t_max).

    `probes`: "exact" takes the divergence by d backward passes; a number K by K Rademacher probes, drawn once and kept along the
    path, and a tensor (K, B, …) by these; "posterior" by the identity ∂E[x_0|x_t]/∂x_t = (α/σ²) Cov[x_0|x_t] from a denoiser
    that fills `Posterior.var`, with no backward pass at all. `prior`: log p(x_T), by default N(0, σ_T² I).

    Raises ValueError for a bad clock, order, number of steps or probes, or a denoiser without variance for "posterior".
    """
    if isinstance(probes, Tensor):
        if probes.ndim != x.ndim + 1 or probes.shape[1:] != x.shape or not len(probes):
            raise ValueError(f"probes of shape {tuple(probes.shape)} for x of shape {tuple(x.shape)}: need (K, *x.shape), K >= 1")
        fixed = probes
    elif probes in ("exact", "posterior"):
        fixed = None
    elif isinstance(probes, int) and probes >= 1:
        fixed = rademacher(x, probes, generator)
    else:
        raise ValueError(f"probes = {probes!r}: choose 'exact', 'posterior', a number >= 1 or a tensor (K, *x.shape)")
    if steps < 1:
        raise ValueError(f"steps = {steps}: need at least one")
    start, end = schedule.t_max if t_start is None else t_start, schedule.t_end if t_end is None else t_end
    ends = (end, start) if clock == "t" else (schedule.lam(end).item(), schedule.lam(start).item())
    if not all(map(math.isfinite, ends)):
        raise ValueError(f"clock = {clock!r} from {ends[0]} to {ends[1]}: both ends must be finite, move t_start or t_end")
    field, dims = probability_flow(denoiser, schedule, clock), x[0].numel()

    def augmented(state, s):
        inner = state[:, :dims].reshape(x.shape)
        if isinstance(probes, str) and probes == "posterior":
            velocity, trace = _posterior_divergence(denoiser, schedule, clock, inner, s)
        else:
            velocity, trace = divergence(field, inner, s, fixed)
        return torch.cat([velocity.reshape(len(x), -1), trace[:, None]], dim=1)

    state = torch.cat([x.detach().reshape(len(x), -1), x.new_zeros(len(x), 1)], dim=1)
    for end_state in runge_kutta(augmented, state, torch.linspace(*ends, steps + 1, dtype=torch.float64), order):
        state = end_state
    latent = state[:, :dims].reshape(x.shape)
    if prior is None:
        sigma = schedule.sigma(start)
        log_prior = -0.5 * (state[:, :dims] / sigma).square().sum(1) - dims * (0.5 * math.log(2 * math.pi) + sigma.log())
    else:
        log_prior = prior(latent)
    return log_prior + state[:, dims], latent


def _posterior_divergence(denoiser, schedule, clock, x, s):
    level, (f, lam_rate) = _level(schedule, clock, s)
    belief = denoiser(x, level)
    if belief.var is None:
        raise ValueError("probes = 'posterior': this denoiser gives no variance; ask an oracle for covariance='diagonal'")
    dims = x[0].numel()
    total = torch.as_tensor(belief.var).to(x).expand(x.shape).reshape(len(x), -1).sum(1)
    trace_of_eps = (dims - (level.alpha / level.sigma) ** 2 * total) / level.sigma
    return f * x - level.sigma * lam_rate * belief.eps, f * dims - level.sigma * lam_rate * trace_of_eps
