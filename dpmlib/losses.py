"""The denoising loss. Every objective of this book is it, with another weight."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .denoiser import Denoiser
from .levels import Levels, diffuse
from .noise import normal_like
from .posterior import coefficients
from .schedules import DiscreteVP, Schedule
from .score_matching import denoising_score_matching, explicit_score_matching, implicit_score_matching, sliced_score_matching

__all__ = ["denoising", "denoising_loss", "denoising_score_matching", "edm", "elbo_weight", "error_of", "explicit_score_matching",
           "implicit_score_matching", "lam_rate", "min_snr", "random_level", "sliced_score_matching"]

Weight = Callable[[Levels], Tensor]


def denoising_loss(denoiser, x0: Tensor, level: Levels, noise: Tensor, weight: Weight | None = None,
                   **condition) -> Tensor:
    """w(λ) ‖ε − ε̂(x_t, t)‖² / d, one number per sample: (B,). Ho et al. 2020, eq. 14, is w = 1.

    x0, noise: (B, ...); level: () or (B,). `weight` maps the level to w: `error_of("x0")`, `min_snr()`, `edm()` and
    `elbo_weight(schedule)` are such functions.
    Raises ValueError for NaN in x0 and for shapes that do not agree.
    """
    if not bool(x0.isfinite().all()):
        raise ValueError(f"x0 has {int((~x0.isfinite()).sum())} entries that are NaN or infinite: clean the data first")
    posterior = denoiser(diffuse(x0, level, noise), level, **condition)
    error = (posterior.eps - noise).square().flatten(1).mean(1)
    return error if weight is None else error * weight(level).to(error)


# Weights on the squared error of ε. Times the density of λ they are all that a choice of loss amounts to.

def error_of(predicts: str) -> Weight:
    """w under which `denoising_loss` is the plain squared error of a network of type `predicts`: (α q − σ p)²/α².

    With snr = exp(2λ): 1 for "eps", 1/snr for "x0", (α² + σ²)²/α² for "v", (1 + 1/√snr)² for "flow", 1/σ² for "score".
    ValueError for an unknown type.
    """
    def weight(level):
        p, q = coefficients(predicts, level)
        return (q - p * (-level.lam).exp()).square()

    weight(Levels(*torch.tensor([0.5, 0.6, 0.8, -0.3], dtype=torch.float64)))
    return weight


def min_snr(cap: float = 5.0) -> Weight:
    """w = min(snr, cap)/snr (Hang et al. 2023): that of the error of x_0, kept from exceeding that of ε ·cap. ValueError: cap <= 0."""
    if not cap > 0:
        raise ValueError(f"cap = {cap}: must be positive")
    return lambda level: (cap * (-2 * level.lam).exp()).clamp(max=1)


def edm(data_std: float = 0.5) -> Weight:
    """w = 1 + 1/(s² snr), s the standard deviation of the data: (σ² + s²)/(σ s)² on the error of x_0 (Karras et al. 2022).

    Each level then weighs so that the best linear denoiser of N(0, s² I) loses 1 everywhere. ValueError: data_std <= 0.
    """
    if not data_std > 0:
        raise ValueError(f"data_std = {data_std}: must be positive")
    return lambda level: 1 + (-2 * level.lam).exp() / data_std**2


def elbo_weight(schedule: Schedule) -> Weight:
    """w = (t_max − t_end)·|dλ/dt|: with t uniform the mean of w ‖ε − ε̂‖² is the bound's integral ∫ ‖ε − ε̂‖² dλ, in nats.

    (Kingma et al. 2021.) For a chain: of the chain made continuous, which is its own weight to O(1/N).
    """
    return lambda level: (schedule.t_max - schedule.t_end) * lam_rate(schedule, level.t).abs()


def lam_rate(schedule: Schedule, t: Tensor) -> Tensor:
    """dλ/dt, negative, float64, the shape of `t`."""
    return schedule.rates(t)[1]


def random_level(schedule: Schedule, n: int, generator: torch.Generator, lam: Callable[[Tensor], Tensor] | None = None) -> Levels:
    """n levels, uniform in t over [t_end, t_max], or over the steps 1..N of a chain, evenly spread rather than independent.

    One uniform number shifts a regular grid (Kingma et al. 2021, appendix I.1): each level is uniform, and the mean
    loss of a batch varies less. `lam`, a quantile function from (0, 1) to λ, draws λ from another density, cut to the
    schedule's range: `lambda u: 1.2 + 1.2 * torch.special.ndtri(u)` is EDM's, `lambda u: low + (high - low) * u` is uniform.
    """
    if n < 1:
        raise ValueError(f"n = {n}: a batch has at least one sample")
    u = torch.rand((), generator=generator, dtype=torch.float64, device=generator.device)
    u = (u + torch.arange(n, device=generator.device) / n) % 1
    if lam is not None:
        low, high = schedule.lam(schedule.t_max), schedule.lam(schedule.t_end)
        t = schedule.t_of_lam(lam(u).clamp(low.to(u.device), high.to(u.device)))
        return schedule.level(t.clamp(schedule.t_end, schedule.t_max))
    if isinstance(schedule, DiscreteVP):
        return schedule.level(((u * schedule.N).floor() + 1).clamp(max=schedule.N) / schedule.N)
    return schedule.level(schedule.t_end + (schedule.t_max - schedule.t_end) * u)


def denoising(schedule: Schedule, predicts: str = "eps", weight=None) -> Callable[[torch.nn.Module, Tensor, torch.Generator], Tensor]:
    """The loss that `train.fit` takes, (net, x0, generator) -> (B,): random levels, random noise, `denoising_loss`."""

    def loss(net, x0, generator):
        level = random_level(schedule, len(x0), generator)
        return denoising_loss(Denoiser(net, schedule, predicts), x0, level, normal_like(x0, generator), weight)

    return loss
