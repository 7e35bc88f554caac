"""Guidance and thresholding: functions from denoisers to denoisers."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from .levels import Levels, per_sample
from .posterior import Posterior

Scale = float | Callable[[Levels], float]


def cfg(denoiser, scale: Scale, against: dict | None = None, **condition):
    """Classifier-free guidance (Ho and Salimans 2022): ε = ε_u + s (ε_c − ε_u), s = `scale`; s = 1 is the conditional model.

    In the papers that write (1 + w) ε_c − w ε_u, s = 1 + w. `scale` may be a function of the level, so that guidance acts in an
    interval of noise only. `condition` is passed to the network in the conditional call and left out of the other, which is told
    `against` instead, if that is given (a "negative prompt"). The two calls are one batch each; at s = 1 or 0 only one is made.
    Raises ValueError without a condition, for a condition that is None, or for a tensor that does not have one row per sample.
    """
    if not condition or any(value is None for value in condition.values()):
        raise ValueError(f"condition = {condition}: guidance needs a condition, such as y=labels, that is not None")
    against = against or {}

    def guided(x, level) -> Posterior:
        for name, value in (*condition.items(), *against.items()):
            if isinstance(value, Tensor) and value.ndim and len(value) != len(x):
                raise ValueError(f"{name} of shape {tuple(value.shape)} for {len(x)} samples: need one label per sample")
        s = scale(level) if callable(scale) else scale
        if s == 0:
            return denoiser(x, level, **against)
        told = denoiser(x, level, **condition)
        if s == 1:
            return told
        plain = denoiser(x, level, **against)
        return replace(told, mean=torch.lerp(plain.mean, told.mean, float(s)), var=None, cov=None)

    return guided


def classifier_guidance(denoiser, log_prob: Callable[[Tensor, Levels], Tensor], scale: Scale = 1.0):
    """Classifier guidance (Dhariwal and Nichol 2021): the score plus s ∇ log p(y | x_t), s = `scale` or `scale(level)`.

    `log_prob(x, level)` gives log p(y | x_t), (B,), and must be differentiable in x; ValueError if it is not, or is of another
    shape, or if α = 0, where x_t says nothing about x_0. What is passed on as condition goes to the denoiser alone.
    """
    def guided(x, level, **condition) -> Posterior:
        if bool((level.alpha == 0).any()):
            raise ValueError("level.alpha = 0: a change of the score does not tell the change of the mean there; start at α > 0")
        belief = denoiser(x, level, **condition)
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            value = log_prob(at, level)
            if value.shape != x.shape[:1]:
                raise ValueError(f"log_prob returned shape {tuple(value.shape)} for {len(x)} samples: need one number per sample")
            if not value.requires_grad:
                raise ValueError("log_prob has no gradient with respect to x: build it of differentiable operations")
            push, = torch.autograd.grad(value.sum(), at)
        s = scale(level) if callable(scale) else scale
        # Tweedie: a score changed by g moves the mean by σ²/α g
        return replace(belief, mean=belief.mean + s * per_sample(level.sigma**2 / level.alpha, x) * push, var=None, cov=None)

    return guided


def dynamic_threshold(denoiser, quantile: float = 0.995, least: float = 1.0):
    """Imagen's dynamic thresholding (Saharia et al. 2022): x̂_0 clipped to ±s and divided by s/`least`, per sample.

    s is the `quantile` of |x̂_0| over a sample's coordinates, at least `least`. ε follows, being a view of the mean.
    """
    if not (0 < quantile <= 1 and least > 0):
        raise ValueError(f"quantile, least = {quantile}, {least}: need 0 < quantile <= 1 and least > 0")

    def thresholded(x, level, **condition) -> Posterior:
        belief = denoiser(x, level, **condition)
        sizes = belief.mean.abs().reshape(len(x), -1).to(torch.promote_types(x.dtype, torch.float32))
        s = per_sample(torch.quantile(sizes, quantile, dim=1).clamp(min=least).to(x), x)
        return replace(belief, mean=belief.mean.clamp(-s, s) * (least / s))

    return thresholded
