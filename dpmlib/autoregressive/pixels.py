"""CIFAR-10's pixels, one after the other: the command that trains a model on patches of them, and what it left behind.

The committed ones, 8 x 8 x 3 patches on one CPU core; and whole images, 3072 tokens each, for a large GPU:

    for m in transformer rnade; do for o in residuals values; do python -m dpmlib.autoregressive.pixels --model $m --of $o; done; done
    python -m dpmlib.autoregressive.pixels --of values --size 32 --width 512 --depth 16 --heads 8 --batch 32 --lr 3e-4 --steps 200000
"""
from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import checkpoint as files
from .. import provenance
from ..data import cifar10
from ..likelihood import bits_per_dim
from ..pretrained import WEIGHTS
from ..train import fit
from .nade import RNADE
from .patches import patches
from .residuals import LinearPrediction
from .transformer import CausalTransformer

TRANSFORMER = dict(width=(64, "of the network"), depth=(3, "number of its blocks"), heads=(4, "of each block"))
RNADE_ = dict(hidden=(96, "units of RNADE's hidden layer"), components=(6, "of RNADE's mixtures"))
COMMON = dict(size=(8, "side of the square patches, at most 32"), seed=(0, "of weights and batches"),
              every=(250, "steps between two checkpoints"), tests=(4096, "test patches at the end"))
TRAINING = {"transformer": dict(batch=16, steps=5000, lr=4e-3), "rnade": dict(batch=128, steps=20_000, lr=1e-2)}


class PixelModel(nn.Module):
    """p(v) of 8-bit patches v (B, d) by an autoregressive model of v, or of what linear prediction leaves over (`code`)."""

    def __init__(self, model: CausalTransformer | RNADE, code: LinearPrediction | None):
        super().__init__()
        self.model, self.code = model, code

    def log_prob(self, v: Tensor, noise: Tensor | None = None) -> Tensor:
        """log p(v) in nats, (B,). RNADE is a density: then it is log p(v + noise), in the mean over noise ~ U[0, 1)^d a lower bound."""
        if isinstance(self.model, CausalTransformer):
            return self.model.log_prob(self.code.encode(v) if self.code else v)
        return self.model.log_prob(self.code.errors(v + noise)) - self.code.scale.log().sum().float()

    def sample(self, n: int, generator: torch.Generator, prompt: Tensor | None = None, **how) -> Tensor:
        """Patches (n, d), uint8. `prompt`: the first values, (m,) or (n, m); Transformer only."""
        if isinstance(self.model, RNADE):
            return self.code.restore(self.model.sample(n, generator)).floor().clamp(0, 255).to(torch.uint8)
        if self.code is None:
            return self.model.sample(n, generator, prompt, **how).to(torch.uint8)
        if prompt is not None:      # the first residuals need the first values only
            prompt = prompt.expand(n, -1)
            prompt = self.code.encode(nn.functional.pad(prompt, (0, self.model.d - prompt.shape[1])))[:, :prompt.shape[1]]
        return self.code.decode(self.model.sample(n, generator, prompt, **how))


def load(path: str | os.PathLike) -> PixelModel:
    """The model in a file of `main`, or a committed one by its name, such as "patches_transformer_residuals".

    In float32 and eval mode; what is known about its training is in `.notes`.
    FileNotFoundError, or ValueError if the file is not whole or the weights do not fit.
    """
    path = Path(path) if str(path).endswith(".safetensors") else WEIGHTS / f"{path}.safetensors"
    tensors, notes = files.load(path)
    if not {"model", "network"} <= notes.keys():
        raise ValueError(f"{path} does not say which network it belongs to: it was not written by dpmlib.autoregressive.pixels")
    net = {"transformer": CausalTransformer, "rnade": RNADE}[notes["model"]](**notes["network"])
    own = files.unflatten(tensors, "model")
    files.load_into(net, {k: v.float() if v.is_floating_point() else v for k, v in own.items()}, path)
    code = files.unflatten(tensors, "code")
    if code:
        code = LinearPrediction(*(code[k].double() / u for k, u in zip(("weight", "bias", "scale"), (LinearPrediction.UNIT,) * 2 + (1,))))
    model = PixelModel(net, code or None).eval().requires_grad_(False)
    model.notes = notes
    return model


def save(path: str | os.PathLike, trained: PixelModel, **notes) -> None:
    """Weights in float16; the prediction's whole multiples as integers."""
    half = {k: v.half() if v.is_floating_point() else v for k, v in trained.model.state_dict().items()}
    code, unit = trained.code, LinearPrediction.UNIT
    code = {} if code is None else {"weight": (code.weight * unit).to(torch.int16), "bias": (code.bias * unit).to(torch.int32),
                                    "scale": code.scale}
    files.save(path, files.flatten(model=half, code=code), **notes)


@torch.no_grad()
def fourier_(net: CausalTransformer, generator: torch.Generator) -> CausalTransformer:
    """Overwrite the initial embeddings of the tokens, and the head's rows, by the same W random waves of a token's value v.

        φ(v)_c = √(2/W) cos(ω_c v/V + b_c),      wavelengths from 4 down to 1/8 of the range of values

    Then φ(u)·φ(v) is a smooth bump around u = v: near values begin as near vectors, which numbered classes would have to learn.
    Nothing is tied, all rows are free from here on.
    """
    V, W = net.head.weight.shape
    uniform = lambda: torch.rand(W, generator=generator, device=generator.device)
    omega = 2 * math.pi * 32 ** uniform() / 4
    phi = (2 / W) ** 0.5 * torch.cos(torch.arange(V, device=omega.device)[:, None] / V * omega + 2 * math.pi * uniform())   # (V, W)
    net.token.weight[:V] = phi
    net.head.weight.copy_(phi)
    return net


@torch.no_grad()
def bits_on_patches(model: PixelModel, images: Tensor, n: int = 4096, size: int = 8, batch: int = 64) -> Tensor:
    """Bits/dim of each of the n patches that a generator of seed 0 cuts from `images`, (n,); its next numbers are RNADE's noise."""
    g = torch.Generator().manual_seed(0)
    v = patches(images, n, g, size)
    noise = torch.rand(v.shape, generator=g).to(v.device)
    return torch.cat([bits_per_dim(model.log_prob(*part), v.shape[1]) for part in zip(v.split(batch), noise.split(batch))])


def main(arguments=None) -> PixelModel:
    parser = argparse.ArgumentParser("python -m dpmlib.autoregressive.pixels", formatter_class=argparse.ArgumentDefaultsHelpFormatter,
                                     description="Train a model of pixels. Run it again to go on from its checkpoint.")
    parser.add_argument("--model", choices=TRAINING, default="transformer")
    parser.add_argument("--of", choices=("residuals", "values"), default="residuals", help="linear prediction's, or pixel values")
    for name, (value, meaning) in {**COMMON, **TRANSFORMER, **RNADE_}.items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=meaning)
    for name, value in TRAINING["transformer"].items():
        parser.add_argument(f"--{name}", type=type(value), help=" or ".join(f"{m[name]} ({n})" for n, m in TRAINING.items()))
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of the checkpoint, the weights and the log")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda, ...")
    o = parser.parse_args(arguments)
    defaults = {k: v for k, (v, _) in {**COMMON, **TRANSFORMER, **RNADE_}.items()} | TRAINING[o.model]
    changed = "".join(f" --{k} {getattr(o, k)}" for k in defaults if getattr(o, k) not in (None, defaults[k]))
    for k, v in TRAINING[o.model].items():
        setattr(o, k, v if getattr(o, k) is None else getattr(o, k))

    train, test = (cifar10(split)[0] for split in ("train", "test"))
    generator, transformer, d = torch.Generator().manual_seed(o.seed), o.model == "transformer", 3 * o.size**2
    code = None
    if o.of == "residuals" or not transformer:
        code = LinearPrediction.fit(patches(train, 50_000, torch.Generator().manual_seed(1), o.size))
        if o.of == "values":        # RNADE wants standardised values
            v = patches(train, 50_000, torch.Generator().manual_seed(1), o.size).double()
            code = LinearPrediction(0 * code.weight, v.mean(0).round(), v.std(0))
    if transformer:
        network = dict(shape=[o.size, o.size, 3], vocab=256, width=o.width, depth=o.depth, heads=o.heads)
        net = fourier_(CausalTransformer(**network, generator=generator), generator)
    else:
        network = dict(d=d, hidden=o.hidden, components=o.components)
        net = RNADE(**network, generator=generator)
    if code:
        code = LinearPrediction(*(v.to(o.device) for v in (code.weight, code.bias, code.scale)))
    model, train, test = PixelModel(net, code).to(o.device), train.to(o.device), test.to(o.device)
    name = o.out / f"patches_{o.model}_{o.of}"
    checkpoint = name.with_suffix(".checkpoint.safetensors")
    spent = files.load(checkpoint)[1]["log"][-1]["processor_seconds"] if checkpoint.exists() else 0.
    started = time.process_time() - spent

    def bits(model, v, generator):
        return bits_per_dim(model.log_prob(v, None if transformer else torch.rand(v.shape, generator=generator, device=v.device)), d)

    def probe(average):
        return {"test": bits_on_patches(average, test, 256, o.size).mean().item(), "processor_seconds": time.process_time() - started}

    def on_save(run, step):
        tested = bits_on_patches(run.model, test, o.tests if step == o.steps else 256, o.size)
        notes = dict(model=o.model, of=o.of, network=network, parameters=sum(p.numel() for p in net.parameters()), seed=o.seed, steps=step,
                     command=f"python -m dpmlib.autoregressive.pixels --model {o.model} --of {o.of}" + changed, commit=provenance.commit(),
                     device=provenance.device(torch.device(o.device)), torch=torch.__version__, patches=run.log[-1]["images"],
                     seconds=run.log[-1]["seconds"], processor_seconds=run.log[-1]["processor_seconds"], test_patches=len(tested),
                     test_bits_per_dim=tested.mean().item(), standard_error=tested.std().item() / len(tested) ** 0.5)
        save(name.with_suffix(".safetensors"), run.model, **notes)
        name.with_suffix(".json").write_text(json.dumps({**notes, "log": run.log}, indent=0))

    return fit(model, bits, lambda g: patches(train, o.batch, g, o.size), o.steps, generator=torch.Generator(o.device).manual_seed(o.seed),
               lr=o.lr, warmup=200, cooldown=0.8, weight_decay=0.05 if transformer else 0., betas=(0.9, 0.98), ema=0.99, bf16=transformer,
               every=o.every, checkpoint=checkpoint, probe=probe, on_save=on_save).model


if __name__ == "__main__":
    main()
