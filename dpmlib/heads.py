"""Two heads on a frozen network of ε: the squared noise and the residual, each per coordinate (Bao et al. 2022b).

    python -m dpmlib.heads --network cifar10 --out dpmlib/weights/cifar10_heads.safetensors

Given a network ε̂, regression of ε² finds h = E[ε² | x_t] (SN, the squared noise), and regression of (ε − ε̂)² finds g = E[(ε − ε̂)² | x_t]
(NPR, the noise prediction residual). `covariance.with_squared_noise` and `with_residual` make variances of them.

The loss is w (h − ε²)² with a weight w > 0 that depends on nothing but x_t and the level. It does not move the minimiser:
E[w (h − ε²)² | x_t] = w (h − E[ε² | x_t])² + w Var[ε² | x_t], whose least value in h is at E[ε² | x_t] whatever w is. Without a
weight the noisy levels, where (ε − ε̂)² is 10⁴ times smaller than next to the data, would teach nothing. Best is one over the
variance of the target. A Gaussian belief with variance g has Var (ε − ε̂)² = 2 g² and Var ε² = 2 g² + 4 ε̂² g; with the present g of the
head in it, and no gradient through it, these are the weights.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import checkpoint as files
from . import provenance
from .covariance import clip_last, with_residual, with_squared_noise
from .data import cifar10, to_unit
from .denoiser import Believer, Denoiser
from .levels import Levels, diffuse, per_sample
from .noise import normal_like
from .posterior import Posterior, mean_from_output
from .pretrained import WEIGHTS, pretrained
from .schedules import Schedule
from .statistics import mean_squares
from .train import Trained, fit
from .unet import Residual, groups

__all__ = ["Heads", "Sighted", "clipped", "export", "head_loss", "load", "matched", "residual", "squared_noise"]


class Heads(nn.Module):
    """`heads(features, emb, belief)` -> (h, g), two positive tensors of the shape of x_t: estimates of E[ε² | x_t] and E[(ε − ε̂)² | x_t].

    features, emb   channels of the network's last features and the size of its embedding
    channels, patch of the image, and how many pixels a side the network folds into channels
    lams, means     the level's mean e of (ε − ε̂)², at increasing λ; straight lines in log e between them

    An untrained head says g = e and h = ε̂² + e, the belief of Analytic-DPM. What it learns is u in g = e exp(u) and in
    h = (ε̂² + e) exp(u e/(ε̂² + e)): positive whatever u is, and for small u h = ε̂² + e (1 + u), so that an error of u counts as much
    at every level.
    """

    def __init__(self, features: int, emb: int, lams, means, channels: int = 3, patch: int = 2, width: int = 48):
        super().__init__()
        lams, means = (torch.as_tensor(v, dtype=torch.float64) for v in (lams, means))
        if lams.ndim != 1 or len(lams) < 2 or lams.shape != means.shape or not bool((lams.diff() > 0).all() and (means > 0).all()):
            raise ValueError(f"lams {tuple(lams.shape)}, means {tuple(means.shape)}: need two or more increasing λ, a positive mean each")
        self.config = dict(features=features, emb=emb, lams=lams.tolist(), means=means.tolist(), channels=channels, patch=patch,
                           width=width)
        self.lams, self.log_means, self.patch = lams, means.log(), patch
        pixels = channels * patch**2
        self.stem = nn.Conv2d(features + 3 * pixels, width, 3, padding=1)
        self.block, self.norm = Residual(width, width, emb), groups(width)
        self.last = nn.Conv2d(width, 2 * pixels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def level_mean(self, level: Levels) -> Tensor:
        """e at `level`, of its shape, float64; that of the outermost λ beyond it."""
        lams, log_means = self.lams.to(level.lam.device), self.log_means.to(level.lam.device)
        right = torch.searchsorted(lams, level.lam.contiguous()).clamp(1, len(lams) - 1)
        share = ((level.lam - lams[right - 1]) / (lams[right] - lams[right - 1])).clamp(0, 1)
        return torch.lerp(log_means[right - 1], log_means[right], share).exp()

    def forward(self, features: Tensor, emb: Tensor, belief: Posterior) -> tuple[Tensor, Tensor]:
        eps = belief.eps
        seen = F.pixel_unshuffle(torch.cat([belief.x, eps, belief.mean.clamp(-1, 1)], dim=1), self.patch)
        out = self.stem(torch.cat([features, seen.to(features.dtype)], dim=1))
        out = self.last(F.silu(self.norm(self.block(out, emb))))
        for_h, for_g = F.pixel_shuffle(out.to(eps.dtype), self.patch).chunk(2, dim=1)
        e = self.level_mean(belief.level).to(eps)
        e = e if e.ndim == 0 else per_sample(e, eps)
        plain = eps.square() + e
        return plain * (for_h * e / plain).clamp(-12, 12).exp(), e * for_g.clamp(-12, 12).exp()


class Sighted:
    """A denoiser that remembers what its network saw last: a head asked about the same x costs no second call of the network.

    `denoiser` is a `Denoiser` of a `Preconditioned` U-Net, such as `pretrained` returns. `.squared(x, level)` and
    `.residual(x, level)` are the heads' answers, of the shape of x; `.both(x, level)` is (ε̂, h, g) of one call. A head asked about
    another x than the denoiser was asked about last calls the network, without a label.
    """

    def __init__(self, denoiser: Denoiser, heads: Heads):
        self.denoiser, self.heads, self.seen = denoiser, heads, None

    def __call__(self, x: Tensor, level: Levels, y: Tensor | None = None) -> Posterior:
        net, number = self.denoiser.net, self.denoiser.numbers(x, level)
        features, emb = net.net.features(x, number, y)
        own = net.schedule.level(number.double())
        eps = per_sample(own.sigma, x) * x + per_sample(own.alpha, x) * net.net.output(features).to(x.dtype)
        belief = Posterior(mean_from_output(eps, x, level, self.denoiser.predicts), x=x, level=level)
        self.seen = belief, features, emb
        return belief

    def ask(self, heads: Heads, x: Tensor, level: Levels) -> tuple[Posterior, Tensor, Tensor]:
        """The belief about x, h and g, the network being called only if it was not asked about this very x last."""
        if self.seen is None or self.seen[0].x is not x or self.seen[0].level is not level:
            self(x, level)
        (belief, features, emb), self.seen = self.seen, None  # held no longer than needed
        return belief, *heads(features, emb, belief)

    def squared(self, x: Tensor, level: Levels) -> Tensor:
        return self.ask(self.heads, x, level)[1]

    def residual(self, x: Tensor, level: Levels) -> Tensor:
        return self.ask(self.heads, x, level)[2]

    def both(self, x: Tensor, level: Levels) -> tuple[Tensor, Tensor, Tensor]:
        belief, h, g = self.ask(self.heads, x, level)
        return belief.eps, h, g


def squared_noise(denoiser: Denoiser, heads: Heads, most: float = 1.0) -> Believer:
    """SN-DPM: the denoiser with c = (σ²/α²)(h − ε̂²) per coordinate, cut to [0, `most`]; one call of the network each time."""
    sighted = Sighted(denoiser, heads)
    return with_squared_noise(sighted, sighted.squared, most)


def residual(denoiser: Denoiser, heads: Heads, most: float = 1.0) -> Believer:
    """NPR-DPM: the denoiser with c = (σ²/α²) g per coordinate, at most `most`; one call of the network each time."""
    sighted = Sighted(denoiser, heads)
    return with_residual(sighted, sighted.residual, most)


def matched(believer: Believer, schedule: Schedule) -> Believer:
    """A denoiser made for the variance-preserving `schedule`, for use on any other one that preserves variance.

    With α² + σ² = 1 the distribution of x_t depends on λ alone, so the level of `schedule` with the same λ is the same question. Where λ
    lies outside of the schedule the nearest end is asked. Beyond the noisy end what it says of x_0 is taken, mean and variance; beyond
    the clean end what it says of ε.
    """
    low, high = schedule.lam(schedule.t_max), schedule.lam(schedule.t_end)

    def asked(x, level, **condition) -> Posterior:
        own = schedule.level(schedule.t_of_lam(level.lam.clamp(low, high)).clamp(schedule.t_end, schedule.t_max))
        belief = believer(x, own, **condition)
        if level.lam <= high:
            return replace(belief, level=level)
        var = None if belief.var is None else belief.var * torch.exp(2 * (own.lam - level.lam))
        return replace(belief, mean=(x - level.sigma * belief.eps) / level.alpha, var=var, cov=None, level=level)

    return asked


def clipped(believer: Believer, grid: Levels, eta: float = 1.0, pixels: float = 2.0, steps: int = 1) -> Believer:
    """The denoiser with c at most 1, as data in [−1, 1] allow, and in the last noisy steps of `grid` at most what `clip_last` allows."""
    most = clip_last(1.0, grid, eta, pixels, steps)

    def asked(x, level, **condition) -> Posterior:
        belief = believer(x, level, **condition)
        step = int((grid.t[:-1] >= level.t).sum()) - 1
        return replace(belief, var=torch.as_tensor(belief.var).clamp(max=float(most[step])))

    return asked


def head_loss(denoiser: Denoiser):
    """The loss (heads, (x0, t, noise), generator) -> (B,) that `fit` takes: both weighted squared errors; the network learns nothing."""

    def loss(heads, batch, generator=None):
        x0, t, noise = batch
        level = denoiser.schedule.level(t)
        x, sighted = diffuse(x0, level, noise), Sighted(denoiser, heads)
        with torch.no_grad():
            sighted(x, level)
        belief, h, g = sighted.ask(heads, x, level)
        eps, v = belief.eps, g.detach()
        squared = (h - noise.square()).square() / (2 * v**2 + 4 * eps.square() * v)
        residual = (g - (noise - eps).square()).square() / (2 * v**2)
        return (squared + residual).flatten(1).mean(1)

    return loss


def batches(images: Tensor, schedule, batch: int):
    """A function generator -> (x0, t, noise) for `fit`; steps n = ⌈N u²⌉, u uniform: the closer to the data the more often."""

    def draw(generator):
        x0 = to_unit(images[torch.randint(len(images), (batch,), generator=generator, device=generator.device)])
        flip = torch.rand(batch, generator=generator, device=generator.device) < 0.5
        u = (torch.rand((), generator=generator, device=generator.device) + torch.arange(batch, device=generator.device) / batch) % 1
        t = ((schedule.N * u.double() ** 2).floor() + 1).clamp(max=schedule.N) / schedule.N
        return torch.where(flip[:, None, None, None], x0.flip(-1), x0), t, normal_like(x0, generator)

    return draw


def level_means(denoiser: Denoiser, x0: Tensor, noise: Tensor, count: int = 33) -> tuple[Tensor, Tensor]:
    """(λ, mean of (ε − ε̂)²) at `count` steps of the denoiser's chain, λ increasing."""
    N = denoiser.schedule.N
    steps = np.unique(np.round(1 + (N - 1) * np.linspace(0, 1, count) ** 1.6))[::-1]
    grid = denoiser.schedule.level(torch.tensor(steps.copy()) / N)
    return grid.lam, mean_squares(denoiser, x0, noise, grid, batch=64)[1].mean(1)


def build(denoiser: Denoiser, lams, means, width: int = 48) -> Heads:
    """Untrained heads that fit the network of `denoiser`."""
    config = denoiser.net.net.config
    return Heads(config["width"], 4 * config["width"], lams, means, config["channels"], config["patch"], width)


def export(path: str | os.PathLike, heads: Heads, **notes) -> None:
    """Write the weights in float16, what is needed to build the heads again, and whatever else is to be remembered."""
    files.save(path, {k: v.half() for k, v in heads.state_dict().items()}, heads=heads.config, **notes)


def load(name: str | os.PathLike = "cifar10", device: torch.device | str = "cpu") -> Heads:
    """The heads trained on the network `name`, or those of a file that `export` wrote, in eval mode; `.notes` has their history.

    Raises ValueError for a file that is not whole or holds no heads, FileNotFoundError where there is none.
    """
    path = Path(name) if str(name).endswith(".safetensors") else WEIGHTS / f"{name}_heads.safetensors"
    tensors, notes = files.load(path)
    if "heads" not in notes:
        raise ValueError(f"{path} holds no heads: it was not written by dpmlib.heads.export")
    heads = Heads(**notes["heads"])
    files.load_into(heads, {k: v.float() for k, v in tensors.items()}, path)
    heads.notes = notes
    return heads.to(device).eval().requires_grad_(False)


def main(arguments=None) -> Trained:
    parser = argparse.ArgumentParser("python -m dpmlib.heads", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--network", default="cifar10")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--cooldown", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from", dest="start", default=None, help="begin with the heads of this network")
    parser.add_argument("--checkpoint", type=Path, default=None, help="written every 500 steps, and continued if it is there")
    options = parser.parse_args(arguments)
    denoiser, images = pretrained(options.network), cifar10("train")[0]
    generator = torch.Generator().manual_seed(options.seed)
    x0 = to_unit(images[:64])
    with torch.no_grad():
        lams, means = level_means(denoiser, x0, normal_like(x0, generator))
    torch.manual_seed(options.seed)  # the initial weights
    heads = build(denoiser, lams, means)
    if options.start:
        files.load_into(heads, load(options.start).state_dict(), options.start)
    run = fit(heads, head_loss(denoiser), batches(images, denoiser.schedule, options.batch), options.steps, generator=generator,
              batch=options.batch, lr=options.lr, cooldown=options.cooldown, ema=0.998, bf16=True, checkpoint=options.checkpoint)
    last = run.log[-1]
    export(options.out, run.model, network=options.network, parameters=sum(p.numel() for p in heads.parameters()),
           commit=provenance.commit(),
           command=f"OMP_NUM_THREADS={torch.get_num_threads()} python -m dpmlib.heads --network {options.network} --steps {options.steps} "
                   f"--cooldown {options.cooldown} --batch {options.batch} --lr {options.lr} --seed {options.seed} --out {options.out}"
                   + (f" --from {options.start}" if options.start else ""),
           device=provenance.device(torch.device("cpu")), torch=torch.__version__, seed=options.seed, images=last["images"],
           precision="bfloat16 autocast", condition=None, loss=[[row["step"], round(row["loss"], 4)] for row in run.log])
    print(json.dumps(last))
    return run


if __name__ == "__main__":
    main()
