"""How good is a DDPM on the plane after half a minute? Sliced Wasserstein distance of its samples to true ones, over
the distance that two independent sets of true samples have: 1 is perfect. 5,000 samples, means over 8 repeats.

    python benchmarks/toy_ddpm.py [--data grid8 checkerboard spirals] [--steps 2000]
"""

import argparse
import time

import torch

import dpmlib
from dpmlib.data import toy2d
from dpmlib.losses import denoising
from dpmlib.metrics import sliced_wasserstein
from dpmlib.nets import MLP, Preconditioned
from dpmlib.train import fit

SAMPLES, REPEATS = 5000, 8


def train(name: str, steps: int, seed: int = 0):
    """A denoiser of `name`, and the seconds it took."""
    torch.manual_seed(seed)
    schedule = dpmlib.DiscreteVP.linear(1000)
    start = time.perf_counter()
    run = fit(Preconditioned(MLP(2), schedule), denoising(schedule), lambda g: toy2d(name, 512, g), steps, lr=2e-3,
              cooldown=1.0, ema=0.99, generator=torch.Generator().manual_seed(seed))
    return dpmlib.Denoiser(run.model, schedule), time.perf_counter() - start


@torch.no_grad()
def ratio(denoiser, name: str, n: int = 250, seed: int = 1):
    """Mean distances (model to truth, truth to truth) over the repeats, sampling with n of the chain's 1000 steps."""
    generator = torch.Generator().manual_seed(seed)
    grid = dpmlib.levels(denoiser.schedule, n, to_zero=True)
    noise = torch.randn(SAMPLES * REPEATS, 2, generator=generator)
    *_, drawn = dpmlib.ancestral(denoiser, noise, grid, generator=generator)
    ours = theirs = 0.0
    for part in drawn.chunk(REPEATS):
        truth, other = toy2d(name, SAMPLES, generator), toy2d(name, SAMPLES, generator)
        ours += sliced_wasserstein(part, truth, generator=generator) / REPEATS
        theirs += sliced_wasserstein(other, truth, generator=generator) / REPEATS
    return ours, theirs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", nargs="+", default=["grid8", "checkerboard", "spirals"])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    for name in options.data:
        for seed in options.seeds:
            denoiser, seconds = train(name, options.steps, seed)
            ours, theirs = ratio(denoiser, name)
            print(f"{name:12s} seed {seed}   {ours:.4f} / {theirs:.4f} = {ours / theirs:.2f}   trained in {seconds:.0f} s on "
                  f"{torch.get_num_threads()} threads", flush=True)
