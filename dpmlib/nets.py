"""Networks of a few lines: a time-conditioned residual MLP for points, and a wrapper that makes learning ε easier."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .levels import per_sample
from .schedules import Schedule
from .unet import sinusoids

__all__ = ["MLP", "Preconditioned"]


class MLP(nn.Module):
    """`net(x, t, y=None)`: points (B, dim) and one number per point, in (0, 1], -> (B, outputs).

    `depth` residual blocks h + W2 silu(W1 (norm(h) + emb)), `width` wide; the time enters every block. Besides
    the coordinates the network sees their sines and cosines at `frequencies` octaves, because an MLP on bare
    coordinates learns a fine pattern only very late (Tancik et al. 2020). With `classes` K, y holds labels (B,) in
    0..K, and K itself, or y=None, says "no class given". Raises ValueError for other shapes.
    """

    def __init__(self, dim: int = 2, width: int = 128, depth: int = 4, outputs: int | None = None, classes: int = 0,
                 frequencies: int = 3):
        super().__init__()
        self.dim, self.width, self.classes, self.frequencies = dim, width, classes, frequencies
        self.stem = nn.Linear(dim * (1 + 2 * frequencies), width)
        self.embed = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(classes + 1, width) if classes else None
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.first = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, outputs or dim))
        for layer in [*self.second, self.head[1]]:  # every block starts as the identity, the whole as zero
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"x has shape {tuple(x.shape)}, this network takes (B, {self.dim})")
        if t.shape != x.shape[:1]:
            raise ValueError(f"t has shape {tuple(t.shape)}, it must hold one number per point: ({len(x)},)")
        if y is not None and (self.label is None or y.shape != t.shape):
            raise ValueError(f"y of shape {tuple(y.shape)} for a network of {self.classes} classes and {len(x)} points")
        emb = sinusoids(1000 * t, self.width).to(x.dtype)
        if self.label is not None:
            nobody = torch.full((len(x),), self.classes, device=x.device)
            emb = emb + self.label(nobody if y is None else y)
        emb = self.embed(emb)
        octaves = torch.cat([x * 2.0**k for k in range(self.frequencies)], dim=1) if self.frequencies else x[:, :0]
        h = self.stem(torch.cat([x, octaves.sin(), octaves.cos()], dim=1))  # (B, width)
        for norm, first, second in zip(self.norms, self.first, self.second):
            h = h + second(F.silu(first(norm(h) + emb)))
        return self.head(h).to(x.dtype)


class Preconditioned(nn.Module):
    """A network of ε made from a network F of v: ε̂(x, t) = σ_t x + α_t F(x, t).

    Where noise dominates, ε is x to four digits. A bare network has to learn to copy its input that exactly, and its
    x̂_0 = (x − σ ε̂)/α multiplies what it gets wrong by 1/α, 160 at the end of the linear chain. Here the copy is
    built in and x̂_0 = α x − σ F: an error of F is never magnified (the skip of Karras et al. 2022, for VP). The
    network is fed t itself, so use it with a Denoiser whose label is the default.
    """

    def __init__(self, net: nn.Module, schedule: Schedule):
        super().__init__()
        self.net, self.schedule = net, schedule

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        out = self.net(x, t) if y is None else self.net(x, t, y)
        level = self.schedule.level(t.double())
        return per_sample(level.sigma, x) * x + per_sample(level.alpha, x) * out
