"""The optimal reverse variance (Bao et al. 2022a): a formula in the score alone, its estimate, its bounds, its clipping.

For the kernel with noise ω² the ELBO is greatest at σ*² = ω² + γ² c, c = E Var[x_0 | x_t] / d (moment matching and the law of
total variance). With Tweedie's formulas c = (σ²/α²)(1 − σ² Γ), Γ = E‖∇log q_t(x_t)‖² / d: one number per level.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from .ancestral import kernel
from .levels import Levels, diffuse
from .noise import normal_like
from .posterior import Posterior


class Gamma(NamedTuple):
    """Γ at each noisy level of a grid, and the standard error of its Monte Carlo estimate; both (n,) float64."""

    value: Tensor
    stderr: Tensor


def gamma(denoiser, data: Tensor, grid: Levels, generator: torch.Generator | None = None, batch: int = 256) -> Gamma:
    """Γ = E‖ε̂‖²/(d σ²) at every level of `grid` with σ > 0 save a last one that no step leaves, from one noise draw per datum.

    `data` (M, …) is streamed in batches; ε̂ must not be clipped (theorem 1 is about the score as it is). The data's M noise draws
    are shared by all levels, which keeps the curve smooth; the standard error of a level is not affected.

    Raises ValueError for fewer than two data or a batch < 1.
    """
    if len(data) < 2 or batch < 1:
        raise ValueError(f"{len(data)} data, batch = {batch}: need at least two data and batch >= 1")
    levels = [level for level in grid[:-1] if level.sigma > 0]
    total, squares = torch.zeros(2, len(levels), dtype=torch.float64)
    for x0 in data.split(batch):
        noise = normal_like(x0, generator)
        for i, level in enumerate(levels):
            eps = denoiser(diffuse(x0, level, noise), level).eps
            size = eps.double().square().reshape(len(x0), -1).mean(1)
            total[i] += size.sum().cpu()
            squares[i] += size.square().sum().cpu()
    mean = total / len(data)
    deviation = ((squares / len(data) - mean**2).clamp(min=0) * len(data) / (len(data) - 1)).sqrt()
    sigma2 = torch.stack([level.sigma for level in levels]).cpu() ** 2
    return Gamma(mean / sigma2, deviation / math.sqrt(len(data)) / sigma2)


def _gamma_table(gamma, grid: Levels) -> Tensor:
    value = torch.as_tensor(gamma.value if isinstance(gamma, Gamma) else gamma, dtype=torch.float64)
    if value.shape != (len(grid) - 1,):
        raise ValueError(f"gamma of shape {tuple(value.shape)} for a grid of {len(grid) - 1} steps: one entry per step")
    if not bool((value >= 0).all()):
        raise ValueError("gamma holds negative entries or NaN: it is a mean of squares")
    return value


def posterior_variance(gamma, grid: Levels, most: float = 1.0) -> Tensor:
    """c = (σ²/α²)(1 − σ² Γ) at each step, (n,), the isotropic part of Cov[x_0 | x_t], clamped to [0, `most`].

    Data in [−1, 1] have variance at most 1 (Popoviciu); without the clamp 1/α² ≈ 2.5·10⁴ at the noisy end turns the Monte Carlo
    error of Γ into nonsense. Pass it to `ancestral` and `elbo` as `variance`.
    """
    value, t = _gamma_table(gamma, grid), grid[:-1]
    return ((t.sigma / t.alpha) ** 2 * (1 - t.sigma**2 * value)).clamp(0, most)


def reverse_variance(gamma, grid: Levels, eta: float = 1.0, most: float = 1.0) -> Tensor:
    """σ*² = ω² + γ² c of each step of `grid`, (n,): theorem 1 of Bao et al. 2022a, for every η and every sub-trajectory.

    `gamma`: a `Gamma` or (n,) entries for grid[:-1], of a chain's table the entries at the levels visited.
    """
    k = kernel(grid, eta)
    return k.omega2 + k.gamma**2 * posterior_variance(gamma, grid, most)


def variance_bounds(grid: Levels, eta: float = 1.0, data_range: tuple[float, float] | None = None,
                    data_variance: float | None = None) -> tuple[Tensor, Tensor]:
    """Lower and upper bound of σ*² at each step, (n,) each, whatever the data (theorem 2 of Bao et al. 2022a).

    c ≥ 0 gives ω², attained by data that are a point; Γ ≥ 0 gives ω² + γ² σ²/α². Data in [a, b]^d tighten the latter by
    c ≤ ((b − a)/2)²; data of a known variance v = tr Cov[x_0]/d by c ≤ v σ²/(v α² + σ²), attained by N(m, v I).

    Raises ValueError for a range that is empty or a variance that is not positive.
    """
    k, t = kernel(grid, eta), grid[:-1]
    most = (t.sigma / t.alpha) ** 2
    if data_range is not None:
        low, high = data_range
        if not low < high:
            raise ValueError(f"data_range = {data_range}: need low < high")
        most = most.clamp(max=((high - low) / 2) ** 2)
    if data_variance is not None:
        if not 0 < data_variance < math.inf:
            raise ValueError(f"data_variance = {data_variance}: must be positive and finite")
        most = torch.minimum(most, data_variance * t.sigma**2 / (data_variance * t.alpha**2 + t.sigma**2))
    return k.omega2, k.omega2 + k.gamma**2 * most


def clip_last(variance, grid: Levels, eta: float = 1.0, pixels: float = 2.0, steps: int = 1) -> Tensor:
    """`variance` (c per step) lowered so that the last noisy steps disturb no pixel by more than `pixels` of 255 on average.

    E|z| = std √(2/π), so their std is at most pixels·(2/255)·√(π/2) (Bao et al. 2022a, app. A.2: 2 for DDPM on the linear schedule, 1
    for DDIM or the cosine schedule). Where ω² alone is larger, c becomes 0. A step that ends at the data adds no noise.

    Raises ValueError for negative or misshapen variances, pixels < 0 or steps < 0.
    """
    if not pixels >= 0 or steps < 0:
        raise ValueError(f"pixels = {pixels}, steps = {steps}: neither can be negative")
    k = kernel(grid, eta)
    table = torch.as_tensor(variance, dtype=torch.float64)
    if table.shape not in ((), (len(grid) - 1,)) or not bool((table >= 0).all()):
        raise ValueError(f"variance of shape {tuple(table.shape)}: need a number or one entry per step, ({len(grid) - 1},), none negative")
    table = table.expand(len(grid) - 1).clone()
    last = int((grid.sigma[1:] > 0).sum())
    most = (pixels * 2 / 255) ** 2 * math.pi / 2
    part = slice(max(0, last - steps), last)
    table[part] = torch.minimum(table[part], ((most - k.omega2[part]) / k.gamma[part] ** 2).clamp(min=0))
    return table


def with_squared_noise(denoiser, head: Callable[[Tensor, Levels], Tensor], most: float = math.inf):
    """SN-DPM (Bao et al. 2022b, theorem 1): `head(x, level)` says h = E[ε² | x_t] per coordinate, so c = (σ²/α²)(h − ε̂²).

    The optimum when ε̂ is exact; for another mean it is too small by 2(σ²/α²) ε̂ (ε̂ − E[ε | x_t]). `head` returns the shape of x, or one
    that broadcasts to it. c is cut to [0, `most`]: a head that says less than ε̂² would make a negative variance, and data in [−1, 1] have
    c ≤ 1. Raises ValueError for another shape, NaN, or most < 0.
    """
    _check_most(most)

    def informed(x, level, **condition) -> Posterior:
        belief = denoiser(x, level, **condition)
        unseen = _said(head, x, level) - belief.eps**2
        return replace(belief, var=((level.sigma / level.alpha) ** 2 * unseen).clamp(0, most), cov=None)

    return informed


def with_residual(denoiser, head: Callable[[Tensor, Levels], Tensor], most: float = math.inf):
    """NPR-DPM (Bao et al. 2022b, theorem 2): `head(x, level)` says g = E[(ε − ε̂)² | x_t] per coordinate, so c = (σ²/α²) g.

    The optimum for this ε̂, exact or not. `head` returns the shape of x, or one that broadcasts to it; c is cut to [0, `most`].
    Raises ValueError for another shape, NaN, or most < 0.
    """
    _check_most(most)

    def informed(x, level, **condition) -> Posterior:
        belief = denoiser(x, level, **condition)
        return replace(belief, var=((level.sigma / level.alpha) ** 2 * _said(head, x, level)).clamp(0, most), cov=None)

    return informed


def with_residual_factor(denoiser, head: Callable[[Tensor, Levels], Tensor]):
    """`head(x, level)` says F (B, d, r) with F Fᵀ ≈ E[(ε − ε̂)(ε − ε̂)ᵀ | x_t], so the full covariance of x_0 is (σ²/α²) F Fᵀ.

    Positive semidefinite whatever F is; r < d leaves directions without variance, which `elbo` refuses in its last term. Its diagonal is
    the `var` of `with_residual`. Raises ValueError for another shape or NaN.
    """
    def informed(x, level, **condition) -> Posterior:
        belief, factor = denoiser(x, level, **condition), head(x, level)
        if factor.ndim != 3 or factor.shape[:2] != (len(x), x[0].numel()) or bool(factor.isnan().any()):
            raise ValueError(f"head gave shape {tuple(factor.shape)}, or NaN, for x of shape {tuple(x.shape)}: "
                             f"need (B, d, r) with d = {x[0].numel()}")
        cov = (level.sigma / level.alpha) ** 2 * factor @ factor.mT
        return replace(belief, var=cov.diagonal(dim1=1, dim2=2).reshape(x.shape), cov=cov)

    return informed


def _check_most(most):
    if not most >= 0:
        raise ValueError(f"most = {most}: the largest variance allowed must be at least 0")


def _said(head, x, level) -> Tensor:
    """What `head` says of `x`, if it has a shape that fits."""
    values = head(x, level)
    fits = values.ndim == x.ndim and all(n in (1, m) for n, m in zip(values.shape, x.shape))
    if not fits or bool(values.isnan().any()):
        raise ValueError(f"head gave shape {tuple(values.shape)}, or NaN, for x of shape {tuple(x.shape)}: "
                         "need that shape, or 1 in the place of a size")
    return values
