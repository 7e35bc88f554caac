"""Cost of one step of DPM-Solver++(2M) beside diffusers' DPMSolverMultistepScheduler.step, with a network that costs nothing.

Both take the same ε for a (64, 3, 32, 32) float32 batch, convert it to x_0 and step. What is done once per grid is not counted: our
coefficients, which come with the first step, their set_timesteps. They take turns, and medians are compared, so that a busy
machine slows both.
"""

import statistics
import time
from collections import deque

import torch
from diffusers import DPMSolverMultistepScheduler

import dpmlib

SHAPE, STEPS, ROUNDS = (64, 3, 32, 32), 50, 25


def ours(x, out):
    schedule = dpmlib.DiscreteVP.linear(1000)
    grid = dpmlib.levels(schedule, STEPS, to_zero=True)
    denoiser = dpmlib.Denoiser(lambda x, number: out, schedule)
    steps = dpmlib.ode_multistep(denoiser, x, grid, 2)
    next(steps)
    start = time.perf_counter()
    deque(steps, maxlen=0)
    return (time.perf_counter() - start) / (STEPS - 1)


def theirs(x, out):
    scheduler = DPMSolverMultistepScheduler(num_train_timesteps=1000, solver_order=2, timestep_spacing="trailing")
    scheduler.set_timesteps(STEPS)
    first, *rest = scheduler.timesteps
    x = scheduler.step(out, first, x).prev_sample
    start = time.perf_counter()
    for t in rest:
        x = scheduler.step(out, t, x).prev_sample
    return (time.perf_counter() - start) / (STEPS - 1)


def medians(rounds: int = ROUNDS) -> tuple[float, float]:
    """Seconds per step, ours and theirs."""
    generator = torch.Generator().manual_seed(0)
    x, out = torch.randn(SHAPE, generator=generator), torch.randn(SHAPE, generator=generator)
    with torch.inference_mode():
        pairs = [(ours(x, out), theirs(x, out)) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


if __name__ == "__main__":
    a, b = medians()
    print(f"seconds per step: {a:.6f}, diffusers {b:.6f}, ratio {a / b:.2f}")
