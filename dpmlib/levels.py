"""Levels of noise as data: solvers and losses read (t, α, σ, λ) and never compute a schedule."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Levels:
    """Times and coefficients of x_t = α x_0 + σ ε; four float64 tensors of one shape.

    Shape () is one level for a whole batch, (B,) one level per sample, (n+1,) a grid, noisy → clean.
    Indexing, slicing and iterating act on the four together: `zip(grid, grid[1:])` walks a grid's steps.
    """

    t: Tensor
    alpha: Tensor
    sigma: Tensor
    lam: Tensor

    def __getitem__(self, index) -> "Levels":
        return Levels(self.t[index], self.alpha[index], self.sigma[index], self.lam[index])

    def __len__(self) -> int:
        return len(self.t)

    def __iter__(self) -> Iterator["Levels"]:
        return map(Levels, self.t, self.alpha, self.sigma, self.lam)


def levels(schedule, n: int, spacing: str = "time", t_end: float | None = None, to_zero: bool = False,
           t_start: float | None = None) -> Levels:
    """A grid of n steps, n + 1 levels, from `t_start` (default: the schedule's noisy end) to `t_end`.

    `spacing`: uniform in "time", in "lam" (λ), or in √t ("quad", denser near the data).
    With `to_zero` the last of the n steps goes from `t_end` to the data themselves, (α, σ) = (1, 0); so
    `levels(DiscreteVP.linear(1000), 1000, to_zero=True)` is the whole chain n = 1000, …, 1, 0.
    `t_end` defaults to the schedule's own (1/N for a chain, 1e-3 for continuous paths).

    Raises ValueError for n < 1, an unknown spacing, times out of order or outside the schedule.
    """
    if n < 1:
        raise ValueError(f"n = {n}: a grid has at least one step")
    start = schedule.t_max if t_start is None else t_start
    end = schedule.t_end if t_end is None else t_end
    if not 0 <= end < start <= schedule.t_max:
        raise ValueError(f"t_start = {start}, t_end = {end}: need 0 <= t_end < t_start <= {schedule.t_max:g}")
    count = n if to_zero else n + 1
    uniform = torch.linspace(0, 1, count, dtype=torch.float64) if count > 1 else torch.zeros(1, dtype=torch.float64)
    if spacing == "time":
        t = start + (end - start) * uniform
    elif spacing == "quad":
        t = (start**0.5 + (end**0.5 - start**0.5) * uniform) ** 2
    elif spacing == "lam":
        first, last = schedule.lam(start), schedule.lam(end)
        if not (first.isfinite() and last.isfinite()):
            raise ValueError(f"lam spacing from λ = {first:g} to {last:g}: both ends must be finite, move t_start or t_end")
        t = schedule.t_of_lam(first + (last - first) * uniform)
    else:
        raise ValueError(f"spacing = {spacing!r}: choose 'time', 'lam' or 'quad'")
    t[0] = start  # the ends are given, not recomputed
    if count > 1:
        t[-1] = end
    grid = schedule.level(t)
    if to_zero and grid.sigma[-1] == 0:
        raise ValueError(f"t_end = {end} with to_zero: that level is the data already, give a later t_end")
    return with_data(grid) if to_zero else grid


def with_data(grid: Levels) -> Levels:
    """`grid` with the data themselves appended: t = 0, (α, σ) = (1, 0), λ = ∞."""
    ends = (0.0, 1.0, 0.0, torch.inf)
    return Levels(*(torch.cat([v, v.new_tensor([e])]) for v, e in zip((grid.t, grid.alpha, grid.sigma, grid.lam), ends)))


def check_grid(grid: Levels) -> None:
    """Raise ValueError unless `grid` has at least two levels and gets strictly cleaner from each to the next."""
    if grid.t.ndim != 1 or len(grid) < 2:
        raise ValueError(f"grid of shape {tuple(grid.t.shape)}: need a vector of at least two levels")
    wrong = ~(grid.lam[1:] > grid.lam[:-1])
    if bool(wrong.any()):
        i = int(wrong.nonzero()[0])
        raise ValueError(f"grid step {i}: λ goes from {grid.lam[i]:.6g} to {grid.lam[i + 1]:.6g}; "
                         "a grid runs from noise to data, λ strictly increasing")


def per_sample(value: Tensor, x: Tensor) -> Tensor:
    """`value` of shape () or (B,), made to multiply `x` of shape (B, …): its own dtype if scalar, else that of `x`.

    A zero-dimensional float64 tensor leaves the dtype of `x` alone and never touches the device.
    """
    if value.ndim == 0:
        return value
    if value.shape != x.shape[:1]:
        raise ValueError(f"level of shape {tuple(value.shape)} for x of shape {tuple(x.shape)}: need () or ({len(x)},)")
    return value.to(x).reshape(-1, *[1] * (x.ndim - 1))


def combine(a: Tensor, x: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """a·x + b·y, for coefficients of shape () or (B,) and x, y of shape (B, …); two passes over memory, not three."""
    if x.dtype.itemsize < 4:  # both terms may be larger than float16 can hold, where their sum is not
        return combine(a, x.float(), b, y.float()).to(x.dtype)
    if a.ndim == b.ndim == 0:
        scaled = float(a) * x
        if scaled.shape == y.shape and scaled.dtype == y.dtype:
            return scaled.add_(y, alpha=float(b))  # in place: nothing is allocated
        return torch.add(scaled, y, alpha=float(b))
    return torch.addcmul(per_sample(a, x) * x, per_sample(b, x), y)


def diffuse(x0: Tensor, level: Levels, noise: Tensor) -> Tensor:
    """x_t = α_t x_0 + σ_t ε. `x0`, `noise`: (B, …); `level`: () or (B,)."""
    if noise.shape != x0.shape:
        raise ValueError(f"noise of shape {tuple(noise.shape)} for x0 of shape {tuple(x0.shape)}: they must agree")
    return combine(level.alpha, x0, level.sigma, noise)
