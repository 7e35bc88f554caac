"""Variational auto-encoders (Kingma & Welling 2014): the ELBO, its gap, and the importance-weighted bound (Burda et al. 2016).

Everything follows from one quantity, the log importance weight of a latent drawn from q(z | x):

    log w = log p(x | z) + log p(z) − log q(z | x),      E w = p(x),
    ELBO = E log w,      IW_K = E log (1/K) Σ_k w_k,      ELBO = IW_1 ≤ IW_K ≤ log p(x).

The encoder and the decoder are any networks and x and z any shapes: ``(B, 2)`` for points, ``(B, 3, 32, 32)`` and ``(B, 4, 8, 8)``
for an image and its latent.
"""
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .noise import normal_like


@dataclass(frozen=True)
class DiagonalNormal:
    """N(mean, diag(exp(2 log_std))) over events of any shape; `log_std` broadcasts to `mean`, the first axis is the batch."""
    mean: Tensor
    log_std: Tensor

    @classmethod
    def split(cls, out: Tensor, low: float = -8.0, high: float = 8.0) -> "DiagonalNormal":
        """From a network's output ``(B, 2c, ...)``: mean and log_std, each ``(B, c, ...)``, the latter clamped to [low, high]."""
        if out.ndim < 2 or out.shape[1] % 2:
            raise ValueError(f"out has shape {tuple(out.shape)}: need an even number of channels on axis 1, for mean and log_std")
        mean, log_std = out.chunk(2, dim=1)
        return cls(mean, log_std.clamp(low, high))

    def sample(self, generator: torch.Generator, K: int | None = None) -> Tensor:
        """mean + std · ε, so that the draw has a gradient in both parameters: shape of mean, or ``(K, *shape)``."""
        shape = self.mean.shape if K is None else (K, *self.mean.shape)
        return self.mean + self.log_std.exp() * normal_like(self.mean.new_empty(shape), generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """Nats, ``(..., *event) -> (...)``: x may carry more leading axes than mean."""
        nats = -0.5 * ((x - self.mean) * (-self.log_std).exp()) ** 2 - self.log_std - 0.5 * math.log(2 * math.pi)
        return nats.flatten(nats.ndim - self.mean.ndim + 1).sum(-1)

    def kl_to_standard(self) -> Tensor:
        """KL(this ‖ N(0, I)) = ½ Σ (μ² + σ² − 1 − 2 log σ) in nats, ``(B,)``."""
        nats = 0.5 * (self.mean ** 2 + (2 * self.log_std).exp() - 1 - 2 * self.log_std)
        return nats.expand_as(self.mean).flatten(1).sum(1)


class VAE(nn.Module):
    """p(z) = N(0, I), p(x | z) = likelihood(decoder(z)), q(z | x) = DiagonalNormal.split(encoder(x)).

    encoder: ``(B, *x) -> (B, 2 c, ...)``. decoder: ``(B, *latent) -> (B, ...)``. latent: shape of one z, e.g. ``(2,)``, ``(4, 8, 8)``.
    likelihood: decoder output -> object with ``log_prob(x)``, ``mean`` and ``sample(generator)``; by default a Gaussian about the
    output with one noise level for all pixels, whose logarithm `log_std` is learned (start value given here).
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, latent: tuple[int, ...],
                 likelihood: Callable[[Tensor], DiagonalNormal] | None = None, log_std: float = 0.0):
        super().__init__()
        self.encoder, self.decoder, self.latent = encoder, decoder, tuple(latent)
        if not self.latent or any(int(n) != n or n < 1 for n in self.latent):
            raise ValueError(f"latent = {latent}: need the shape of one z, integers ≥ 1")
        if likelihood is None:
            self.log_std = nn.Parameter(torch.tensor(float(log_std)))
        self._likelihood = likelihood

    def posterior(self, x: Tensor) -> DiagonalNormal:
        """q(z | x). ValueError if x holds NaN or infinity, or if the encoder's answer does not have shape ``(B, 2 c, ...)``."""
        if not torch.isfinite(x).all():
            raise ValueError("x holds NaN or infinity")
        q = DiagonalNormal.split(self.encoder(x))
        if q.mean.shape[1:] != self.latent:
            raise ValueError(f"encoder gives latents of shape {tuple(q.mean.shape[1:])}: need {self.latent}, mean and log_std on axis 1")
        return q

    def likelihood(self, z: Tensor) -> DiagonalNormal:
        """p(x | z) for z ``(B, *latent)``."""
        if z.shape[1:] != self.latent:
            raise ValueError(f"z has shape {tuple(z.shape)}: need (B, {', '.join(map(str, self.latent))})")
        out = self.decoder(z)
        return self._likelihood(out) if self._likelihood else DiagonalNormal(out, self.log_std)

    def elbo(self, x: Tensor, generator: torch.Generator, beta: float = 1.0) -> Tensor:
        """E_q log p(x | z) − β KL(q ‖ p(z)), nats, ``(B, *x) -> (B,)``: one reparameterised draw, the KL in closed form.

        beta = 1 is the bound on log p(x); any other value is an objective (Higgins et al. 2017), not a bound for beta < 1.
        """
        if not beta >= 0:
            raise ValueError(f"beta = {beta}: need beta ≥ 0")
        q = self.posterior(x)
        return self.likelihood(q.sample(generator)).log_prob(x) - beta * q.kl_to_standard()

    def log_weights(self, x: Tensor, K: int, generator: torch.Generator) -> Tensor:
        """log w_k = log p(x, z_k) − log q(z_k | x) for K draws z_k ~ q(z | x), nats, ``(B, *x) -> (K, B)``."""
        if int(K) != K or K < 1:
            raise ValueError(f"K = {K}: need an integer ≥ 1")
        q = self.posterior(x)
        z = q.sample(generator, K)
        prior = DiagonalNormal(torch.zeros_like(q.mean), torch.zeros_like(q.log_std))
        p = self.likelihood(z.flatten(0, 1))
        repeated = x.expand(K, *x.shape).flatten(0, 1)
        return p.log_prob(repeated).view(K, len(x)) + prior.log_prob(z) - q.log_prob(z)

    def iw_bound(self, x: Tensor, K: int, generator: torch.Generator) -> Tensor:
        """log (1/K) Σ_k w_k, nats, ``(B,)`` (Burda et al. 2016, eq. 8): its mean rises with K to log p(x)."""
        return torch.logsumexp(self.log_weights(x, K, generator), dim=0) - math.log(K)

    def sample(self, n: int, generator: torch.Generator, noise: bool = True) -> Tensor:
        """n draws of x from p(z) p(x | z); with ``noise=False`` the mean of p(x | z), which is *not* a sample of the model."""
        if int(n) != n or n < 1:
            raise ValueError(f"n = {n}: need an integer ≥ 1")
        p = self.likelihood(normal_like(next(self.decoder.parameters()).new_empty(n, *self.latent), generator))
        return p.sample(generator) if noise else p.mean
