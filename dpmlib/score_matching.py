"""Four ways to learn ∇log p from samples: explicit, implicit, sliced and denoising score matching.

All are ½ E‖s − ∇log p‖² up to a constant that does not depend on s, so their gradients agree in expectation. They differ in what
they ask for: the true score; d backward passes; one; none. Each returns one number per sample, summed over coordinates as in the
papers. `score` is any map x (B, …) -> (B, …), `lambda x: denoiser(x, level).score` for one; it must treat the samples of a batch
separately (no batch normalisation). All raise ValueError for x with NaN and for a score of another shape, and FloatingPointError
for a score that is not finite.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .levels import Levels, diffuse, per_sample
from .noise import normal_like
from .ode import rademacher

__all__ = ["denoising_score_matching", "explicit_score_matching", "gaussian_probes", "implicit_score_matching", "sliced_score_matching"]

Score = Callable[[Tensor], Tensor]


def explicit_score_matching(score: Score, x: Tensor, true_score: Tensor) -> Tensor:
    """½ ‖s(x) − ∇log p(x)‖², (B,): what the others estimate; `true_score` (B, …) is ∇log p at x, which only an oracle knows."""
    _check_data(x)
    if true_score.shape != x.shape:
        raise ValueError(f"true_score of shape {tuple(true_score.shape)} for x of shape {tuple(x.shape)}: they must agree")
    return _half_square(_checked(score, x) - true_score)


def implicit_score_matching(score: Score, x: Tensor) -> Tensor:
    """tr ∇s(x) + ½ ‖s(x)‖², (B,) (Hyvärinen 2005, theorem 1). One backward pass per coordinate.

    On finitely many points it has no minimum: a score that is 0 and ever steeper at each of them sends it to −∞.
    """
    return _with_jacobian(score, x, [None])[0]


def gaussian_probes(x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` probes v ~ N(0, I), (count, *x.shape): the noisier choice beside `rademacher`."""
    if count < 1:
        raise ValueError(f"count = {count}: need at least one probe")
    return torch.stack([normal_like(x, generator) for _ in range(count)])


def sliced_score_matching(score: Score, x: Tensor, generator: torch.Generator, probes: int = 1, reduced: bool = True,
                          draw: Callable[[Tensor, int, torch.Generator], Tensor] = rademacher) -> Tensor:
    """vᵀ∇s(x) v + ½ ‖s(x)‖², (B,), mean over `probes` random v with E v vᵀ = I (Song et al. 2020). One backward pass per probe.

    `reduced=False` puts ½ (vᵀs)² for ½ ‖s‖²: the same mean with more variance. `draw(x, probes, generator)` gives v of shape
    (K, *x.shape): `rademacher` or `gaussian_probes`. ValueError: probes < 1, no generator.
    """
    if probes < 1:
        raise ValueError(f"probes = {probes}: need at least one")
    if not isinstance(generator, torch.Generator):
        raise ValueError(f"generator = {generator!r}: the probes come from a torch.Generator that the caller passes")
    _check_data(x)
    terms = _with_jacobian(score, x, draw(x, probes, generator), reduced)
    return sum(terms) / len(terms)


def denoising_score_matching(score: Score, x0: Tensor, level: Levels, noise: Tensor) -> Tensor:
    """½ ‖s(x_t) + ε/σ‖² at x_t = α x_0 + σ ε, (B,) (Vincent 2011, eq. 9): matches the score of q_t, the diffused data. No derivative.

    It is d/(2 σ²) times `denoising_loss`. x0, noise: (B, …); level: () or (B,). ValueError where σ = 0.
    """
    _check_data(x0, "x0")
    if not bool((level.sigma > 0).all()):
        raise ValueError(f"level with σ = {float(level.sigma.min())}: denoising score matching needs noise, σ > 0")
    s = _checked(score, diffuse(x0, level, noise))
    return _half_square(s + noise / per_sample(level.sigma, noise))


def _half_square(error):
    return 0.5 * error.square().flatten(1).sum(1)


def _check_data(x, name="x"):
    if x.ndim < 2 or not x.is_floating_point() or not bool(x.isfinite().all()):
        raise ValueError(f"{name} of shape {tuple(x.shape)} and dtype {x.dtype}: need a finite floating-point tensor (B, …)")


def _checked(score, x):
    s = score(x)
    if s.shape != x.shape:
        raise ValueError(f"score returned shape {tuple(s.shape)} for x of shape {tuple(x.shape)}: they must agree")
    if not bool(s.isfinite().all()):
        raise FloatingPointError(f"the score of {int((~s.flatten(1).isfinite()).any(1).sum())} of {len(s)} samples is not finite")
    return s


def _with_jacobian(score, x, probes, reduced=True):
    """For each probe v, vᵀ∇s v + ½ ‖s‖² (or ½ (vᵀs)²); for the probe None the trace. With a graph where gradients are on."""
    _check_data(x)
    train = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        s = _checked(score, x) + 0 * x  # a score that ignores x has the Jacobian 0, not none

        def back(scalar):
            return torch.autograd.grad(scalar, x, create_graph=train, retain_graph=True)[0].flatten(1)

        terms, flat = [], s.flatten(1)
        for v in probes:
            if v is None:
                slope = sum(back(flat[:, i].sum())[:, i] for i in range(flat.shape[1]))
            else:
                slope = (back((s * v).sum()) * v.flatten(1)).sum(1)
            along = _half_square(s) if reduced else 0.5 * (s * v).flatten(1).sum(1).square()
            terms.append(slope + along)
    return terms if train else [term.detach() for term in terms]
