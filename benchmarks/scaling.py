"""What a training step of the U-Net costs: arithmetic as counted and as a share of the device's matrix peak, memory by batch, the
time that drawing a batch takes beside it, and the throughput of two processes beside that of one.

    python benchmarks/scaling.py [--preset cifar10-tiny] [--batches 16 64 256] [--processes 1 2] [--out FILE.json]

The peak is measured in the same run, by a large matrix product in the same precision. Two processes share a batch of the same size.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dpmlib import provenance
from dpmlib.noise import normal_like
from dpmlib.recipe import PRESETS, noisy_images, noisy_loss
from dpmlib.train import fit

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def wait():
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def median_seconds(function, rounds=5):
    """The median of `rounds` calls after one that is not counted."""
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        function()
        wait()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def matrix_peak(n):
    """Floating-point operations per second of an n × n product in bfloat16 (2 n³ each)."""
    a, b = torch.randn(2, n, n, device=DEVICE, dtype=torch.bfloat16)
    return 2 * n**3 / median_seconds(lambda: a @ b)


def stepper(preset, batch):
    """A training step in bfloat16, as `fit` does it, on random images."""
    layout = torch.channels_last if DEVICE.type == "cuda" else torch.contiguous_format
    net = preset.network().to(DEVICE, memory_format=layout)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    x = torch.randn(batch, 3, 32, 32, device=DEVICE)
    t, y = torch.rand(batch, device=DEVICE).clamp(min=1e-3), torch.randint(10, (batch,), device=DEVICE)

    def step():
        with torch.autocast(DEVICE.type, torch.bfloat16):
            loss = (net(x, t, y).float() - x).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def drawer(preset, batch):
    """One batch as the recipe draws it: 50,000 images on the device, flips, labels withheld, times and noise."""
    images = torch.zeros(50_000, 3, 32, 32, dtype=torch.uint8, device=DEVICE)
    draw = noisy_images(images, torch.zeros(50_000, dtype=torch.long, device=DEVICE), replace(preset, batch=batch))
    generator = torch.Generator(DEVICE).manual_seed(0)
    return lambda: draw(generator)


def operations(preset):
    """Floating-point operations of one image in a training step, counted call by call by torch."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # a fused kernel's products would not be counted
        stepper(preset, 2)()
    return counter.get_total_flops() / 2


def memory(preset, batch):
    """Peak memory of three steps, in MiB: of the GPU, or of a fresh process above what it held before the first step."""
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step = stepper(preset, batch)
        for _ in range(3):
            step()
        wait()
        return torch.cuda.max_memory_allocated() / 2**20
    run = subprocess.run([sys.executable, __file__, "--memory", str(batch), "--preset", preset_name(preset)], check=True,
                         capture_output=True, text=True)
    return float(run.stdout.split()[-1])


def preset_name(preset):
    return next(name for name, p in PRESETS.items() if p == preset)


def held():
    """The most that this process has held, MiB. (`getrusage` would count what the parent held when it was forked.)"""
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 2**10


def memory_here(preset, batch):
    stepper(preset, 1)()
    before, step = held(), stepper(preset, batch)
    for _ in range(3):
        step()
    print(held() - before)


def worker(preset, batch, steps=12):
    """One of the processes of `throughput`: `fit` on random images; the first quarter of the steps is for warming up."""
    if DEVICE.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.manual_seed(0)

    def batches(generator):
        x = torch.randn(batch, 3, 32, 32, generator=generator, device=DEVICE)
        y, t = torch.zeros(batch, dtype=torch.long, device=DEVICE), torch.full((batch,), 0.5, dtype=torch.float64, device=DEVICE)
        return x, y, t, normal_like(x, generator)

    run = fit(preset.network().to(DEVICE), noisy_loss(preset.schedule()), batches, steps, generator=torch.Generator(DEVICE).manual_seed(0),
              batch=batch, bf16=True, log_every=steps // 4, progress=False, distributed=True)
    first, last = run.log[0], run.log[-1]
    print("RATE", (last["images"] - first["images"]) / (last["seconds"] - first["seconds"]))


def throughput(name, processes, batch):
    """Images per second of `fit` in so many processes, each with one thread where there is no GPU."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DPMLIB_QUIET": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", __file__,
               "--preset", name, "--worker", str(batch)]
    run = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return min(float(line.split()[1]) for line in run.stdout.splitlines() if line.startswith("RATE"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="cifar10-tiny")
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path)
    for part in ("--memory", "--worker"):  # a process of this program's own
        parser.add_argument(part, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    preset = PRESETS[options.preset]
    if options.memory:
        return memory_here(preset, options.memory)
    if options.worker:
        return worker(preset, options.worker)
    each, peak = operations(preset), matrix_peak(8192 if DEVICE.type == "cuda" else 2048)
    print(f"{options.preset}: {each / 1e9:.3f} GFLOP per image and training step; matrix peak {peak / 1e9:.0f} GFLOP/s in bfloat16")
    rows = []
    for batch in options.batches:
        seconds = median_seconds(stepper(preset, batch))
        rate, drawing = batch / seconds, median_seconds(drawer(preset, batch)) / seconds
        rows.append({"batch": batch, "images_per_second": rate, "share_of_peak": rate * each / peak, "drawing_over_step": drawing,
                     "memory_MiB": memory(preset, batch)})
        print("batch {batch:4d}: {images_per_second:6.0f} images/s, {share_of_peak:.1%} of peak, drawing {drawing_over_step:.1%} "
              "of it, {memory_MiB:5.0f} MiB".format(**rows[-1]))
    batch = options.batches[len(options.batches) // 2]
    rates = {n: throughput(options.preset, n, batch) for n in options.processes}
    for n, rate in rates.items():
        print(f"{n} process(es), batch {batch} in all: {rate:8.0f} images/s, {rate / rates[options.processes[0]]:.2f} of the first row")
    if options.out:
        result = {"command": "python benchmarks/scaling.py " + " ".join(sys.argv[1:]), "commit": provenance.commit(),
                  "device": provenance.device(DEVICE),
                  "torch": torch.__version__, "gflop_per_image": each / 1e9, "peak_gflops": peak / 1e9, "batches": rows,
                  "processes": {str(n): rate for n, rate in rates.items()}}
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
