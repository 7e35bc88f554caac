"""Training: one loop for every model of the book, and `python -m dpmlib.train` for the U-Net on CIFAR-10.

The loop is a function of (seed, step): the random numbers of step s come from generators seeded with (seed, s), so
a run that is killed and resumed draws what it would have drawn, and no generator has to be saved.
"""

from __future__ import annotations

import copy
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from . import checkpoint as files

__all__ = ["Trained", "fit"]


@dataclass
class Trained:
    """What `fit` returns: `model`, the averaged (EMA) copy in eval mode; `raw`, the last iterate; `log`, a list of rows.

    A row holds step, images, loss (mean since the row before), lr, grad_norm, seconds and what `probe` returned.
    """

    model: nn.Module
    raw: nn.Module
    log: list[dict] = field(default_factory=list)
    seed: int = 0


def fit(model: nn.Module, loss: Callable, batches: Callable | Tensor, steps: int, *, generator: torch.Generator,
        batch: int = 256, lr: float = 1e-3, warmup: int = 100, cooldown: float = 0.0, weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.99), clip: float = 1.0, ema: float = 0.999, bf16: bool = False,
        checkpoint: str | os.PathLike | None = None, every: int = 500, log_every: int = 50,
        probe: Callable[[nn.Module], dict] | None = None, on_save: Callable[[Trained, int], None] | None = None,
        progress: bool = True, distributed: bool = False) -> Trained:
    """Minimise `loss(model, batch, generator)`, a scalar or one number per sample, with AdamW.

    batches      a tensor (n, ...) of data, from which `batch` random rows are drawn at every step, or a function
                 generator -> batch (a tensor, or a tuple of tensors with equal first dimension)
    lr           climbs linearly for `warmup` steps; over the last `cooldown` (a fraction of all steps) it falls like a cosine
    ema          the average's memory: decay min(ema, (1 + s)/(10 + s)) at step s, so it forgets its first steps soon
    bf16         autocast where the device computes in bfloat16; weights, moments and loss stay float32
    checkpoint   a file, written every `every` steps and at the end; if it is there already, training goes on from it
    distributed  share every batch among the processes of `torchrun` or `accelerate launch`, if there are several

    The model stays on its device and is trained in place. The seed is drawn from `generator`.
    Raises ValueError for bad arguments or a checkpoint of another network or another run, FloatingPointError when the
    loss stops being a number, OSError when the disk is full; each names the last good checkpoint, which stays.
    """
    if steps < 1 or batch < 1 or lr <= 0 or not 0 <= cooldown <= 1 or not 0 <= ema < 1:
        raise ValueError(f"steps={steps}, batch={batch}, lr={lr}, cooldown={cooldown}, ema={ema}: "
                         "need steps >= 1, batch >= 1, lr > 0, cooldown in [0, 1], ema in [0, 1)")
    device = next(model.parameters()).device
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    if isinstance(batches, Tensor):
        batches = _rows(batches, batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr, betas, weight_decay=weight_decay, fused=True)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    run = Trained(average, model, [], seed)
    done = _resume(checkpoint, run, optimizer) if checkpoint and Path(checkpoint).exists() else 0

    accelerator = _accelerator(device) if distributed else None
    rank, world = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    wrapped = accelerator.prepare(model) if world > 1 else model
    started = time.perf_counter() - (run.log[-1]["seconds"] if run.log else 0.0)
    total, norm, counted, images = 0.0, 0.0, 0, run.log[-1]["images"] if run.log else 0
    wrapped.train()
    with torch.random.fork_rng(), _bar(range(done, steps), done, steps, progress and rank == 0) as bar:
        for step in bar:
            whole = batches(_generator(device, seed, step))  # every process draws the same batch and takes its share
            share = tuple(part[rank::world] for part in whole) if isinstance(whole, tuple) else whole[rank::world]
            torch.manual_seed(_seed(seed, step, rank, 2))  # dropout has no other source
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                value = loss(wrapped, share, _generator(device, seed, step, rank + 1)).mean()
            rate = lr * _factor(step, steps, warmup, cooldown)
            for group in optimizer.param_groups:
                group["lr"] = rate
            value.backward()
            norm = norm + nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            _average(average, model, min(ema, (1 + step) / (10 + step)))
            total, counted = total + value.detach(), counted + 1
            images += len(whole[0] if isinstance(whole, tuple) else whole)

            last, save = step + 1 == steps, checkpoint and ((step + 1) % every == 0 or step + 1 == steps)
            if (step + 1) % log_every == 0 or save or last:
                mean = float(accelerator.reduce(total, "mean") if world > 1 else total) / counted
                if not math.isfinite(mean):
                    raise FloatingPointError(
                        f"the loss became {mean} between steps {step + 1 - counted} and {step}; "
                        + (f"{checkpoint} keeps the state of the last save: run again with a smaller lr than {lr}"
                           if checkpoint and Path(checkpoint).exists() else f"try a smaller lr than {lr}"))
                row = dict(step=step + 1, images=images, loss=mean, lr=rate, grad_norm=float(norm) / counted,
                           seconds=time.perf_counter() - started)
                if probe and (save or last):
                    row |= probe(average)
                run.log.append(row)
                bar.set_postfix(loss=f"{mean:.4f}")
                total, norm, counted = 0.0, 0.0, 0
            if save and rank == 0:
                _save(checkpoint, run, optimizer, step + 1)
                if on_save:
                    on_save(run, step + 1)
    model.eval()
    return run


def _rows(data: Tensor, batch: int):
    def draw(generator):
        pick = torch.randint(len(data), (batch,), generator=generator, device=generator.device)
        return data[pick.to(data.device)]

    return draw


def _seed(*key: int) -> int:
    """A well-mixed number for a key such as (seed, step): neighbouring keys give unrelated generators."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def _generator(device, *key: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(_seed(*key))


def _factor(step: int, steps: int, warmup: int, cooldown: float) -> float:
    rise = min(1.0, (step + 1) / max(1, warmup))
    left = (steps - step) / max(1.0, cooldown * steps)
    return rise * (0.5 - 0.5 * math.cos(math.pi * min(1.0, left)) if cooldown else 1.0)


@torch.no_grad()
def _average(average: nn.Module, model: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
    for kept, new in zip(average.buffers(), model.buffers()):
        kept.copy_(new)


def _save(path, run: Trained, optimizer, step: int) -> None:
    tensors = files.flatten(model=run.raw.state_dict(), ema=run.model.state_dict(), adam=files.optimizer_tensors(optimizer))
    files.save(path, tensors, step=step, seed=run.seed, log=run.log)


def _resume(path, run: Trained, optimizer) -> int:
    tensors, notes = files.load(path)
    if not {"step", "seed", "log"} <= notes.keys():
        raise ValueError(f"{path} is no training checkpoint: give another name, or delete it to begin anew")
    files.load_into(run.raw, files.unflatten(tensors, "model"), path)
    files.load_into(run.model, files.unflatten(tensors, "ema"), path)
    files.load_optimizer(optimizer, files.unflatten(tensors, "adam"))
    run.log, run.seed = notes["log"], notes["seed"]
    return notes["step"]


def _accelerator(device):
    from accelerate import Accelerator  # imported here: it takes seconds, and one process does not need it

    return Accelerator(cpu=device.type == "cpu")


def _bar(steps, done, total, wanted):
    from tqdm import tqdm

    quiet = not wanted or "DPMLIB_QUIET" in os.environ or "PYTEST_CURRENT_TEST" in os.environ
    return tqdm(steps, initial=done, total=total, disable=quiet, file=sys.stderr, mininterval=1.0)


if __name__ == "__main__":
    from .recipe import main

    main()
