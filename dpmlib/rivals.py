"""The solvers that stand beside DPM-Solver: Heun (EDM), PNDM, DEIS, UniPC.

All solve the same ODE over the same levels. In y = x/α and ρ = σ/α it reads dy/dρ = ε̂, which is where Heun, PNDM and DEIS
live; UniPC adds to the exponential multistep method a corrector that costs no evaluation.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .denoiser import watched
from .levels import Levels, check_grid, with_data
from .solvers import _apply, _multistep_plan, _predict, _step, ode_multistep


def karras(schedule, n: int, rho: float = 7.0, t_end: float | None = None, to_zero: bool = False,
           t_start: float | None = None) -> Levels:
    """EDM's grid (Karras et al. 2022, eq. 5) on any path: n steps, uniform in (σ/α)^{1/ρ}; arguments as for `levels`.

    ρ = 1 is uniform in σ/α, ρ → ∞ uniform in λ. Raises ValueError for n < 1, ρ that is not positive, times out of order, or an end
    where σ/α is 0 or infinite.
    """
    start = schedule.t_max if t_start is None else t_start
    end = schedule.t_end if t_end is None else t_end
    if n < 1 or not 0 < rho < float("inf"):
        raise ValueError(f"n, rho = {n}, {rho}: need n >= 1 and a positive, finite rho")
    if not 0 <= end < start <= schedule.t_max:
        raise ValueError(f"t_start = {start}, t_end = {end}: need 0 <= t_end < t_start <= {schedule.t_max:g}")
    first, last = (-schedule.lam(start)).exp(), (-schedule.lam(end)).exp()
    if not (first.isfinite() and last > 0):
        raise ValueError(f"t_start = {start}, t_end = {end}: σ/α is {first:g} and {last:g} there, must be positive and finite")
    count = n if to_zero else n + 1
    uniform = torch.linspace(0, 1, count, dtype=torch.float64) if count > 1 else torch.zeros(1, dtype=torch.float64)
    noise = (first ** (1 / rho) + uniform * (last ** (1 / rho) - first ** (1 / rho))) ** rho
    t = schedule.t_of_lam(-noise.log())
    t[0] = start  # the ends are given, not recomputed
    if count > 1:
        t[-1] = end
    grid = schedule.level(t)
    return with_data(grid) if to_zero else grid


def _transfer(x: Tensor, eps: Tensor, here: Levels, there: Levels) -> Tensor:
    """DDIM's step with a given ε: y + (ρ_t − ρ_s) ε, in x."""
    a = there.alpha / here.alpha
    return _apply(x, float(a), [float(there.sigma - a * here.sigma)], [eps])


def heun(denoiser, x: Tensor, grid: Levels) -> Iterator[Tensor]:
    """Heun's method in ρ = σ/α (Karras et al. 2022, algorithm 1 without churn); yields each state.

    Two evaluations a step, one in a step that ends at the data: 2n, or 2n − 1, for n steps. On a VE grid this is EDM's own.
    """
    check_grid(grid)
    denoiser = watched(denoiser, grid)
    for here, there in zip(grid, grid[1:]):
        slope = denoiser(x, here).eps
        ahead = _transfer(x, slope, here, there)
        if there.sigma > 0:
            ahead = _transfer(x, (slope + denoiser(ahead, there).eps) / 2, here, there)
        x = ahead
        yield x


# Adams–Bashforth on equal steps, newest first
ADAMS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def pndm(denoiser, x: Tensor, grid: Levels) -> Iterator[Tensor]:
    """PLMS, the linear multistep half of PNDM (Liu et al. 2022); yields each state. n + 1 evaluations for n > 1 steps.

    ε's are combined as Adams and Bashforth would on equal steps of time, whatever the grid's, and DDIM carries the state. The
    first step is one of Heun's, after which two, three and four ε's are known.
    """
    check_grid(grid)
    past, denoiser = [], watched(denoiser, grid)  # newest first
    for i, (here, there) in enumerate(zip(grid, grid[1:])):
        past = [denoiser(x, here).eps, *past][:4]
        eps = sum(w * e for w, e in zip(ADAMS[len(past) - 1], past))
        if i == 0 and there.sigma > 0:
            eps = (eps + denoiser(_transfer(x, eps, here, there), there).eps) / 2
        x = _transfer(x, eps, here, there)
        yield x


def deis(denoiser, x: Tensor, grid: Levels, orders=3) -> Iterator[Tensor]:
    """DEIS with polynomials in log ρ (Zhang and Chen 2023): which is multistep DPM-Solver in ε form with exact moments."""
    yield from ode_multistep(denoiser, x, grid, orders, predicts="eps", rule="taylor")


def unipc(denoiser, x: Tensor, grid: Levels, orders: int | Sequence[int] = 2, predicts: str = "x0") -> Iterator[Tensor]:
    """UniPC, its B₂ variant (Zhao et al. 2023), one evaluation a step; yields each corrected state.

    The prediction made at a new level serves twice: to correct the step that led there, with the new level as one more node of the
    weights, and to take the next step. The last state is predicted only: nothing is evaluated there. `orders` are the predictor's, as for
    `ode_multistep`; the corrector's are one higher.
    """
    orders = _multistep_plan(grid, orders, predicts, "midpoint")
    r, plan = 1.0 if predicts == "x0" else -1.0, []
    for i, p in enumerate(orders):
        known = [grid[j] for j in range(i, i - p, -1)]
        steps = [_step(grid[i], grid[i + 1], known, predicts, r, "midpoint")]
        if i + 2 < len(grid):
            steps.append(_step(grid[i], grid[i + 1], [*known, grid[i + 1]], predicts, r, "midpoint"))
        plan.append([(float(a), b.tolist()) for a, b in steps])
    past, ahead, correct = [], x, None  # x: corrected, ahead: predicted
    denoiser = watched(denoiser, grid)
    for here, p, (predictor, *corrector) in zip(grid, orders, plan):
        new = _predict(denoiser, ahead, here, predicts)
        if correct is not None:
            x = correct(new)
            yield x
        past = [new, *past][:3]
        ahead = _apply(x, *predictor, past[:p])
        if corrector:
            correct = lambda f, x=x, step=corrector[0], known=past[:p]: _apply(x, *step, [*known, f])
    yield ahead
