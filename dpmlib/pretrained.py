"""Networks that this project has trained, as denoisers; their weights are part of the package."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from . import checkpoint as files
from .denoiser import Denoiser
from .nets import Preconditioned
from .schedules import DiscreteVP
from .unet import UNet

__all__ = ["export", "images_seen", "pretrained"]

WEIGHTS = Path(__file__).parent / "weights"


def pretrained(name: str | os.PathLike = "cifar10", device: torch.device | str = "cpu") -> Denoiser:
    """A trained network of ε as a Denoiser: `.net(x, t, y=None)`, in eval mode and float32, and its `.schedule`.

    `name` is one of the networks in dpmlib/weights ("cifar10": class-conditional, y in 0..9, y=None for none), or the
    path of a file that `export` wrote. What is known about its training is in `.net.notes`.
    Raises ValueError for an unknown name, a file that is not whole, or weights that do not fit.
    """
    path = Path(name) if str(name).endswith(".safetensors") else WEIGHTS / f"{name}.safetensors"
    if not path.is_file():
        known = sorted(p.stem for p in WEIGHTS.glob("*.safetensors") if "unet" in files.load(p)[1])  # there are other models, too
        raise ValueError(f"name={str(name)!r} is no file and no network of this package, which has {known}")
    tensors, notes = files.load(path)
    if not {"unet", "betas"} <= notes.keys():
        raise ValueError(f"{path} does not say which network it belongs to: it was not written by dpmlib.pretrained.export")
    schedule = DiscreteVP(torch.tensor(notes["betas"], dtype=torch.float64))
    net = Preconditioned(UNet(**notes["unet"]), schedule)
    files.load_into(net, {k: v.float() for k, v in tensors.items()}, path)
    net.notes = notes
    return Denoiser(net.to(device).eval().requires_grad_(False), schedule)


def images_seen(notes: dict) -> int:
    """How many images a network was shown, with those of the runs before the one that its `notes` describe."""
    return notes["images"] + (images_seen(notes["before"]) if "before" in notes else 0)


def export(path: str | os.PathLike, net: Preconditioned, **notes) -> None:
    """Write the weights of `net` in float16, with what is needed to build it again and whatever else is to be remembered."""
    files.save(path, {k: v.half() for k, v in net.state_dict().items()}, unet=net.net.config,
               betas=net.schedule.betas.tolist(), **notes)
