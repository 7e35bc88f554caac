"""What can be measured on CIFAR-10 without a diffusion model: bits of the same test images, and how a Fréchet distance misleads.

    python benchmarks/measuring_real.py bits          writes dpmlib/weights/measuring_bits.json, half a minute
    python benchmarks/measuring_real.py protocol      writes measuring_protocol.json and measuring_moments.safetensors there, six minutes
                                                      of one core; features of real images are kept in --folder

Nothing here asks the U-Net, so nothing here is out of date when that is trained anew.
"""

import argparse
import io
import json
import zlib
from pathlib import Path

import torch
from PIL import Image
from torch.nn.functional import avg_pool2d, interpolate, pad

from dpmlib import checkpoint, classifier, features, metrics, provenance
from dpmlib.autoregressive import pixels
from dpmlib.autoregressive.scores import MODELS, gaussian_of
from dpmlib.data import cifar10, from_unit, to_unit
from dpmlib.likelihood import bits_per_dim
from dpmlib.pretrained import WEIGHTS

BITS, PROTOCOL, MOMENTS = (WEIGHTS / f"measuring_{name}" for name in ("bits.json", "protocol.json", "moments.safetensors"))
COUNTS, MOST_GROUPS = (128, 256, 512, 1024, 2048, 5000, 10_000), 8
REFERENCE, SEED = 10_000, 0


# --- bits ---------------------------------------------------------------------------------------------------------

def tiles(images, size=8):
    """Images (B, 3, H, W) as their patches in raster order, (B · H W/size², size² · 3), as `dpmlib.autoregressive.patches` flattens one."""
    parts = images.unfold(2, size, size).unfold(3, size, size)  # (B, 3, rows, columns, size, size)
    return parts.permute(0, 2, 3, 4, 5, 1).reshape(-1, 3 * size * size)


def noise_of(count):
    """RNADE's and the Gaussian's noise for the patches of the first `count` images: those of fewer are the first of more."""
    return torch.rand(16 * count, 192, generator=torch.Generator().manual_seed(SEED))


@torch.no_grad()
def patch_bits(name, images, noise, batch=64):
    """Bits/dim of whole images under a committed model of patches: the mean over the 16 patches of each, (B,) float64."""
    model, v = pixels.load(MODELS[name]), tiles(images)
    log_p = torch.cat([model.log_prob(*part) for part in zip(v.split(batch), noise.split(batch))])
    return bits_per_dim(log_p.double().reshape(len(images), 16).sum(1), images[0].numel())


def gaussian_bits(train, images, noise):
    """The same under the Gaussian of `dpmlib.autoregressive.scores`."""
    return bits_per_dim(gaussian_of(train).log_prob(tiles(images) + noise.double()).reshape(len(images), 16).sum(1), images[0].numel())


def histogram_bits(train, images):
    """Under the training images' histogram of each colour, one count added to each of the 256 values."""
    total = 0
    for c in range(3):
        count = torch.bincount(train[:, c].flatten(), minlength=256).double() + 1
        total = total - (count / count.sum()).log2()[images[:, c].long()].flatten(1).sum(1)
    return total / images[0].numel()


def file_bits(images, kind):
    """Bits of a file of each image over its values: "PNG", "WebP" (lossless), or "zlib" of the values in raster order."""
    found = []
    for image in images.permute(0, 2, 3, 1).contiguous().numpy():
        data = io.BytesIO()
        if kind == "zlib":
            data.write(zlib.compress(image.tobytes(), 9))
        else:
            Image.fromarray(image).save(data, kind, **({"optimize": True} if kind == "PNG" else {"lossless": True, "quality": 100}))
        found.append(8 * len(data.getvalue()) / image.size)
    return torch.tensor(found, dtype=torch.float64)


def bits(count):
    train, images = cifar10("train")[0], cifar10("test")[0][:count]
    noise = noise_of(count)
    columns = {"histogram": histogram_bits(train, images)} | {kind.lower(): file_bits(images, kind) for kind in ("zlib", "PNG", "WebP")}
    columns |= {"gaussian": gaussian_bits(train, images, noise), "rnade": patch_bits("RNADE", images, noise),
                "transformer": patch_bits("Transformer", images, noise)}
    rows = torch.stack(list(columns.values()), 1)
    note = {"command": f"python benchmarks/measuring_real.py bits --images {count}", "commit": provenance.commit(), "seed": SEED,
            "device": provenance.device(torch.device("cpu")), "torch": torch.__version__, "data": "the first test images", "images": count,
            "models": MODELS, "columns": list(columns), "bits_per_dim": [[round(v, 5) for v in row] for row in rows.tolist()]}
    BITS.write_text(json.dumps(note).replace("], [", "],\n[") + "\n")
    for name, value in columns.items():
        print(f"{name}: {value.mean():.4f} ± {value.std() / count**0.5:.4f}")


# --- three extractors of 256 features -----------------------------------------------------------------------------

def random_network():
    """The features of the classifier's network with random weights: 3 × 3 convolutions that were never trained."""
    g, net = torch.Generator().manual_seed(SEED), classifier.Classifier().eval().requires_grad_(False)
    for p in net.parameters():
        if p.ndim == 4:
            p.copy_(torch.randn(p.shape, generator=g) * (2 / p[0].numel()) ** 0.5)
    return net.features


def some_pixels():
    """256 of the 3072 values, always the same ones."""
    chosen = torch.randperm(3072, generator=torch.Generator().manual_seed(SEED))[:256]
    return lambda images: images.flatten(1)[:, chosen]


def extractors():
    return {"classifier": features.classifier(), "random": random_network(), "pixels": some_pixels()}


@torch.inference_mode()
def extract(net, images, batch=250):
    return torch.cat([net(x if x.is_floating_point() else to_unit(x)) for x in images.split(batch)])


def kept(folder, name, split, count):
    """Features of the first `count` images of a split, from a file in `folder` if they are there."""
    path = folder / f"{name}_{split}_{count}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.save(path, {"features": extract(extractors()[name], cifar10(split)[0][:count])})
        print(path.name, flush=True)
    return checkpoint.load(path)[0]["features"]


# --- copies and corruptions, all images in [−1, 1] to images in [−1, 1] -------------------------------------------

def jpeg(images, quality):
    made = []
    for image in from_unit(images).permute(0, 2, 3, 1).numpy():
        data = io.BytesIO()
        Image.fromarray(image).save(data, "JPEG", quality=quality)
        made.append(torch.frombuffer(bytearray(Image.open(data).tobytes()), dtype=torch.uint8).reshape(image.shape))
    return to_unit(torch.stack(made).permute(0, 3, 1, 2))


def halved(images, antialias):
    small = interpolate(images, scale_factor=0.5, mode="bicubic", antialias=antialias)
    return interpolate(small, scale_factor=2, mode="bicubic").clamp(-1, 1)


def noisy(images, size):
    return (images + size * torch.randn(images.shape, generator=torch.Generator().manual_seed(SEED))).clamp(-1, 1)


def quarters(images):
    """The four quarters of each image change places across."""
    return torch.roll(images, (16, 16), (2, 3))


COPIES = {
    "the same": lambda x: x,
    "grey levels cut, not rounded": lambda x: ((x + 1) * 127.5 - 0.5).floor().clamp(min=0) / 127.5 - 1,
    "JPEG 95": lambda x: jpeg(x, 95), "JPEG 75": lambda x: jpeg(x, 75),
    "halved and doubled, antialiased": lambda x: halved(x, True), "halved and doubled, not": lambda x: halved(x, False),
}
CORRUPTIONS = {
    "none": lambda x: x, "noise 0.1": lambda x: noisy(x, 0.1), "blur": lambda x: avg_pool2d(pad(x, [1] * 4, mode="replicate"), 3, 1),
    "JPEG 30": lambda x: jpeg(x, 30), "contrast 0.7": lambda x: 0.7 * x,
    "redder": lambda x: x + x.new_tensor([0.2, 0, -0.2])[:, None, None], "quarters swapped": quarters,
    "upside down": lambda x: x.flip(2), "100 images, ten times": lambda x: x[:100].repeat(10, 1, 1, 1),
}


# --- the protocol -------------------------------------------------------------------------------------------------

def slope(found):
    """C of E d² ≈ C/n for n samples with these features, twice: if they were Gaussian, and with their own fourth moments.

    C = tr Σ + ½ Σ_ij n Var(S_ij)/(s_i + s_j) in the eigenbasis of Σ; for a Gaussian n Var(S_ij) = s_i s_j (1 + δ_ij).
    """
    x = found.double() - found.double().mean(0)
    s, basis = torch.linalg.eigh(x.T @ x / len(x))
    y, s = x @ basis, s.clamp(min=1e-9 * s.max())
    both, square = s[:, None] + s, y.square()
    spread = square.T @ square / len(y) - torch.diag(s.square())
    gauss = s.outer(s) + torch.diag(s.square())
    return [float(s.sum() + 0.5 * (v / both).sum()) for v in (gauss, spread)]


def by_count(found, truth):
    """Fréchet distance of disjoint groups of n samples, its mean, standard error and the number of groups, for each n of COUNTS."""
    rows = []
    for n in COUNTS:
        parts = [part for part in found.split(n) if len(part) == n][:MOST_GROUPS]
        d = torch.tensor([metrics.frechet_distance(part, truth) for part in parts], dtype=torch.float64)
        rows.append({"n": n, "groups": len(d), "first": float(f"{d[0]:.6g}"), "mean": float(f"{d.mean():.6g}"),
                     "error": float(f"{d.std() / len(d)**0.5:.3g}") if len(d) > 1 else None})
    return rows


def apart(a, b):
    return float(f"{metrics.frechet_distance(a, b):.6g}")


def table(changes, images, nets, truths=None):
    """Fréchet distances by change and extractor: to the features of `images` themselves, or to the `Moments` truths."""
    rows, truths = {}, truths or {name: extract(net, images) for name, net in nets.items()}
    for change, f in changes.items():
        changed = f(images)
        rows[change] = {name: apart(extract(net, changed), truths[name]) for name, net in nets.items()}
        print(change, rows[change], flush=True)
    return rows


def protocol(folder):
    nets, test, bias, truths, seen = extractors(), cifar10("test")[0], {}, {}, {}
    for name in nets:
        train, seen[name] = kept(folder, name, "train", 2 * REFERENCE), kept(folder, name, "test", len(test))
        truths[name] = metrics.Moments.of(train[:REFERENCE])
        gauss, own = slope(seen[name])
        bias[name] = {"test": by_count(seen[name], truths[name]), "train": by_count(train[REFERENCE:], truths[name]),
                      "slope_gaussian": gauss, "slope_fourth_moments": own, "trace": float(truths[name].covariance.trace())}
        print(name, bias[name], flush=True)
    some, real = to_unit(test[:1000]), seen["classifier"][5000:6000]
    note = {"command": "python benchmarks/measuring_real.py protocol", "commit": provenance.commit(), "seed": SEED,
            "device": provenance.device(torch.device("cpu")), "torch": torch.__version__,
            "reference": f"the first {REFERENCE} training images",
            "extractors": "256 features each: dpmlib.features.classifier; the same network with random weights; 256 of the 3072 values",
            "bias": bias, "bias_of": "disjoint groups of n images: test images, and training images that are not in the reference",
            "copies_of": "the first 1000 test images, against these themselves", "copies": table(COPIES, some, nets),
            "halved_apart": {name: apart(*(extract(net, halved(some, antialias)) for antialias in (True, False)))
                             for name, net in nets.items()},
            "corruptions_of": "the first 1000 test images, against the reference",
            "corruptions": table(CORRUPTIONS, some, nets, truths),
            "precision_recall_of": "the same 1000 images and test images 5000 to 5999, classifier, k = 3",
            "precision_recall": {change: [round(v, 4) for v in metrics.precision_recall(real, extract(nets["classifier"], f(some)))]
                                 for change, f in CORRUPTIONS.items()}}
    PROTOCOL.write_text(json.dumps(note, indent=1) + "\n")
    truth = truths["classifier"]
    checkpoint.save(MOMENTS, {"mean": truth.mean.float(), "covariance": truth.covariance.float()}, count=truth.count,
                    of=note["reference"], features="dpmlib.features.classifier", command=note["command"], commit=note["commit"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("bits", "protocol"))
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--folder", type=Path, default=Path("runs/measuring"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    bits(options.images) if options.what == "bits" else protocol(options.folder)
