"""Denoisers: callables (x, level) -> Posterior, and functions from denoisers to denoisers."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .levels import Levels
from .posterior import Posterior, coefficients, mean_from_output
from .schedules import Schedule


@dataclass(frozen=True)
class Denoiser:
    """Any network as a denoiser.

    `net(x, number, **condition)` takes x (B, …) and one number per sample, (B,) and at least float32, and returns a
    tensor of the shape of x: its prediction p·x_0 + q·ε of type `predicts` ("eps", "x0", "v", "flow" or "score").
    `label(level)` says which number a level is called by; networks differ, see `chain_label`. By default it is t.

    Raises ValueError for an unknown type, a non-floating x, or a network that returns another shape.
    """

    net: Callable[..., Tensor]
    schedule: Schedule
    predicts: str = "eps"
    label: Callable[[Levels], Tensor] | None = None

    def __post_init__(self):
        coefficients(self.predicts, self.schedule.level(self.schedule.t_max / 2))

    @classmethod
    def from_diffusers(cls, source, scheduler=None) -> "Denoiser":
        """A network of `diffusers` on its own chain: `source` is a pipeline, the folder of one, or a UNet. See `dpmlib.bridge`."""
        from .bridge import from_diffusers
        return from_diffusers(source, scheduler)

    def __call__(self, x: Tensor, level: Levels, **condition) -> Posterior:
        out = self.net(x, self.numbers(x, level), **condition)
        if out.shape != x.shape:
            raise ValueError(f"net returned shape {tuple(out.shape)} for x of shape {tuple(x.shape)}: they must agree")
        return Posterior(mean_from_output(out, x, level, self.predicts), x=x, level=level)

    def numbers(self, x: Tensor, level: Levels) -> Tensor:
        """The numbers (B,) that the network is fed for `x` at `level`."""
        if not x.is_floating_point():
            raise ValueError(f"x has dtype {x.dtype}: need a floating-point tensor")
        number = level.t if self.label is None else self.label(level)
        # half precision cannot tell t = 0.998 from 0.999
        return number.to(x.device, torch.promote_types(x.dtype, torch.float32)).expand(len(x))


def chain_label(N: int = 1000, first: int = 0) -> Callable[[Levels], Tensor]:
    """The number of step n = N t of a chain, counted from `first`: 0 for DDPM (n − 1), 1 for U-ViT (n)."""
    return lambda level: level.t * N - 1 + first


Believer = Callable[..., Posterior]


def clip_x0(denoiser: Believer, low: float = -1.0, high: float = 1.0) -> Believer:
    """The denoiser with E[x_0 | x_t] clipped to [low, high]; ε follows, being a view of the mean."""
    if not low < high:
        raise ValueError(f"low, high = {low}, {high}: need low < high")

    def clipped(x, level, **condition):
        posterior = denoiser(x, level, **condition)
        return replace(posterior, mean=posterior.mean.clamp(low, high))

    return clipped


def with_variance(denoiser: Believer, variance: Callable[[Levels], Tensor | float]) -> Believer:
    """The denoiser with Var[x_0 | x_t] set to `variance(level)`, whatever it believed before."""

    def informed(x, level, **condition):
        return replace(denoiser(x, level, **condition), var=variance(level), cov=None)

    return informed


class CountCalls:
    """A denoiser that counts how often it is asked: `.calls`. One call is one evaluation of the network."""

    def __init__(self, denoiser: Believer):
        self.denoiser, self.calls = denoiser, 0

    def __call__(self, x, level, **condition):
        self.calls += 1
        return self.denoiser(x, level, **condition)


def watched(denoiser: Believer, grid: Levels) -> Believer:
    """The denoiser as a sampler on `grid` asks it: an answer that is of no use becomes an error that names step and level.

    ValueError for a mean that is not of the shape of x, and for whatever ValueError the network raises; FloatingPointError for one
    that is not finite: on a CPU, or if `grid` is a single level, at once; on other devices at the last step, so that no step has to
    wait for the device. A denoiser that is watched already is returned as it is.
    """
    if getattr(denoiser, "watched", False):
        return denoiser
    last, calls, first_bad = len(grid) - 2 if grid.t.ndim else None, 0, None

    def step_of(level):
        return calls - 1 if last is None else int((grid.t[:-1] >= level.t).sum()) - 1

    def fail(kind, level, what):
        return kind(f"step {step_of(level)}, t = {float(level.t):.4g}, λ = {float(level.lam):.4g}: {what}")

    def asked(x, level, **condition):
        nonlocal calls, first_bad
        calls += 1
        try:
            belief = denoiser(x, level, **condition)
        except ValueError as error:
            raise fail(ValueError, level, error) from error
        if belief.mean.shape != x.shape:
            raise fail(ValueError, level, f"a mean of shape {tuple(belief.mean.shape)} for x of shape {tuple(x.shape)}")
        # a sum is finite if and only if its terms are, short of overflow, and costs one pass and no memory
        total = belief.mean.detach().sum(dtype=torch.promote_types(x.dtype, torch.float32))
        if x.device.type == "cpu" or last is None:
            if not math.isfinite(total):
                raise fail(FloatingPointError, level, "the network's answer is not finite")
            return belief
        step = step_of(level)
        bad = torch.where(total.isfinite(), last + 1, step)
        first_bad = bad if first_bad is None else torch.minimum(first_bad, bad)
        if step == last and (step := int(first_bad)) <= last:
            raise fail(FloatingPointError, grid[step], "the network's answer is not finite")
        return belief

    asked.watched = True
    return asked
