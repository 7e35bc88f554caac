"""The recipe behind `python -m dpmlib.train`: presets, the batches they train on, and the command itself."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from . import checkpoint as files
from . import data, provenance
from .denoiser import Denoiser
from .losses import denoising_loss, random_level
from .nets import Preconditioned
from .noise import normal_like
from .pretrained import export, pretrained
from .schedules import DiscreteVP
from .train import Trained, fit
from .unet import UNet

__all__ = ["PRESETS", "Preset", "loss_by_level", "main", "noisy_images"]


@dataclass(frozen=True)
class Preset:
    """A network, the chain it is trained on, and how. Every field is also an option of the command line."""

    width: int
    multipliers: tuple[int, ...]
    blocks: int
    patch: int
    attention: tuple[int, ...] = (8,)
    heads: int = 4
    dropout: float = 0.0
    chain: str = "linear"  # or "cosine": DiscreteVP.linear(1000), DiscreteVP.cosine(1000)
    classes: int = 10
    drop_label: float = 0.1  # how often the label is withheld, so that one network learns p(x) and p(x | y)
    steps: int = 100_000
    batch: int = 128
    lr: float = 1e-3
    warmup: int = 500
    cooldown: float = 0.2  # the last fifth of the steps brings the learning rate to zero
    ema: float = 0.9999
    weight_decay: float = 0.01

    def schedule(self) -> DiscreteVP:
        return {"linear": DiscreteVP.linear, "cosine": DiscreteVP.cosine}[self.chain](1000)

    def network(self) -> Preconditioned:
        unet = UNet(3, 32, self.width, self.multipliers, self.blocks, self.attention, self.classes, self.patch,
                    self.dropout, self.heads)
        return Preconditioned(unet, self.schedule())


PRESETS = {
    # 1.5 M parameters: half an hour of two quiet CPU cores; `pretrained("cifar10")` is this and a second run of twice the images
    "cifar10-tiny": Preset(width=48, multipliers=(1, 2, 2), blocks=1, patch=2, heads=3, steps=12_000, batch=64),
    # 8 M parameters: half an hour of one modern GPU
    "cifar10-small": Preset(width=80, multipliers=(1, 2, 2), blocks=2, patch=1, attention=(16, 8), dropout=0.1,
                            steps=60_000, batch=512),
    # 39 M parameters, about the size of Ho et al. 2020: days of one GPU, hours of eight
    "cifar10-base": Preset(width=128, multipliers=(1, 2, 2, 2), blocks=3, patch=1, attention=(16,), dropout=0.1,
                           steps=500_000, batch=256, lr=2e-4, warmup=5000),
}


def noisy_images(images: Tensor, labels: Tensor, preset: Preset):
    """A function generator -> (x0, y, t, noise) for `fit`: flipped images in [-1, 1], labels (some withheld), times, ε.

    `images` is uint8 (n, 3, S, S) and stays on its device. Everything random of a step is drawn here, for the whole
    batch, so that several processes that share a batch see what one process would.
    """
    schedule = preset.schedule()

    def draw(generator):
        def uniform():
            return torch.rand(preset.batch, generator=generator, device=generator.device)

        pick = torch.randint(len(images), (preset.batch,), generator=generator, device=generator.device)
        x0 = data.to_unit(images[pick])
        x0 = torch.where((uniform() < 0.5)[:, None, None, None], x0.flip(-1), x0)
        y = torch.where(uniform() < preset.drop_label, preset.classes, labels[pick])
        return x0, y, random_level(schedule, preset.batch, generator).t, normal_like(x0, generator)

    return draw


def noisy_loss(schedule):
    """The loss on those batches: the squared error of ε, each level weighing the same."""

    def loss(net, batch, generator):
        x0, y, t, noise = batch
        return denoising_loss(Denoiser(net, schedule), x0, schedule.level(t), noise, y=y)

    return loss


@torch.no_grad()
def loss_by_level(net, schedule: DiscreteVP, images: Tensor, count: int = 10) -> dict[str, float]:
    """Mean squared error of ε on `images`, unlabelled, with fixed noise, at `count` levels: {"eps@t=0.1": ...}."""
    x0, rows = data.to_unit(images), {}
    noise = normal_like(x0, torch.Generator(x0.device).manual_seed(0))
    for t in torch.linspace(1 / count, 1, count, dtype=torch.float64):
        error = denoising_loss(Denoiser(net, schedule), x0, schedule.level(t), noise)
        rows[f"eps@t={t:.2f}"] = float(error.mean())
    return rows


def main(arguments=None) -> Trained:
    parser = argparse.ArgumentParser("python -m dpmlib.train", formatter_class=argparse.ArgumentDefaultsHelpFormatter,
                                     description="Train a U-Net on CIFAR-10. Run it again to go on from its checkpoint; "
                                     "run it under torchrun or accelerate launch to share every batch among processes.")
    parser.add_argument("--preset", choices=PRESETS, default="cifar10-tiny")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of the checkpoint, the weights and the log")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from", dest="start",  # torchrun takes a `--start` for its own
                        help="a network, as `pretrained` names it, whose weights to begin with instead of random ones")
    parser.add_argument("--device", default=None, help="cpu, cuda, ... (default: a GPU if there is one)")
    parser.add_argument("--every", type=int, default=500, help="steps between two checkpoints")
    parser.add_argument("--float32", action="store_true", help="no bfloat16 autocast")
    parser.add_argument("--compile", action="store_true", help="torch.compile the network: a minute once, then faster steps")
    for item in fields(Preset):
        many = "tuple" in str(item.type)
        parser.add_argument("--" + item.name.replace("_", "-"), nargs="+" if many else None, default=argparse.SUPPRESS,
                            type=int if many else {"int": int, "float": float, "str": str}[item.type])
    options = vars(parser.parse_args(arguments))
    own = {f.name: options[f.name] for f in fields(Preset) if f.name in options}
    preset = replace(PRESETS[options["preset"]], **{k: tuple(v) if isinstance(v, list) else v for k, v in own.items()})

    distributed = torch.distributed.is_torchelastic_launched()
    device = torch.device(options["device"] or ("cuda" if torch.cuda.is_available() else "cpu"))
    images, labels = (part.to(device) for part in data.cifar10("train"))
    held_out = data.cifar10("test")[0][:128].to(device)
    torch.manual_seed(options["seed"])  # the initial weights
    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format  # measured: a CPU gains nothing
    net, schedule, out = preset.network().to(device, memory_format=layout), preset.schedule(), options["out"]
    before = {}
    if options["start"]:
        older = pretrained(options["start"]).net
        files.load_into(net, older.state_dict(), options["start"])
        before = {"before": {key: value for key, value in older.notes.items() if key not in ("unet", "betas")}}
    if options["compile"]:
        net.compile()
    given = {**own, "from": options["start"], "compile": "" if options["compile"] else None}  # a flag has no value
    command = f"python -m dpmlib.train --preset {options['preset']} --seed {options['seed']}"
    for key, value in given.items():
        if value is not None:
            command += f" --{key.replace('_', '-')} {' '.join(map(str, value)) if isinstance(value, list) else value}".rstrip()

    from . import sheet  # sampling stands above training; this command, which shows what was learned, above both

    def on_save(run, step):
        if preset.classes == 10:
            sheet.draw(Denoiser(run.model, schedule), out / f"{options['preset']}.png", rows=2)
        origin = dict(preset=asdict(preset), command=command, steps=step, seed=options["seed"], device=provenance.device(device),
                      torch=torch.__version__, commit=provenance.commit(), images=run.log[-1]["images"],
                      seconds=run.log[-1]["seconds"], parameters=sum(p.numel() for p in run.model.parameters()), **before)
        export(out / f"{options['preset']}.safetensors", run.model, **origin)
        (out / f"{options['preset']}.json").write_text(json.dumps({**origin, "log": run.log}, indent=0))

    return fit(net, noisy_loss(schedule), noisy_images(images, labels, preset), preset.steps,
               generator=torch.Generator(device).manual_seed(options["seed"]), batch=preset.batch, lr=preset.lr,
               warmup=preset.warmup, cooldown=preset.cooldown, ema=preset.ema, weight_decay=preset.weight_decay,
               bf16=not options["float32"], checkpoint=out / "checkpoint.safetensors", every=options["every"],
               probe=lambda average: loss_by_level(average, schedule, held_out), on_save=on_save, distributed=distributed)
