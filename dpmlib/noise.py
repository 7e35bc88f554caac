"""Gaussian noise from generators that the caller passes."""

from collections.abc import Sequence

import torch
from torch import Tensor


def normal_like(x: Tensor, generator: torch.Generator | Sequence[torch.Generator] | None) -> Tensor:
    """ε ~ N(0, I) of the shape, dtype and device of `x`.

    One generator draws for the whole batch; a sequence of them, one per sample, makes each sample's noise its own,
    whoever its batch-mates are. Raises ValueError where there is none or the wrong number.
    """
    if isinstance(generator, torch.Generator):
        return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=generator.device).to(x.device)
    if generator is None:
        raise ValueError("generator = None: randomness comes from a torch.Generator that the caller passes")
    if len(generator) != len(x):
        raise ValueError(f"{len(generator)} generators for {len(x)} samples: need one, or one per sample")
    return torch.stack([torch.randn(x.shape[1:], generator=g, dtype=x.dtype, device=g.device) for g in generator]).to(x.device)
