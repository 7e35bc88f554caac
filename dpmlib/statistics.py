"""What the variance and the bound need to know of a network: two mean squares per level, and the bound put together from them.

    OMP_NUM_THREADS=1 python -m dpmlib.statistics dpmlib/weights/cifar10_statistics.json

With one number c per level, each term of the bound is linear in E‖ε − ε̂‖² at its noisier level (Ho et al. 2020, eq. 8), and the best c
needs E‖ε̂‖² (Bao et al. 2022a, theorem 1). So one pass over some images at some levels gives the bound of every sub-chain and of every
choice of c, without another call of the network. The command makes that pass for the network "cifar10": Γ from training images, the
bound from test images, as in the paper.
"""

import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import provenance
from .ancestral import kernel
from .covariance import posterior_variance
from .data import cifar10, to_unit
from .levels import Levels, diffuse
from .likelihood import log_bin
from .noise import normal_like
from .pretrained import WEIGHTS, pretrained
from .trajectory import even

IMAGES, SEEDS = 64, {"train": 0, "test": 1}


def visited() -> list[int]:
    """The steps of a chain of 1000 at which the command measures: all that 10 or 25 even steps visit, and more the nearer to the data."""
    dense = np.unique(np.round(1 + 999 * np.linspace(0, 1, 125) ** 1.6).astype(int))
    return sorted({*dense.tolist(), *range(1, 9), *even(1000, 10), *even(1000, 25)})


def mean_squares(denoiser, x0: Tensor, noise: Tensor, grid: Levels, batch: int = 16) -> tuple[Tensor, Tensor]:
    """‖ε̂‖²/d and ‖ε − ε̂‖²/d of every datum at every level of `grid`, two (levels, M) float64; the noise is that of all levels.

    Raises ValueError for a batch < 1 or a level without noise, at which ε̂ has no meaning.
    """
    if batch < 1 or not bool((grid.sigma > 0).all()):
        raise ValueError(f"batch = {batch}, smallest σ = {grid.sigma.min():.3g}: need batch >= 1 and σ > 0 at every level")
    sizes, errors = torch.zeros(2, len(grid), len(x0), dtype=torch.float64)
    for i, level in enumerate(grid):
        for start in range(0, len(x0), batch):
            part = slice(start, start + batch)
            eps = denoiser(diffuse(x0[part], level, noise[part]), level).eps
            sizes[i, part] = eps.double().square().flatten(1).mean(1).cpu()
            errors[i, part] = (noise[part] - eps).double().square().flatten(1).mean(1).cpu()
    return sizes, errors


def step_terms(errors: Tensor, grid: Levels, variance: Tensor, eta: float = 1.0) -> Tensor:
    """KL of each step of `grid` but the last, nats per dimension: (n−1, …) for `errors` (n, …), ‖ε − ε̂‖²/d at grid[:-1].

    `variance`: c per step, (n,), as in `ancestral`. The same numbers as `elbo(…).steps` / d. Raises ValueError for other lengths.
    """
    n = len(grid) - 1
    if len(errors) != n or variance.shape != (n,):
        raise ValueError(f"{len(errors)} errors and variance of shape {tuple(variance.shape)}: need one per step, {n}")
    k, t = kernel(grid, eta), grid[:-1]
    ratio = (k.gamma**2 / k.omega2)[:-1]
    shape = (n - 1, *[1] * (errors.ndim - 1))
    excess = (ratio * variance[:-1]).reshape(shape)
    apart = (ratio * ((t.sigma / t.alpha) ** 2)[:-1]).reshape(shape) * errors[:-1]
    return 0.5 * ((apart - excess) / (1 + excess) + torch.log1p(excess))


@dataclass(frozen=True, eq=False)
class Statistics:
    """The committed measurement. `steps` (L,) of the chain, increasing; `size` ‖ε̂‖²/d on training images, `error` ‖ε − ε̂‖²/d on test
    images, (L, M); `noise` ‖ε‖²/d of the training noise (M,); `prior` (M,) and `last` {c: (M,)} the outer terms in nats per dimension."""

    steps: Tensor
    size: Tensor
    noise: Tensor
    error: Tensor
    prior: Tensor
    last: dict[float, Tensor]
    notes: dict

    def at(self, values: Tensor, steps) -> Tensor:
        """`values` (L, …) at any `steps`: see `between`."""
        return between(self.steps, values, steps)

    def variance(self, grid: Levels) -> Tensor:
        """The best c (n,) at each step of a grid that ends at the data, at the chain's levels or between them (theorem 1 of the paper)."""
        steps = (1000 * grid.t[:-1]).round(decimals=9)  # t = 1/1000 may come out a rounding lower
        return posterior_variance(self.at(self.size.mean(1), steps) / grid.sigma[:-1] ** 2, grid)


def between(measured: Tensor, values: Tensor, steps) -> Tensor:
    """`values` (L, …), known at the steps `measured` (L,), at any `steps`, by straight lines in log n. ValueError outside of them."""
    steps = torch.as_tensor(steps, dtype=torch.float64)
    if bool((steps < measured[0]).any()) or bool((steps > measured[-1]).any()):
        raise ValueError(f"steps from {steps.min():g} to {steps.max():g}: measured are {measured[0]:g} to {measured[-1]:g}")
    known, wanted = measured.double().log(), steps.log()
    right = torch.searchsorted(known, wanted).clamp(1, len(known) - 1)
    w = ((wanted - known[right - 1]) / (known[right] - known[right - 1])).reshape(-1, *[1] * (values.ndim - 1))
    return (1 - w) * values[right - 1] + w * values[right]


def load(path=WEIGHTS / "cifar10_statistics.json") -> Statistics:
    """The measurement that the command wrote."""
    file = json.loads(Path(path).read_text())

    def array(name):
        return torch.tensor(file.pop(name), dtype=torch.float64)

    last = {float(c): torch.tensor(v, dtype=torch.float64) for c, v in file.pop("last").items()}
    return Statistics(array("steps"), array("size"), array("noise"), array("error"), array("prior"), last, file)


def images(split: str, n: int) -> tuple[Tensor, Tensor]:
    """The first n images of a split, (n, 3, 32, 32) in [−1, 1], and the noise that the command gives them."""
    x0 = to_unit(cifar10(split)[0][:n])
    return x0, normal_like(x0, torch.Generator().manual_seed(SEEDS[split]))


def _rounded(values: Tensor):
    return [_rounded(v) for v in values] if values.ndim else float(f"{values.item():.5g}")


def main(path: str) -> None:
    unet, steps = pretrained("cifar10"), visited()
    chain = unet.schedule
    grid = chain.level(torch.tensor(steps, dtype=torch.float64) / chain.N)
    result = {"command": "OMP_NUM_THREADS=1 python -m dpmlib.statistics " + path, "commit": provenance.commit(), "seeds": SEEDS,
              "device": f"{platform.machine()} CPU, {torch.get_num_threads()} thread", "torch": torch.__version__,
              "network": "cifar10", "condition": None, "images": IMAGES, "steps": steps}
    x0, noise = images("train", IMAGES)
    size, _ = mean_squares(unet, x0, noise, grid)
    result |= {"size": _rounded(size), "noise": _rounded(noise.double().square().flatten(1).mean(1))}
    x0, noise = images("test", IMAGES)
    _, error = mean_squares(unet, x0, noise, grid)
    end, first, second = chain.level(1.0), grid[0], grid[1]
    mean = unet(diffuse(x0, first, noise), first).mean
    best = (first.sigma / first.alpha) ** 2 * (1 - size[0].mean())
    beta_tilde_2 = (first.sigma / second.sigma) ** 2 * (1 - (second.alpha / first.alpha) ** 2)
    cs = [first.sigma**2, beta_tilde_2, best]  # β_1; DDPM's stand-in for β̃_1 = 0; the best
    result |= {"error": _rounded(error),
               "prior": _rounded(0.5 * (end.alpha / end.sigma) ** 2 * x0.double().square().flatten(1).mean(1)),
               "last": {repr(float(c)): _rounded(log_bin(x0, mean, c).flatten(1).mean(1)) for c in cs}}
    text = json.dumps(result, indent=0).replace(",\n", ", ").replace("[\n", "[").replace("\n]", "]").replace("], [", "],\n[")
    Path(path).write_text(text + "\n")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    main(*sys.argv[1:])
