"""A small U-Net for images (Ronneberger et al. 2015; as a denoiser: Ho et al. 2020, Dhariwal & Nichol 2021).

One network call answers, for a batch of noisy images and the noise level of each, *what was added?* A U-Net looks at
the picture at several resolutions: the way down gathers what the picture is about, the way up puts it back where it
belongs, and the skips carry across the detail that the way down has thrown away.

Shapes in the comments: B images, C channels (they differ from level to level), H x W positions, E = embedding width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["UNet", "sinusoids"]


def sinusoids(number: Tensor, dim: int, period: float = 1e4) -> Tensor:
    """(B,) numbers of size about 0..1000 -> (B, dim) cosines and sines of geometrically spaced frequencies.

    Vaswani et al. 2017, section 3.5: neighbours get similar vectors, far-away numbers different ones.
    """
    half = dim // 2
    frequency = torch.exp(-math.log(period) * torch.arange(half, device=number.device) / half)
    angle = number[:, None].float() * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def groups(channels: int) -> nn.GroupNorm:
    """Normalise by eight groups of channels (or as many as divide them), inside each image: nothing depends on the image's batch-mates."""
    return nn.GroupNorm(math.gcd(8, channels), channels)


class Residual(nn.Module):
    """x + f(x), f being two 3x3 convolutions; the embedding scales and shifts the channels between them (FiLM)."""

    def __init__(self, inputs: int, outputs: int, embedding: int, dropout: float = 0.0):
        super().__init__()
        self.norm1, self.conv1 = groups(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * outputs)
        self.norm2, self.conv2 = groups(outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv2.weight)  # every block starts as the identity: depth costs nothing at first
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))  # (B, C, H, W)
        scale, shift = self.film(emb)[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1) each
        h = F.silu(torch.addcmul(shift, self.norm2(h), 1 + scale))
        return self.skip(x) + self.conv2(self.dropout(h))


class Attention(nn.Module):
    """Every position looks at every other one of the same image: the only layer that sees the whole at once."""

    def __init__(self, channels: int, heads: int = 4):
        super().__init__()
        self.heads, self.norm = heads, groups(channels)
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(B, H * W, C)  # positions become tokens
        q, k, v = self.qkv(tokens).reshape(B, H * W, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # (B, heads, HW, C/heads)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, H * W, C)
        return x + self.out(mixed).reshape(B, H, W, C).permute(0, 3, 1, 2)


class UNet(nn.Module):
    """`net(x, t, y=None)`: images (B, C, S, S) and one number per image, in (0, 1], -> (B, C, S, S).

    patch      p > 1 folds p x p pixels into channels before the first layer and unfolds them after the last: a quarter
               of the positions for p = 2, so four times the channels for the same arithmetic.
    width      channels at the highest resolution; level i has width * multipliers[i] and half the side of level i - 1
    blocks     residual blocks per level, on the way down and again on the way up
    attention  side lengths at which each block is followed by self-attention
    classes    with K classes, y holds labels (B,) int64 in 0..K, and K itself, or y=None, says "no class given"

    Raises ValueError for images, numbers or labels of another shape, and for sizes that do not divide.
    """

    def __init__(self, channels=3, size=32, width=64, multipliers=(1, 2, 2), blocks=2, attention=(8,), classes=0,
                 patch=1, dropout=0.0, heads=4):
        super().__init__()
        if size % (patch * 2 ** (len(multipliers) - 1)):
            raise ValueError(f"size={size} must divide by patch * 2^(levels - 1) = {patch * 2 ** (len(multipliers) - 1)}")
        self.config = dict(channels=channels, size=size, width=width, multipliers=tuple(multipliers), blocks=blocks,
                           attention=tuple(attention), classes=classes, patch=patch, dropout=dropout, heads=heads)
        self.width, self.shape = width, (channels, size, size)
        E = 4 * width
        self.embed = nn.Sequential(nn.Linear(width, E), nn.SiLU(), nn.Linear(E, E))
        self.label = nn.Embedding(classes + 1, E) if classes else None

        def stage(inputs, outputs, side):  # one residual block, with attention where asked for
            extra = Attention(outputs, heads) if side in attention else nn.Identity()
            return nn.ModuleList([Residual(inputs, outputs, E, dropout), extra])

        sides = [size // patch // 2**i for i in range(len(multipliers))]
        widths = [width * m for m in multipliers]
        self.stem = nn.Conv2d(channels * patch**2, width, 3, padding=1)
        self.down, self.up, skips, C = nn.ModuleList(), nn.ModuleList(), [], width
        for outputs, side in zip(widths, sides):
            self.down.append(nn.ModuleList())
            for _ in range(blocks):
                self.down[-1].append(stage(C, outputs, side))
                skips.append(C := outputs)
        self.middle = stage(C, C, sides[-1])
        for outputs, side in zip(reversed(widths), reversed(sides)):
            self.up.append(nn.ModuleList())
            for _ in range(blocks):
                self.up[-1].append(stage(C + skips.pop(), outputs, side))
                C = outputs
        self.norm, self.head = groups(C), nn.Conv2d(C, channels * patch**2, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.output(self.features(x, t, y)[0]).to(x.dtype)

    def output(self, features: Tensor) -> Tensor:
        """The answer, (B, C, S, S), made of the last features: one convolution."""
        return F.pixel_shuffle(self.head(features), self.config["patch"])

    def features(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the last layer sees, (B, width, S/p, S/p), and the embedding of number and label, (B, 4 width): for a further head."""
        self.check(x, t, y)
        emb = sinusoids(1000 * t, self.width).to(self.head.weight.dtype)
        emb = self.embed(emb)  # (B, E): how noisy
        if self.label is not None:  # and of what
            nobody = torch.full((len(x),), self.config["classes"], device=x.device)
            emb = emb + self.label(nobody if y is None else y)
        emb = F.silu(emb)

        h, skips = self.stem(F.pixel_unshuffle(x, self.config["patch"])), []  # (B, width, S/p, S/p)
        for i, level in enumerate(self.down):
            h = F.avg_pool2d(h, 2) if i else h  # halve the side
            for block, attend in level:
                h = attend(block(h, emb))
                skips.append(h)
        block, attend = self.middle
        h = attend(block(h, emb))
        for i, level in enumerate(self.up):
            h = F.interpolate(h, scale_factor=2.0, mode="nearest") if i else h  # double it again
            for block, attend in level:
                h = attend(block(torch.cat([h, skips.pop()], dim=1), emb))
        return F.silu(self.norm(h)), emb

    def check(self, x, t, y):
        if x.shape[1:] != self.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}, this network takes (B, {', '.join(map(str, self.shape))})")
        if t.shape != x.shape[:1]:
            raise ValueError(f"t has shape {tuple(t.shape)}, it must hold one number per image: ({len(x)},)")
        if y is not None and (self.label is None or y.shape != t.shape or y.dtype != torch.int64):
            raise ValueError(f"y has shape {tuple(y.shape)} and type {y.dtype}; with classes={self.config['classes']} it must "
                             f"be {f'int64 labels ({len(x)},) in 0..classes' if self.label is not None else 'None'}")
        if y is not None and len(y) and not torch.compiler.is_compiling():  # a GPU would die of it, with every tensor on it
            low, high = (int(v) for v in y.aminmax())
            if low < 0 or high > self.config["classes"]:
                raise ValueError(f"y holds labels from {low} to {high}; with classes={self.config['classes']} they must lie in "
                                 f"0..{self.config['classes']}, the last meaning none")
