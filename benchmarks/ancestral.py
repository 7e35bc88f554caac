"""Cost of one ancestral step beside diffusers' DDPMScheduler.step, with a network that costs nothing.

Both draw the same number of normal variables for a (64, 3, 32, 32) float32 batch. Each takes turns with the other and the
medians are compared, so that a busy machine slows both.
"""

import statistics
import time
from collections import deque

import torch
from diffusers import DDPMScheduler

import dpmlib

SHAPE, STEPS, ROUNDS = (64, 3, 32, 32), 50, 15


def ours(x, out, generator):
    schedule = dpmlib.DiscreteVP.linear(1000)
    grid = dpmlib.levels(schedule, STEPS, to_zero=True)
    denoiser = dpmlib.Denoiser(lambda x, number: out, schedule)
    start = time.perf_counter()
    deque(dpmlib.ancestral(denoiser, x, grid, generator=generator), maxlen=0)
    return (time.perf_counter() - start) / STEPS


def theirs(x, out, generator):
    scheduler = DDPMScheduler(num_train_timesteps=1000, clip_sample=False)
    scheduler.set_timesteps(STEPS)
    start = time.perf_counter()
    for t in scheduler.timesteps:
        x = scheduler.step(out, t, x, generator=generator).prev_sample
    return (time.perf_counter() - start) / STEPS


def ratio() -> float:
    """Seconds per step, ours over theirs."""
    generator = torch.Generator().manual_seed(0)
    x, out = torch.randn(SHAPE, generator=generator), torch.randn(SHAPE, generator=generator)
    pairs = [(ours(x, out, generator), theirs(x, out, generator)) for _ in range(ROUNDS)]
    return statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)


if __name__ == "__main__":
    print(f"ancestral step, seconds over those of diffusers' DDPMScheduler.step: {ratio():.2f}")
