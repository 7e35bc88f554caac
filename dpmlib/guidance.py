"""Guidance and thresholding: functions from denoisers to denoisers."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from .levels import per_sample
from .posterior import Posterior


def cfg(denoiser, scale: float, **condition):
    """Classifier-free guidance (Ho and Salimans 2022): ε = ε_u + s (ε_c − ε_u), s = `scale`; s = 1 is the conditional model.

    In the papers that write (1 + w) ε_c − w ε_u, s = 1 + w. `condition` is passed to the network in the conditional call and left
    out of the other. Both halves go through the network as one batch. Raises ValueError without a condition.
    """
    if not condition:
        raise ValueError("guidance needs a condition, such as y=labels")

    def guided(x, level) -> Posterior:
        plain, told = denoiser(x, level), denoiser(x, level, **condition)
        return replace(told, mean=torch.lerp(plain.mean, told.mean, scale), var=None, cov=None)

    return guided


def classifier_guidance(denoiser, log_prob: Callable[[Tensor, object], Tensor], scale: float = 1.0):
    """Classifier guidance (Dhariwal and Nichol 2021): the score plus s ∇ log p(y | x_t).

    `log_prob(x, level)` gives log p(y | x_t), (B,), and must be differentiable in x; ValueError if it is not.
    """
    def guided(x, level, **condition) -> Posterior:
        belief = denoiser(x, level, **condition)
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            value = log_prob(at, level)
            if not value.requires_grad:
                raise ValueError("log_prob has no gradient with respect to x: build it of differentiable operations")
            push, = torch.autograd.grad(value.sum(), at)
        # Tweedie: a score changed by g moves the mean by σ²/α g
        return replace(belief, mean=belief.mean + scale * per_sample(level.sigma**2 / level.alpha, x) * push, var=None, cov=None)

    return guided


def dynamic_threshold(denoiser, quantile: float = 0.995, least: float = 1.0):
    """Imagen's dynamic thresholding (Saharia et al. 2022): x̂_0 clipped to ±s and divided by s/`least`, per sample.

    s is the `quantile` of |x̂_0| over a sample's coordinates, at least `least`.
    """
    if not (0 < quantile <= 1 and least > 0):
        raise ValueError(f"quantile, least = {quantile}, {least}: need 0 < quantile <= 1 and least > 0")

    def thresholded(x, level, **condition) -> Posterior:
        belief = denoiser(x, level, **condition)
        sizes = belief.mean.abs().reshape(len(x), -1).to(torch.promote_types(x.dtype, torch.float32))
        s = per_sample(torch.quantile(sizes, quantile, dim=1).clamp(min=least).to(x), x)
        return replace(belief, mean=belief.mean.clamp(-s, s) * (least / s))

    return thresholded
