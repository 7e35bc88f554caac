"""What the average of the weights, the weight of the loss, the levels trained on and mirrored images buy: one small U-Net, trained many
times by `train.fit`, judged on the same test images, noises and levels.

    python benchmarks/ablations.py [--device cpu] [--steps 500] [--seeds 0 1] [--only eps bound] [--out dpmlib/weights/ablations.json]

Every run is a name and a seed; the file is written anew after each, and a command that was stopped goes on with the runs that are missing.
Runs of one seed begin with the same weights and see the same images and noises, so that their differences are paired.
"""

import argparse
import copy
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from dpmlib import Denoiser, DiscreteVP, data, provenance
from dpmlib.levels import Levels
from dpmlib.losses import denoising_loss, elbo_weight, error_of, min_snr, random_level
from dpmlib.noise import normal_like
from dpmlib.recipe import Preset
from dpmlib.train import fit

SCHEDULE = DiscreteVP.linear(1000)  # its t labels the levels in every run, also in those that train on other levels
LOW, HIGH = float(SCHEDULE.lam(SCHEDULE.t_max)), float(SCHEDULE.lam(SCHEDULE.t_end))
MEMORIES = {"0.9": 0.9, "0.99": 0.99, "0.999": 0.999, "0.9999": 0.9999, "as fit": None}  # decays; None: the last tenth, as `fit` begins
FEW, IMAGES, LEVELS = 500, 192, 16  # training images of the runs with few; test images and levels of the measurement


@dataclass(frozen=True)
class Change:
    """What one ablation changes of the recipe: w(λ) on the error of ε, the quantile function of λ, the data."""

    weight: object = None
    density: object = None
    few: bool = False
    flips: bool = True


def evenly(u):
    """λ uniform: the bound's weight, as a density."""
    return LOW + (HIGH - LOW) * u


def cosine(u):
    """λ as the cosine chain has it, which `random_level` cuts to the range of the linear one."""
    return DiscreteVP.cosine(1000).lam(u.clamp(1e-3, 1))


CHANGES = {
    "eps": Change(),
    "bound": Change(weight=elbo_weight(SCHEDULE)),
    "v": Change(weight=error_of("v")),
    "few, mirrored": Change(few=True),
    "few": Change(few=True, flips=False),
    "bound, by density": Change(density=evenly),
    "cosine": Change(density=cosine),
    "x0": Change(weight=error_of("x0")),
    "min-SNR-5": Change(weight=min_snr(5.0)),
}


def initial_loss(level, second_moment):
    """E‖ε − σ x_t‖²/d = α²(α² + σ² E‖x_0‖²/d), what the network loses before its first step."""
    return level.alpha**2 * (level.alpha**2 + level.sigma**2 * second_moment)


def scale(change, second_moment):
    """The factor that makes a weighting's first loss the same as that of the recipe: the optimiser then sees one scale."""
    u = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    plain = SCHEDULE.level((u * SCHEDULE.N).floor().add(1) / SCHEDULE.N)
    level = plain if change.density is None else SCHEDULE.level(SCHEDULE.t_of_lam(change.density(u).clamp(LOW, HIGH)))
    weight = 1.0 if change.weight is None else change.weight(level)
    return float(initial_loss(plain, second_moment).mean() / (weight * initial_loss(level, second_moment)).mean())


def batches(images, preset, change):
    """The recipe's `noisy_images` with the levels and the mirroring of `change`; the order of the draws does not depend on it."""

    def draw(generator):
        def uniform():
            return torch.rand(preset.batch, generator=generator, device=generator.device)

        x0 = data.to_unit(images[torch.randint(len(images), (preset.batch,), generator=generator, device=generator.device)])
        picked = uniform()
        if change.flips:
            x0 = torch.where((picked < 0.5)[:, None, None, None], x0.flip(-1), x0)
        noise = normal_like(x0, generator)
        return x0, random_level(SCHEDULE, preset.batch, generator, change.density).t, noise

    return draw


class Averages:
    """Averages of several memories of one run, kept while it trains, and copies of all at chosen steps."""

    def __init__(self, decays, at):
        self.decays, self.at, self.step, self.kept, self.copies = decays, at, 0, {}, {}

    @torch.no_grad()
    def see(self, net):
        """Called before every step with the weights as they are: after `step` steps."""
        now = [p.detach() for p in net.parameters()]
        for name, decay in self.decays.items():
            if name not in self.kept:
                self.kept[name] = [p.clone() for p in now]
            decay = self.step / (9 + self.step) if decay is None else decay  # `fit` counts from the step before
            torch._foreach_lerp_(self.kept[name], now, 1 - decay)
        if self.step in self.at:
            self.copies[self.step] = {name: [p.clone() for p in weights] for name, weights in {"raw": now, **self.kept}.items()}
        self.step += 1


def with_weights(net, weights):
    net = copy.deepcopy(net).eval()
    with torch.no_grad():
        for parameter, value in zip(net.parameters(), weights):
            parameter.copy_(value)
    return net


@torch.inference_mode()
def errors(net, images, device):
    """‖ε − ε̂‖²/d at the levels of the measurement, mean and standard error over the images: two lists."""
    x0, noise = data.to_unit(images), normal_like(data.to_unit(images), torch.Generator().manual_seed(0))
    x0, noise, means, spreads = x0.to(device), noise.to(device), [], []
    for level in grid():
        level = Levels(*(part.to(device) for part in (level.t, level.alpha, level.sigma, level.lam)))
        parts = [denoising_loss(Denoiser(net, SCHEDULE), x, level, n) for x, n in zip(x0.split(64), noise.split(64))]
        error = torch.cat(parts).double()
        means.append(float(error.mean()))
        spreads.append(float(error.std() / len(error) ** 0.5))
    return [means, spreads]


def grid():
    """The levels of the measurement, evenly spaced in λ over the linear chain's range."""
    return SCHEDULE.level(SCHEDULE.t_of_lam(torch.linspace(LOW, HIGH, LEVELS, dtype=torch.float64)).clamp(SCHEDULE.t_end, 1))


def one_run(name, seed, preset, device, everything, test, averages=None):
    """Train once and measure: the dictionary that the file keeps. `everything`, `test`: images (n, 3, 32, 32), uint8."""
    change = CHANGES[name]
    images = (everything[:FEW] if change.few else everything).to(device)
    second = float(data.to_unit(everything[:5000]).square().mean())
    factor, kept = scale(change, second), Averages(averages or {}, (round(preset.steps * (1 - preset.cooldown)), preset.steps))
    torch.manual_seed(seed)
    net = preset.network().to(device)

    def loss(net, batch, generator):
        x0, t, noise = batch
        if averages:
            kept.see(net)
        return factor * denoising_loss(Denoiser(net, SCHEDULE), x0, SCHEDULE.level(t), noise, change.weight)

    started = time.process_time()
    run = fit(net, loss, batches(images, preset, change), preset.steps, generator=torch.Generator(device).manual_seed(seed),
              batch=preset.batch, lr=preset.lr, warmup=preset.warmup, cooldown=preset.cooldown, ema=preset.ema,
              weight_decay=preset.weight_decay, bf16=True, progress=False)
    result = {"test": errors(run.model, test, device), "factor": factor, "core_seconds": time.process_time() - started,
              "loss": [[row["step"], row["loss"]] for row in run.log]}
    if change.few:
        result["train"] = errors(run.model, images[:IMAGES].cpu(), device)
    if averages:
        kept.see(run.raw)  # the weights after the last step
        result["averages"] = {
            str(step): {key: errors(with_weights(run.raw, weights), test[:64], device)[0] for key, weights in copies.items()}
            for step, copies in kept.copies.items()}
    return result


def write(path, content):
    """All or nothing: a command that is killed while it writes leaves the file as it was."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(partial, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--width", type=int, default=24)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", choices=CHANGES, nargs="+", default=list(CHANGES))
    parser.add_argument("--out", type=Path, default=Path("dpmlib/weights/ablations.json"))
    options = parser.parse_args()
    preset = Preset(width=options.width, multipliers=(1, 2, 2), blocks=1, patch=2, heads=3, classes=0, steps=options.steps,
                    batch=options.batch, lr=2e-3, warmup=100, ema=0.99)
    level = grid()
    settings = {"preset": asdict(preset), "few": FEW, "images": IMAGES, "t": level.t.tolist(), "lam": level.lam.tolist()}
    settings = json.loads(json.dumps(settings))
    content = {"command": "python benchmarks/ablations.py " + " ".join(sys.argv[1:]), "commit": provenance.commit(),
               "device": provenance.device(torch.device(options.device)), "torch": torch.__version__,
               "parameters": sum(p.numel() for p in preset.network().parameters()), **settings, "runs": {}}
    if options.out.exists():
        content = json.loads(options.out.read_text())
        other = [key for key, value in settings.items() if content[key] != value]
        if other:
            raise ValueError(f"{options.out} holds runs with another {', '.join(other)}: give another --out, or the options of its command")
    everything, test = data.cifar10("train")[0], data.cifar10("test")[0][:IMAGES]
    for seed in options.seeds:
        for name in options.only:
            if f"{name}/{seed}" in content["runs"]:
                continue
            averages = MEMORIES if name == "eps" else None
            content["runs"][f"{name}/{seed}"] = run = one_run(name, seed, preset, options.device, everything, test, averages)
            write(options.out, content)
            print(f"{name:18s} seed {seed}: {run['core_seconds']:4.0f} s, mean error of ε {sum(run['test'][0]) / LEVELS:.4f}", flush=True)


if __name__ == "__main__":
    main()
