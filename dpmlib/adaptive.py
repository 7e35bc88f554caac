"""DPM-Solver-12 and -23: steps that measure their own error and choose their own length (Lu et al. 2022a, appendix C).

A step of order k−1 and one of order k share their evaluations; the difference of the two estimates the error of the lower one,
O(h^k). Accepted if it is within tolerance, and in either case the next attempt has h ← θ h E^{−1/k}.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .levels import Levels
from .posterior import Posterior
from .schedules import Schedule
from .solvers import _apply, _predict, _step

NODES = {2: (1 / 2,), 3: (1 / 3, 2 / 3)}


class AdaptiveRun(Iterator):
    """What `adaptive` returns: an iterator over the accepted states (B, …), which keeps account of itself.

    `accepted`, `rejected`: steps so far; `evaluations` of the denoiser so far; `grid`: the levels visited, `Levels` of accepted + 1
    entries, on which a solver of fixed steps can run again.
    """

    def __init__(self, start: Levels):
        self.accepted = self.rejected = self.evaluations = 0
        self._visited, self._states = [start], iter(())

    def __next__(self) -> Tensor:
        return next(self._states)

    @property
    def grid(self) -> Levels:
        return Levels(*(torch.stack([getattr(v, name) for v in self._visited]) for name in ("t", "alpha", "sigma", "lam")))


def error_norm(lower: Tensor, higher: Tensor, before: Tensor, rtol: float, atol: float) -> Tensor:
    """The largest over the batch of the RMS of (higher − lower)/δ, δ = max(atol, rtol·max(|lower|, |before|)); at most 1 is good."""
    allowed = (rtol * torch.maximum(lower.abs(), before.abs())).clamp(min=atol)
    return ((higher - lower) / allowed).flatten(1).square().mean(1).sqrt().max()


def adaptive(denoiser: Callable[..., Posterior], x: Tensor, schedule: Schedule, order: int = 3, rtol: float = 0.05,
             atol: float = 0.0078, t_start: float | None = None, t_end: float | None = None, predicts: str = "eps",
             h_init: float = 0.05, theta: float = 0.9, h_min: float = 1e-6) -> AdaptiveRun:
    """Solve the diffusion ODE from x (B, …) at `t_start` to `t_end` with steps in λ chosen on the way; an iterator of states.

    order 2 is DPM-Solver-12, 3 is DPM-Solver-23; the higher method's state is kept. The defaults are the paper's, for images in
    [−1, 1]: `atol` is one grey level of 256. An accepted step costs `order` evaluations, a rejected one `order` − 1, since the
    prediction at its start is kept for the next attempt. The batch walks together, held back by its worst sample: results depend on the
    batch-mates, within the tolerance. `t_start`, `t_end` default to the schedule's ends. Tolerances below the rounding of x's dtype
    cannot be met.

    Raises ValueError for order not 2 or 3, rtol or atol <= 0, theta not in (0, 1), h_init or h_min <= 0, infinite λ at an end;
    FloatingPointError, naming λ, where a state is not finite or a step would have to be shorter than `h_min`.
    """
    if order not in NODES:
        raise ValueError(f"order = {order}: DPM-Solver-12 is order 2, DPM-Solver-23 is order 3")
    if not (rtol > 0 and atol > 0):
        raise ValueError(f"rtol, atol = {rtol}, {atol}: both must be positive")
    if not (0 < theta < 1 and h_init > 0 and h_min > 0):
        raise ValueError(f"theta, h_init, h_min = {theta}, {h_init}, {h_min}: need 0 < theta < 1 and positive steps")
    if predicts not in ("x0", "eps"):
        raise ValueError(f"predicts = {predicts!r}: solvers work on 'x0' or 'eps'")
    start = schedule.level(schedule.t_max if t_start is None else t_start)
    end = schedule.level(schedule.t_end if t_end is None else t_end)
    if not (math.isfinite(start.lam) and math.isfinite(end.lam) and start.lam < end.lam):
        raise ValueError(f"t_start, t_end = {t_start}, {t_end}: λ goes from {start.lam:.6g} to {end.lam:.6g}; need finite λ, increasing")
    run = AdaptiveRun(start)
    run._states = _walk(run, denoiser, x, schedule, end, order, rtol, atol, predicts, h_init, theta, h_min)
    return run


def _pair(denoiser, x, f, here, nodes, there, predicts):
    """(lower, higher) states at `there` from x and its prediction f at `here`, with one evaluation at each of `nodes`."""
    r = 1.0 if predicts == "x0" else -1.0

    def advance(target, known, predictions, rule="midpoint"):
        a, b = _step(here, target, known, predicts, r, rule)
        return _apply(x, float(a), b.tolist(), predictions)

    inner = _predict(denoiser, advance(nodes[0], [here], [f]), nodes[0], predicts)
    middle = advance(there, [here, nodes[0]], [f, inner])
    if len(nodes) == 1:
        return advance(there, [here], [f]), middle
    second = _predict(denoiser, advance(nodes[1], [here, nodes[0]], [f, inner], "taylor"), nodes[1], predicts)
    return middle, advance(there, [here, nodes[1]], [f, second], "taylor")


def _walk(run, denoiser, x, schedule, end, order, rtol, atol, predicts, h, theta, h_min):
    here, before, f = run._visited[0], x, None
    while here.lam < end.lam:
        if f is None:
            f = _predict(denoiser, x, here, predicts)
            run.evaluations += 1
        last = bool(here.lam + h >= end.lam - h_min)
        there = end if last else schedule.level(schedule.t_of_lam(here.lam + h))
        h = float(there.lam - here.lam)
        nodes = [schedule.level(schedule.t_of_lam(here.lam + r * h)) for r in NODES[order]]
        lower, higher = _pair(denoiser, x, f, here, nodes, there, predicts)
        run.evaluations += order - 1
        error = float(error_norm(lower, higher, before, rtol, atol))
        if not math.isfinite(error):
            raise FloatingPointError(f"λ = {float(here.lam):.4g}: the step to {float(there.lam):.4g} gives a state that is not finite")
        if error <= 1:
            x, before, here, f = higher, lower, there, None
            run.accepted += 1
            run._visited.append(here)
            yield x
        else:
            run.rejected += 1
        h *= theta * max(error, 1e-12) ** (-1 / order)
        if h < h_min and here.lam < end.lam:
            raise FloatingPointError(f"λ = {float(here.lam):.4g}: a step of {h:.3g} < h_min = {h_min:g} would be needed; "
                                     f"rtol = {rtol:g}, atol = {atol:g} cannot be met in {str(x.dtype).removeprefix('torch.')}")
