"""Generative adversarial networks (Goodfellow et al. 2014): two losses, two tiny networks and the alternating loop.

D(x) = sigmoid(logit(x)) is the probability that x is real. All losses are means over the batch, in nats, and take *logits*:
log D = −softplus(−logit) and log(1 − D) = −softplus(logit) never overflow.
"""
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from .noise import normal_like


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """−E log D(real) − E log(1 − D(fake)): 2 log 2 for a coin flip, 2 log 2 − 2 JS(p_D, p_G) for the best D. Logits, any shapes."""
    return softplus(-real).mean() + softplus(fake).mean()


def generator_loss(fake: Tensor, kind: str = "non-saturating") -> Tensor:
    """What the generator minimises, from the logits of its samples.

    "minimax" is E log(1 − D(G(z))), the game's own value; its gradient in the logit is −D, which vanishes while D rejects everything.
    "non-saturating" is −E log D(G(z)): the same fixed point, gradient −(1 − D) (Goodfellow et al. 2014, section 3).
    """
    if kind == "minimax":
        return -softplus(fake).mean()
    if kind == "non-saturating":
        return softplus(-fake).mean()
    raise ValueError(f"kind = {kind!r}: choose 'minimax' or 'non-saturating'")


def optimal_discriminator(log_p: Tensor, log_g: Tensor) -> Tensor:
    """D*(x) = p(x) / (p(x) + g(x)) from the two log-densities (Goodfellow et al. 2014, proposition 1)."""
    return torch.sigmoid(log_p - log_g)


def js_from_logits(real: Tensor, fake: Tensor) -> Tensor:
    """log 2 − ½ discriminator_loss: a lower bound on the Jensen–Shannon divergence in nats, tight for the best discriminator."""
    return math.log(2) - 0.5 * discriminator_loss(real, fake)


class Generator(nn.Module):
    """x = net(z), z ~ N(0, I_latent): an implicit model. It can be sampled; it has no density to ask for."""

    def __init__(self, net: nn.Module, latent: int):
        super().__init__()
        if int(latent) != latent or latent < 1:
            raise ValueError(f"latent = {latent}: need an integer ≥ 1")
        self.net, self.latent = net, latent

    def forward(self, z: Tensor) -> Tensor:
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise ValueError(f"z has shape {tuple(z.shape)}: need (B, {self.latent})")
        return self.net(z)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n draws: one Gaussian draw and one pass."""
        if int(n) != n or n < 1:
            raise ValueError(f"n = {n}: need an integer ≥ 1")
        return self(normal_like(next(self.parameters()).new_empty(n, self.latent), generator))


def gradient_penalty(discriminator: nn.Module, x: Tensor) -> Tensor:
    """R1 = ½ E‖∇_x logit(x)‖² on real data (Mescheder et al. 2018, eq. 9), differentiable in the discriminator's weights."""
    x = x.detach().requires_grad_(True)
    grad, = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    return 0.5 * grad.flatten(1).square().sum(1).mean()


def train_gan(model: Generator, discriminator: nn.Module, data: Tensor, steps: int, *, generator: torch.Generator, batch: int = 256,
              lr: float = 1e-3, kind: str = "non-saturating", r1: float = 0.0, ratio: int = 1) -> Iterator[tuple[float, float]]:
    """Alternating gradient steps, one for D and `ratio` for G, by Adam with β = (0.5, 0.9); yields (loss of D, last loss of G).

    model: `Generator`. discriminator: ``(B, *x) -> (B, 1)`` logits. data: ``(n, *x)``, sampled with replacement.
    kind: see `generator_loss`. r1: weight of `gradient_penalty` (0: none).
    """
    if not torch.isfinite(data).all():
        raise ValueError("data holds NaN or infinity")
    for name, value in (("steps", steps), ("batch", batch), ("ratio", ratio)):
        if int(value) != value or value < 1:
            raise ValueError(f"{name} = {value}: need an integer ≥ 1")
    if not r1 >= 0:
        raise ValueError(f"r1 = {r1}: need r1 ≥ 0")
    opt_g = torch.optim.Adam(model.parameters(), lr, betas=(0.5, 0.9))
    opt_d = torch.optim.Adam(discriminator.parameters(), lr, betas=(0.5, 0.9))
    for _ in range(steps):
        pick = torch.randint(len(data), (batch,), generator=generator, device=generator.device)
        real, fake = data[pick.to(data.device)], model.sample(batch, generator).detach()
        loss_d = discriminator_loss(discriminator(real), discriminator(fake))
        penalty = r1 * gradient_penalty(discriminator, real) if r1 else 0.0
        opt_d.zero_grad()
        (loss_d + penalty).backward()
        opt_d.step()

        for _ in range(ratio):
            fake = model.sample(batch, generator)
            loss_g = generator_loss(discriminator(fake), kind)
            opt_g.zero_grad()
            loss_g.backward()
            opt_g.step()
        yield loss_d.item(), loss_g.item()
