"""Bits per dimension of the trained U-Net on CIFAR-10's test images: its ODE's likelihood, and the bounds of its SDE and its chain.

    python benchmarks/ode_likelihood.py --images 512        writes dpmlib/weights/cifar10_ode.json

Each image has a generator of its own, so any of them can be measured again by itself. The network is asked without a label.
"""

import argparse
import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch

import dpmlib
from dpmlib import provenance, statistics
from dpmlib.data import cifar10, to_unit
from dpmlib.statistics import step_terms

RESULT = Path(dpmlib.__file__).parent / "weights" / "cifar10_ode.json"
BIN = 2 / 255  # the width of a grey level, in units of to_unit
COLUMNS = ("uniform", "gaussian", "sde", "elbo", "elbo_lam")
BATCH = 16


def generator_of(index, seed=0):
    return torch.Generator().manual_seed(1_000_000 * seed + index)


def step_of(denoiser):
    """The level at which the path of a chain begins: its first, t = 1/N."""
    return denoiser.schedule.level(denoiser.schedule.t_end)


@torch.no_grad()
def last_variance(denoiser, images, seed=0):
    """The mean squared error of x̂_0 at the chain's first level: the best constant c in p(x_0 | x_1) = N(x̂_0, c)."""
    x0, level = to_unit(images), step_of(denoiser)
    noise = torch.randn(x0.shape, generator=generator_of(10**9, seed))
    return (denoiser(dpmlib.diffuse(x0, level, noise), level).mean - x0).square().mean().item()


@dataclass(frozen=True)
class Steps:
    """The KLs of a grid with one variance per step add up to Σ (a_i + b_i ‖ε − ε̂_i‖²/d), nats per dimension, clean → noisy.

    `t` are the times of the noisier ends, `edges` those of the strata of steps from each of which one is drawn.
    """

    t: torch.Tensor
    a: torch.Tensor
    b: torch.Tensor
    edges: torch.Tensor

    @classmethod
    def of(cls, schedule, stats, spacing, strata, power):
        """K = N steps, evenly spaced in time (the chain's own) or in λ, with the optimal variances."""
        grid = dpmlib.levels(schedule, schedule.N, spacing, to_zero=True)
        c = stats.variance(grid)
        none, one = (step_terms(torch.full((schedule.N,), e, dtype=torch.float64), grid, c).flip(0) for e in (0.0, 1.0))
        edges = ((schedule.N - 1) * torch.linspace(0, 1, strata + 1, dtype=torch.float64) ** power).round().long().unique()
        return cls(grid.t[:-2].flip(0), none, one - none, edges)


def chains(schedule, stats):
    """Of the chain's steps those near the data matter most, so there the strata are narrow; of steps even in λ, all alike."""
    return Steps.of(schedule, stats, "time", 124, 1.6), Steps.of(schedule, stats, "lam", 40, 1.0)


def bits_of(denoiser, images, indices, c, grids, steps=20, order=4, strata=40, seed=0):
    """Images (B, 3, 32, 32) uint8, five numbers each in bits per dimension, from generators seeded by `indices`.

    uniform: −log of the ODE's density at the image spread over its bins. gaussian: the bound with x_1 = α x_0 + σ ε in place
    of that, the last term and the noise being those of DDPM. sde: the same with the reverse SDE above x_1, in continuous time.
    elbo: the same with the chain's own steps, DDPM's bound with K = N and the optimal variances; elbo_lam: with as many, even in λ.
    """
    schedule, dims, shape = denoiser.schedule, images[0].numel(), images.shape[1:]
    x0, level = to_unit(images), step_of(denoiser)
    generators = [generator_of(i, seed) for i in indices]

    def drawn(draw):
        return torch.stack([draw(g) for g in generators])

    signs = drawn(lambda g: dpmlib.rademacher(x0[:1], 1, g)[0, 0])[None]
    u, noise = drawn(lambda g: torch.rand(shape, generator=g)), drawn(lambda g: torch.randn(shape, generator=g))
    far, places = drawn(lambda g: torch.randn(strata, *shape, generator=g)), drawn(lambda g: torch.rand(strata, generator=g))

    def ode(x):
        return dpmlib.ode_log_prob(denoiser, x, schedule, steps=steps, order=order, probes=signs)[0]

    def wrong(t, eps):
        """‖ε − ε̂‖² at times t (B,), one per image."""
        there = schedule.level(t.clamp(max=1.0))
        return (denoiser(dpmlib.diffuse(x0, there, eps), there).eps - eps).double().square().sum((1, 2, 3))

    uniform = dpmlib.bits_per_dim(ode(dpmlib.dequantise(images, u)), dims, BIN)
    first = dpmlib.with_data(dpmlib.Levels(*(v[None] for v in (level.t, level.alpha, level.sigma, level.lam))))
    with torch.no_grad():
        bound = dpmlib.elbo(denoiser, x0, first, last_variance=c, bins=256, prior=ode, noise=noise)
        # KL between the paths of the two SDEs: ∫ E‖ε − ε̂‖² dλ, one λ from each of equal strata
        ends = schedule.lam(schedule.t_max), level.lam
        where = ends[0] + (ends[1] - ends[0]) * (torch.arange(strata) + places).double() / strata
        error = torch.stack([wrong(schedule.t_of_lam(where[:, i]), far[:, i]) for i in range(strata)]).mean(0)
        top = schedule.level(schedule.t_max)
        prior = 0.5 * (top.alpha / top.sigma) ** 2 * x0.double().square().sum((1, 2, 3))
        sde = bound.last - (ends[1] - ends[0]) * error - prior
        columns = [uniform, bound.bits_per_dim(), dpmlib.bits_per_dim(sde, dims)]
        for grid in grids:  # the sum over its steps, one from each stratum
            nats, widths = bound.last - prior - dims * grid.a.sum(), grid.edges.diff()
            picks = torch.stack([torch.rand(len(widths), generator=g) for g in generators])
            for i, width in enumerate(widths):
                step = grid.edges[i] + (picks[:, i] * width).long()
                eps = drawn(lambda g: torch.randn(shape, generator=g))
                nats = nats - width * grid.b[step] * wrong(grid.t[step], eps)
            columns.append(dpmlib.bits_per_dim(nats, dims))
    return [[round(v, 6) for v in row] for row in torch.stack([col.double() for col in columns], 1).tolist()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--order", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    denoiser, images, revision = dpmlib.pretrained("cifar10"), cifar10("test")[0], provenance.commit()
    c = last_variance(denoiser, cifar10("train")[0][:200], given.seed)
    grids = chains(denoiser.schedule, statistics.load())
    rows, start = [], time.process_time()
    for part in torch.arange(given.images).split(BATCH):
        rows += bits_of(denoiser, images[part], part.tolist(), c, grids, given.steps, given.order, seed=given.seed)
        if len(rows) > 1:
            table = torch.tensor(rows, dtype=torch.float64)
            mean, error = table.mean(0), table.std(0) / len(table) ** 0.5
            note = {
                "command": f"python benchmarks/ode_likelihood.py --images {given.images} --steps {given.steps} "
                           f"--order {given.order} --seed {given.seed}",
                "commit": revision, "device": f"{platform.machine()} CPU, 1 thread", "torch": torch.__version__, "seed": given.seed,
                "network": "cifar10, no label", "data": "the first test images of dpmlib.data.cifar10", "images": len(rows),
                "steps": given.steps, "order": given.order, "clock": "lam", "probes": 1, "t_end": denoiser.schedule.t_end,
                "last_variance": c, "cpu_seconds": round(time.process_time() - start), "columns": COLUMNS,
                "mean": [round(v, 4) for v in mean.tolist()], "standard_error": [round(v, 4) for v in error.tolist()],
                "bits_per_dim": rows,
            }
            given.out.write_text(json.dumps(note).replace("], [", "],\n[") + "\n")
            print(len(rows), *(f"{name} {m:.3f} ± {e:.3f}" for name, m, e in zip(COLUMNS, mean, error)), flush=True)


if __name__ == "__main__":
    main()
