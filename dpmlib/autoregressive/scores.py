"""Bits of test patches under the committed models of pixels and a Gaussian, patch by patch: what the chapter compares in pairs.

    python -m dpmlib.autoregressive.scores
"""
import argparse
from pathlib import Path

import torch
from torch import Tensor

from .. import checkpoint as files
from .. import provenance
from ..data import cifar10
from ..likelihood import bits_per_dim
from ..oracles import Gaussian
from .patches import patches
from .pixels import WEIGHTS, bits_on_patches, load

MODELS = {"Transformer": "patches_transformer_residuals", "RNADE": "patches_rnade_residuals"}


def _noisy(images: Tensor, n: int, g: torch.Generator, size: int) -> Tensor:
    v = patches(images, n, g, size)
    return v + torch.rand(v.shape, generator=g).double()


def gaussian_of(train: Tensor, size: int = 8) -> Gaussian:
    """A full Gaussian, fitted to 50,000 patches of `train`, those of `pixels.main`'s linear prediction, with uniform noise."""
    return Gaussian.fit(_noisy(train, 50_000, torch.Generator().manual_seed(1), size))


def gaussian_bits(train: Tensor, test: Tensor, n: int = 4096, size: int = 8) -> Tensor:
    """Bits/dim (n,) of `gaussian_of(train)` on the test patches of `bits_on_patches`, with the same noise."""
    return bits_per_dim(gaussian_of(train, size).log_prob(_noisy(test, n, torch.Generator().manual_seed(0), size)), 3 * size**2)


def main(arguments=None) -> dict[str, Tensor]:
    parser = argparse.ArgumentParser("python -m dpmlib.autoregressive.scores", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=WEIGHTS / "patches_scores.safetensors", help="the file to write")
    parser.add_argument("--tests", type=int, default=4096, help="test patches")
    o = parser.parse_args(arguments)
    train, test = (cifar10(split)[0] for split in ("train", "test"))
    scores = {"Gaussian": gaussian_bits(train, test, o.tests)} | {k: bits_on_patches(load(v), test, o.tests) for k, v in MODELS.items()}
    files.save(o.out, {k: v.float() for k, v in scores.items()}, command="python -m dpmlib.autoregressive.scores",
               commit=provenance.commit(),
               models=MODELS, torch=torch.__version__)
    for name, bits in scores.items():
        print(f"{name}: {bits.mean():.3f} ± {bits.std() / len(bits) ** 0.5:.3f} bits/dim on {len(bits)} test patches")
    return scores


if __name__ == "__main__":
    main()
