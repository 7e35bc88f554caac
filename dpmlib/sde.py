"""The forward SDE of any Gaussian path, its reversal, and first-order samplers (Song et al. 2021).

A path α, σ belongs to dx = f(t) x dt + g(t) dw with f = d log α/dt and g² = dσ²/dt − 2 f σ² = −2 σ² dλ/dt. Run backwards it is
dx = (f x − g² ∇log q_t) dt + g dw̄ (Anderson 1982), and so is, with the same marginals, the family with ζ g for g and
(1 + ζ²)/2 g² for g²; ζ = 0 is the probability-flow ODE.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .denoiser import watched
from .levels import Levels, check_grid
from .noise import normal_like
from .schedules import Schedule


def drift_diffusion(schedule: Schedule, t) -> tuple[Tensor, Tensor]:
    """(f, g²) of dx = f(t) x dt + g(t) dw, float64, the shape of `t`; g² = −2 σ² dλ/dt."""
    f, lam_rate = schedule.rates(t)
    return f, -2 * schedule.sigma(t) ** 2 * lam_rate


def forward_sde(x: Tensor, schedule: Schedule, times: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Euler–Maruyama for the forward SDE from x (B, …) at times[0] along increasing `times`; yields each state."""
    times = torch.as_tensor(times, dtype=torch.float64)
    if times.ndim != 1 or len(times) < 2 or not bool((times.diff() > 0).all()):
        raise ValueError(f"times of shape {tuple(times.shape)}: need at least two, strictly increasing")
    f, g2 = drift_diffusion(schedule, schedule.checked(times)[:-1])
    for dt, f_i, g2_i in zip(times.diff(), f, g2):
        x = x + f_i * dt * x + (g2_i * dt).sqrt() * normal_like(x, generator)
        yield x


def euler_maruyama(denoiser, x: Tensor, grid: Levels, schedule: Schedule, zeta: float = 1.0,
                   generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """The reverse SDE of noise level ζ from x (B, …) at grid[0], by Euler–Maruyama in t; yields each state.

    x_s = x_t − (f x_t − (1 + ζ²)/2 g² ∇log q_t(x_t)) (t − s) + ζ g √(t − s) z. The grid may not end at the data (σ = 0), where the
    score is infinite. ζ = 0 is Euler's method for the probability-flow ODE and needs no generator.

    Raises ValueError for a grid out of order or ζ < 0; like every sampler, an error that names step and level if the network's
    answer is of another shape (ValueError) or not finite (FloatingPointError): see `dpmlib.denoiser.watched`.
    """
    check_grid(grid)
    if not zeta >= 0:
        raise ValueError(f"zeta = {zeta}: must be at least 0")
    denoiser, (f, g2) = watched(denoiser, grid), drift_diffusion(schedule, grid.t[:-1])
    for i, (here, there) in enumerate(zip(grid, grid[1:])):
        dt = here.t - there.t
        x = x - f[i] * dt * x + 0.5 * (1 + zeta**2) * g2[i] * dt * denoiser(x, here).score
        if zeta > 0:
            x = x + zeta * (g2[i] * dt).sqrt() * normal_like(x, generator)
        yield x


def reverse_diffusion(denoiser, x: Tensor, grid: Levels, generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """The reverse SDE discretised as the forward chain is (Song et al. 2021, app. E); yields each state.

    With x_t = A x_s + B z going forward, A = α_t/α_s and B² = σ_t² − A² σ_s²: x_s = (2 − A) x_t + B² ∇log q_t(x_t) + B z.
    """
    check_grid(grid)
    denoiser = watched(denoiser, grid)
    for here, there in zip(grid, grid[1:]):
        A = here.alpha / there.alpha
        B2 = -(here.sigma**2) * torch.expm1(2 * (here.lam - there.lam))
        x = (2 - A) * x + B2 * denoiser(x, here).score + B2.sqrt() * normal_like(x, generator)
        yield x


def langevin(denoiser, x: Tensor, level: Levels, steps: int, step_size: float | None = None, snr: float = 0.16,
             generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """Langevin dynamics at one level, x ← x + δ ∇log q(x) + √(2δ) z; yields each state.

    Without `step_size`, δ = 2 (snr ‖z‖/‖score‖)², norms averaged over the batch (Song et al. 2021, algorithm 5).
    """
    if steps < 1 or (step_size is not None and not step_size > 0) or not snr > 0:
        raise ValueError(f"steps, step_size, snr = {steps}, {step_size}, {snr}: need at least one step and positive sizes")
    denoiser = watched(denoiser, level)
    for _ in range(steps):
        score, z = denoiser(x, level).score, normal_like(x, generator)
        size = step_size
        if size is None:
            size = 2 * (snr * z.flatten(1).norm(dim=1).mean() / score.flatten(1).norm(dim=1).mean()) ** 2
        x = x + size * score + (2 * size) ** 0.5 * z
        yield x


def predictor_corrector(denoiser, x: Tensor, grid: Levels, predictor: Callable[..., Iterator[Tensor]], corrector_steps: int = 1,
                        snr: float = 0.16, generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """A step of `predictor(denoiser, x, grid of two levels)`, then Langevin steps at the level reached; yields each state.

    Any sampler of this library fits: `partial(dpmlib.reverse_diffusion, generator=g)`. No correction at the data (σ = 0).
    """
    check_grid(grid)
    if corrector_steps < 0:
        raise ValueError(f"corrector_steps = {corrector_steps}: must be at least 0")
    denoiser = watched(denoiser, grid)
    for i in range(len(grid) - 1):
        *_, x = predictor(denoiser, x, grid[i : i + 2])
        if corrector_steps and grid.sigma[i + 1] > 0:
            *_, x = langevin(denoiser, x, grid[i + 1], corrector_steps, snr=snr, generator=generator)
        yield x
