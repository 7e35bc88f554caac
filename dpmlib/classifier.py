"""A small classifier of images, clean or noisy: what guidance asks for the class, and whose features a Fréchet distance compares.

`python -m dpmlib.classifier` trains it on CIFAR-10, with the loop that trains everything else. One network serves both uses, since it
is told how noisy its input is: t = 0 says "not at all".
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import checkpoint as files
from . import data, provenance
from .levels import diffuse
from .noise import normal_like
from .pretrained import WEIGHTS
from .schedules import DiscreteVP, Schedule
from .train import Trained, fit
from .unet import sinusoids

__all__ = ["Classifier", "load", "log_prob"]

FILE = WEIGHTS / "cifar10_classifier.safetensors"


class Block(nn.Module):
    """A 3×3 convolution, normalised over the batch, then scaled and shifted by the noise level; `stride` 2 halves the side."""

    def __init__(self, inputs: int, outputs: int, embedding: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm, self.film, self.stride = nn.BatchNorm2d(outputs, affine=False), nn.Linear(embedding, 2 * outputs), stride
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv(x)
        h = F.max_pool2d(h, self.stride) if self.stride > 1 else h
        scale, shift = self.film(emb)[:, :, None, None].chunk(2, dim=1)
        return F.gelu(torch.addcmul(shift, self.norm(h), 1 + scale))


class Classifier(nn.Module):
    """`net(x, t=None)`: images (B, 3, 32, 32) in [−1, 1], clean or noisy as at time t (B,) of its chain → logits (B, classes).

    A ResNet of three stages, `width` · (2, 4, 8) channels at 16, 8 and 4 pixels, with one residual pair each (He et al. 2016).
    Raises ValueError for images of another shape.
    """

    def __init__(self, width: int = 32, classes: int = 10):
        super().__init__()
        self.config, E = dict(width=width, classes=classes), 4 * width
        self.width, self.embed = width, nn.Sequential(nn.Linear(width, E), nn.GELU())
        self.stem = Block(3, width, E)
        sizes = [width, 2 * width, 4 * width, 8 * width]
        self.down = nn.ModuleList(Block(a, b, E, stride=2) for a, b in zip(sizes, sizes[1:]))
        self.stay = nn.ModuleList(nn.ModuleList([Block(b, b, E), Block(b, b, E)]) for b in sizes[1:])
        self.head = nn.Linear(8 * width, classes)

    def features(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """What the last layer sees: (B, 8 · width), the largest value of each channel."""
        if x.ndim != 4 or x.shape[1:] != (3, 32, 32):
            raise ValueError(f"x of shape {tuple(x.shape)}: need images (B, 3, 32, 32)")
        t = torch.zeros(len(x), device=x.device) if t is None else t.to(x.device).expand(len(x))
        emb = self.embed(sinusoids(1000 * t, self.width).to(self.head.weight.dtype))
        h = self.stem(x, emb)
        for down, (first, second) in zip(self.down, self.stay):
            h = down(h, emb)
            h = h + second(first(h, emb), emb)
        return h.amax((2, 3))

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        return self.head(self.features(x, t))


def log_prob(net: Classifier, y: Tensor):
    """log p(y | x_t) as `classifier_guidance` wants it: a function (x, level) → (B,), `y` one label per sample or a single one."""
    def value(x, level):
        return net(x, level.t.float()).log_softmax(1).gather(1, y.expand(len(x))[:, None])[:, 0]

    return value


def load(path=FILE, device: torch.device | str = "cpu") -> Classifier:
    """The trained classifier in eval mode; what is known about its training is in `.notes`. ValueError if the file holds something else."""
    tensors, notes = files.load(path)
    if "classifier" not in notes:
        raise ValueError(f"{path} holds no classifier: it was not written by python -m dpmlib.classifier")
    net = Classifier(**notes["classifier"])
    files.load_into(net, {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}, path)
    net.notes = notes
    return net.to(device).eval().requires_grad_(False)


def batches(images: Tensor, labels: Tensor, schedule: Schedule, batch: int, shift: int = 3):
    """A function generator → (x, t, y): images flipped and moved by up to `shift` pixels, half of them clean (t = 0), half noisy."""
    def draw(generator):
        def random(high):
            return torch.randint(high, (batch,), generator=generator, device=generator.device)

        pick, noisy, place = random(len(images)), random(2).bool(), torch.arange(32, device=images.device)
        x0 = data.to_unit(images[pick])
        x0 = torch.where(random(2).bool()[:, None, None, None], x0.flip(-1), x0)
        x0 = F.pad(x0, [shift] * 4, mode="reflect")
        rows, columns = random(2 * shift + 1)[:, None] + place, random(2 * shift + 1)[:, None] + place
        x0 = x0[torch.arange(batch, device=images.device)[:, None, None, None], torch.arange(3, device=images.device)[:, None, None],
                rows[:, None, :, None], columns[:, None, None, :]]
        t = schedule.t_end + (schedule.t_max - schedule.t_end) * torch.rand(batch, generator=generator, device=generator.device).double()
        x = diffuse(x0, schedule.level(t), normal_like(x0, generator))
        return torch.where(noisy[:, None, None, None], x, x0), torch.where(noisy, t, 0.0).float(), labels[pick]

    return draw


@torch.no_grad()
def accuracy(net: Classifier, images: Tensor, labels: Tensor, batch: int = 500) -> float:
    """The share of clean `images`, uint8, whose class is the most probable one."""
    right = [net(data.to_unit(x)).argmax(1) == y for x, y in zip(images.split(batch), labels.split(batch))]
    return float(torch.cat(right).float().mean())


def main(arguments=None) -> Trained:
    parser = argparse.ArgumentParser("python -m dpmlib.classifier", description="Train the classifier on CIFAR-10.")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default=None)
    options = parser.parse_args(arguments)
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    images, labels = (part.to(device) for part in data.cifar10("train"))
    held_out = [part.to(device) for part in data.cifar10("test")]
    torch.manual_seed(options.seed)  # the initial weights
    net = Classifier(options.width).to(device, memory_format=torch.channels_last)
    command = "python -m dpmlib.classifier " + " ".join(f"--{k} {v}" for k, v in vars(options).items() if k not in ("out", "device"))
    options.out.mkdir(parents=True, exist_ok=True)

    def on_save(run, step):
        notes = dict(command=command, steps=step, seed=options.seed, commit=provenance.commit(),
                     device=provenance.device(device), torch=torch.__version__,
                     images=run.log[-1]["images"], test_accuracy=run.log[-1]["test_accuracy"], log=run.log[::10])
        weights = {k: v.half() if v.is_floating_point() else v for k, v in run.model.state_dict().items()}
        files.save(options.out / FILE.name, weights, classifier=net.config, **notes)

    def loss(model, batch, generator):
        x, t, y = batch
        return F.cross_entropy(model(x.contiguous(memory_format=torch.channels_last), t).float(), y, reduction="none", label_smoothing=0.05)

    run = fit(net, loss, batches(images, labels, DiscreteVP.linear(1000), options.batch), options.steps,
              generator=torch.Generator(device).manual_seed(options.seed), batch=options.batch, lr=options.lr, warmup=200, cooldown=0.7,
              weight_decay=0.05, ema=0.998, bf16=True, checkpoint=options.out / "checkpoint.safetensors", every=500,
              probe=lambda average: {"test_accuracy": accuracy(average, *held_out)}, on_save=on_save)
    print(json.dumps(run.log[-1]))
    return run


if __name__ == "__main__":
    main()
