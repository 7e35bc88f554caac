"""The solvers that stand beside DPM-Solver: Heun (EDM), PNDM, DEIS, UniPC.

All solve the same ODE over the same levels. In y = x/α and ρ = σ/α it reads dy/dρ = ε̂, which is where Heun, PNDM and DEIS
live; UniPC adds to the exponential multistep method a corrector that costs no evaluation.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .levels import Levels, check_grid
from .solvers import _apply, _multistep_plan, _predict, _step, ode_multistep


def _transfer(x: Tensor, eps: Tensor, here: Levels, there: Levels) -> Tensor:
    """DDIM's step with a given ε: y + (ρ_t − ρ_s) ε, in x."""
    a = there.alpha / here.alpha
    return torch.add(a * x, eps, alpha=float(there.sigma - a * here.sigma))


def heun(denoiser, x: Tensor, grid: Levels) -> Iterator[Tensor]:
    """Heun's method in ρ = σ/α (Karras et al. 2022, algorithm 1 without churn); yields each state.

    Two evaluations a step, one in a step that ends at the data: 2n, or 2n − 1, for n steps. On a VE grid this is EDM's own.
    """
    check_grid(grid)
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
    past = []  # newest first
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
