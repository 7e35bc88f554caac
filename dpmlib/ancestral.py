"""One ancestral kernel: DDPM, DDIM, Analytic-DPM, SN-DPM and NPR-DPM differ only in c = Var[x_0 | x_t].

The family q_ω(x_s | x_t, x_0) = N(α_s x_0 + √(σ_s² − ω²)·ε, ω² I), ε = (x_t − α_t x_0)/σ_t, has the right marginals for every
0 ≤ ω² ≤ σ_s² (Song, Meng and Ermon 2021). Written in x_0 and x_t its mean is γ x_0 + κ x_t. Averaging over a belief
N(x̂_0, c) about x_0 gives the reverse kernel N(γ x̂_0 + κ x_t, ω² + γ² c) (Bao et al. 2022).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .denoiser import watched
from .levels import Levels, check_grid, combine
from .noise import normal_like


@dataclass(frozen=True, eq=False)
class Kernel:
    """Coefficients of the reverse kernel for each step of a grid, float64 (n,): mean = γ x̂_0 + κ x_t, var = ω² + γ² c."""

    gamma: Tensor
    kappa: Tensor
    omega2: Tensor


def kernel(grid: Levels, eta: float = 1.0) -> Kernel:
    """The kernel from each level of `grid` to the next, with ω² = η² β̃ and β̃ = σ_s² σ_{t|s}² / σ_t².

    η = 1 is DDPM, η = 0 is DDIM. Raises ValueError where ω² would exceed σ_s² (η too large) or η < 0.
    """
    check_grid(grid)
    if not eta >= 0:
        raise ValueError(f"eta = {eta}: must be at least 0")
    t, s = grid[:-1], grid[1:]
    ratio = t.alpha / s.alpha
    # σ_{t|s}² = σ_t² − (α_t/α_s)² σ_s², written with expm1 so that neighbouring levels do not cancel
    between = -(t.sigma**2) * torch.expm1(2 * (t.lam - s.lam))
    omega2 = eta**2 * (s.sigma / t.sigma) ** 2 * between
    rest = s.sigma**2 - omega2
    if bool((rest < -1e-12 * s.sigma**2).any()):
        raise ValueError(f"eta = {eta}: the noise ω² of a step exceeds σ_s²; on this grid eta must be smaller")
    if eta == 1:  # exact: √(σ_s² − β̃) = (α_t/α_s) σ_s² / σ_t
        kappa = ratio * (s.sigma / t.sigma) ** 2
        gamma = s.alpha * between / t.sigma**2
    else:
        kappa = rest.clamp(min=0).sqrt() / t.sigma
        gamma = s.alpha - kappa * t.alpha
    return Kernel(gamma, kappa, omega2)


def n0i_variance(grid: Levels) -> Tensor:
    """c = σ²/(α² + σ²) at each step of `grid`, (n,): the posterior variance of data that are N(0, I).

    In the kernel with η = 1 on a variance-preserving path it gives var = β_n, the larger of DDPM's two choices;
    c = 0, data that are a point, gives β̃_n, the smaller (Ho et al. 2020, §3.2).
    """
    t = grid[:-1]
    return t.sigma**2 / (t.alpha**2 + t.sigma**2)


def ancestral(denoiser, x: Tensor, grid: Levels, eta: float = 1.0,
              variance: Tensor | Sequence[float] | float | None = None,
              generator: torch.Generator | Sequence[torch.Generator] | None = None) -> Iterator[Tensor]:
    """Walk `x` (B, …), drawn at `grid[0]`, down the grid; yields the state after each of the n steps.

    `variance` is c = Var[x_0 | x_t]: None takes what the denoiser's Posterior says (0 where it says nothing), a number or a
    table (n,) overrides it. No noise is added by a step that ends at the data (σ_s = 0), as in DDPM's algorithm 2.
    `generator` may be None only if no step is random; a sequence holds one generator per sample.

    Raises ValueError for a grid out of order, η outside its range, negative or misshapen variances, a missing generator.
    """
    steps, table = kernel(grid, eta), _table(variance, grid)
    denoiser = watched(denoiser, grid)
    for i, (here, there) in enumerate(zip(grid, grid[1:])):
        belief = denoiser(x, here)
        gamma, kappa, omega2 = steps.gamma[i], steps.kappa[i], steps.omega2[i]
        x = combine(kappa, x, gamma, belief.mean)
        if there.sigma > 0:
            x = _with_noise(x, gamma, omega2, belief, None if table is None else table[i], generator)
        yield x


def _table(variance, grid):
    if variance is None:
        return None
    table = torch.as_tensor(variance, dtype=torch.float64).cpu()
    if table.ndim == 0:
        table = table.expand(len(grid) - 1)
    if table.shape != (len(grid) - 1,) or not bool((table >= 0).all()):
        raise ValueError(f"variance of shape {tuple(table.shape)}: need a number or one entry per step, ({len(grid) - 1},), none negative")
    return table


def _with_noise(x, gamma, omega2, belief, c, generator):
    """`x` plus a draw of N(0, ω² + γ² c)."""
    if c is None and belief.cov is not None:
        root = torch.linalg.cholesky(omega2 * torch.eye(belief.cov.shape[-1]).to(belief.cov) + gamma**2 * belief.cov)
        z = normal_like(x, generator)
        return x + (root @ z.reshape(len(z), -1, 1)).reshape(x.shape)
    if c is None:
        c = 0.0 if belief.var is None else belief.var
    std = (omega2 + gamma**2 * c).sqrt()
    if std.ndim:
        return x + std * normal_like(x, generator)
    return torch.add(x, normal_like(x, generator), alpha=float(std)) if std > 0 else x
