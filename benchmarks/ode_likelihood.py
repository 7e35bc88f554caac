"""Bits per dimension of the trained U-Net on CIFAR-10's test images: its ODE's likelihood, and the bound of its SDE.

    python benchmarks/ode_likelihood.py --images 128        writes dpmlib/weights/cifar10_ode.json

Each image has a generator of its own, so any of them can be measured again by itself. The network is asked without a label.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import torch

import dpmlib
from dpmlib import provenance
from dpmlib.data import cifar10, to_unit

RESULT = Path(dpmlib.__file__).parent / "weights" / "cifar10_ode.json"
BIN = 2 / 255  # the width of a grey level, in units of to_unit
COLUMNS = ("uniform", "gaussian", "sde")


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


def bits_of(denoiser, image, index, c, steps=20, order=4, strata=40, seed=0):
    """One image (3, 32, 32) uint8, three numbers in bits per dimension.

    uniform: −log of the ODE's density at the image spread over its bins. gaussian: the bound with x_1 = α x_0 + σ ε in place
    of that, the last term and the noise being those of DDPM. sde: the same with the reverse SDE above x_1, in continuous time.
    """
    g, schedule, dims = generator_of(index, seed), denoiser.schedule, image.numel()
    x0, level = to_unit(image[None]), step_of(denoiser)
    signs = dpmlib.rademacher(x0, 1, g)
    u, noise, far = torch.rand(x0.shape, generator=g), torch.randn(x0.shape, generator=g), torch.randn(strata, *x0.shape[1:], generator=g)

    def ode(x):
        return dpmlib.ode_log_prob(denoiser, x, schedule, steps=steps, order=order, probes=signs)[0]

    uniform = dpmlib.bits_per_dim(ode(dpmlib.dequantise(image[None], u)), dims, BIN)
    first = dpmlib.with_data(dpmlib.Levels(*(v[None] for v in (level.t, level.alpha, level.sigma, level.lam))))
    with torch.no_grad():
        bound = dpmlib.elbo(denoiser, x0, first, last_variance=c, bins=256, prior=ode, noise=noise)
        # KL between the paths of the two SDEs: ∫ E‖ε − ε̂‖² dλ, one λ from each of equal strata
        ends = schedule.lam(schedule.t_max), level.lam
        where = (torch.arange(strata) + torch.rand(strata, generator=g)) / strata
        there = schedule.level(schedule.t_of_lam(ends[0] + (ends[1] - ends[0]) * where.double()).clamp(max=1.0))
        x = dpmlib.diffuse(x0.expand(far.shape), there, far)
        wrong = torch.cat([(denoiser(x[i:i + 1], there[i:i + 1]).eps - far[i]).square().sum((1, 2, 3)) for i in range(strata)])
        top = schedule.level(schedule.t_max)
        prior = 0.5 * (top.alpha / top.sigma) ** 2 * x0.square().sum()
        path = (ends[1] - ends[0]) * wrong.double().mean() + prior
    sde = dpmlib.bits_per_dim(bound.last - path, dims)
    return [round(v.item(), 6) for v in (uniform, bound.bits_per_dim(), sde)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--order", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    denoiser, images, revision = dpmlib.pretrained("cifar10"), cifar10("test")[0], provenance.commit()
    c = last_variance(denoiser, cifar10("train")[0][:200], given.seed)
    rows, start = [], time.process_time()
    for i in range(given.images):
        rows.append(bits_of(denoiser, images[i], i, c, given.steps, given.order, seed=given.seed))
        if i % 8 == 7 or i == given.images - 1:
            table = torch.tensor(rows, dtype=torch.float64)
            mean, error = table.mean(0), table.std(0) / len(table) ** 0.5
            note = {
                "command": f"python benchmarks/ode_likelihood.py --images {given.images} --steps {given.steps} "
                           f"--order {given.order} --seed {given.seed}",
                "commit": revision, "device": f"{platform.machine()} CPU, 1 thread", "torch": torch.__version__, "seed": given.seed,
                "network": "cifar10, no label", "data": "the first test images of dpmlib.data.cifar10", "images": i + 1,
                "steps": given.steps, "order": given.order, "clock": "lam", "probes": 1, "t_end": denoiser.schedule.t_end,
                "last_variance": c, "cpu_seconds": round(time.process_time() - start), "columns": COLUMNS,
                "mean": [round(v, 4) for v in mean.tolist()], "standard_error": [round(v, 4) for v in error.tolist()],
                "bits_per_dim": rows,
            }
            given.out.write_text(json.dumps(note).replace("], [", "],\n[") + "\n")
            print(i + 1, *(f"{name} {m:.3f} ± {e:.3f}" for name, m, e in zip(COLUMNS, mean, error)), flush=True)


if __name__ == "__main__":
    main()
