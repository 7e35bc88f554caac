"""Small patches of images as vectors: the common ground on which pixel models are compared."""
import torch
from torch import Tensor


def patches(images: Tensor, n: int, generator: torch.Generator, size: int = 8) -> Tensor:
    """n patches, each cut at a uniformly random place of a uniformly random image.

    images: (N, C, H, W) of any dtype, such as the uint8 of CIFAR-10. Returns (n, size * size * C) of the same dtype, flattened
    in raster order with the channel running fastest: entry C * (size * row + column) + channel.
    ValueError: images without four axes, n < 1, a patch that is larger than an image."""
    if images.ndim != 4:
        raise ValueError(f"images has shape {tuple(images.shape)}; allowed: (N, C, H, W)")
    N, _, H, W = images.shape
    if n < 1:
        raise ValueError(f"n = {n}; allowed: n >= 1")
    if not 1 <= size <= min(H, W):
        raise ValueError(f"size = {size}; allowed: 1 ... {min(H, W)} for images of {H} x {W}")
    draw = lambda high: torch.randint(high, (n,), generator=generator, device=generator.device).to(images.device)
    image, top, left = draw(N), draw(H - size + 1), draw(W - size + 1)
    offset = torch.arange(size, device=images.device)
    rows = (top[:, None] + offset)[:, :, None]                           # (n, size, 1)
    columns = (left[:, None] + offset)[:, None, :]                       # (n, 1, size)
    return images[image[:, None, None], :, rows, columns].flatten(1)     # (n, size, size, C), flattened
