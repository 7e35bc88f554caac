"""The denoising loss. Every objective of this book is it, with another weight."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .denoiser import Denoiser
from .levels import Levels, diffuse
from .noise import normal_like
from .schedules import DiscreteVP, Schedule

__all__ = ["denoising", "denoising_loss", "random_level"]


def denoising_loss(denoiser, x0: Tensor, level: Levels, noise: Tensor, weight: Callable[[Levels], Tensor] | None = None,
                   **condition) -> Tensor:
    """w(λ) ‖ε − ε̂(x_t, t)‖² / d, one number per sample: (B,). Ho et al. 2020, eq. 14, is w = 1.

    x0, noise: (B, ...); level: () or (B,). `weight` maps the level to w, so that with snr = exp(2λ) the squared error
    of x_0 is w = 1/snr, that of v is 1/α², min-SNR is min(snr, 5)/snr, and the ELBO's is what its schedule says.
    Raises ValueError for NaN in x0 and for shapes that do not agree.
    """
    if not bool(x0.isfinite().all()):
        raise ValueError(f"x0 has {int((~x0.isfinite()).sum())} entries that are NaN or infinite: clean the data first")
    posterior = denoiser(diffuse(x0, level, noise), level, **condition)
    error = (posterior.eps - noise).square().flatten(1).mean(1)
    return error if weight is None else error * weight(level).to(error)


def random_level(schedule: Schedule, n: int, generator: torch.Generator) -> Levels:
    """n levels, uniform in t over [t_end, t_max], or over the steps 1..N of a chain, evenly spread rather than independent.

    One uniform number shifts a regular grid (Kingma et al. 2021, appendix I.1): each level is uniform, and the mean
    loss of a batch varies less.
    """
    if n < 1:
        raise ValueError(f"n = {n}: a batch has at least one sample")
    u = torch.rand((), generator=generator, dtype=torch.float64, device=generator.device)
    u = (u + torch.arange(n, device=generator.device) / n) % 1
    if isinstance(schedule, DiscreteVP):
        return schedule.level(((u * schedule.N).floor() + 1).clamp(max=schedule.N) / schedule.N)
    return schedule.level(schedule.t_end + (schedule.t_max - schedule.t_end) * u)


def denoising(schedule: Schedule, predicts: str = "eps", weight=None) -> Callable[[torch.nn.Module, Tensor, torch.Generator], Tensor]:
    """The loss that `train.fit` takes, (net, x0, generator) -> (B,): random levels, random noise, `denoising_loss`."""

    def loss(net, x0, generator):
        level = random_level(schedule, len(x0), generator)
        return denoising_loss(Denoiser(net, schedule, predicts), x0, level, normal_like(x0, generator), weight)

    return loss
