"""Samples of the U-Net for the papers' tables on the VP SDE, how far they are from CIFAR-10, and their nearest training images.

    python benchmarks/measuring.py sample --folder runs/measuring       ten minutes of one core; give it again to go on
    python benchmarks/measuring.py measure --folder runs/measuring      writes dpmlib/weights/measuring_samples.json and
                                                                        measuring_neighbours.safetensors; two more, and two the first time

All runs start from the same noises and have no labels; the network computes in bfloat16 (autocast), the sampler in float32. K counts
evaluations of the network. A file of samples is named after a hash of the weights and statistics that its method uses: with new ones,
`sample` draws again what depends on them, and nothing else. `--part 0 --of 2` draws every second run, for two processes.
"""

import argparse
import hashlib
import json
import os
from pathlib import Path

import measuring_real as real  # both lie in this folder
import numpy as np
import rk_vs_dpm_solver as rk
import torch

import dpmlib as d
from dpmlib import checkpoint, covariance, heads, metrics, provenance, statistics
from dpmlib.data import cifar10, to_unit
from dpmlib.pretrained import WEIGHTS

RESULT, NEIGHBOURS = WEIGHTS / "measuring_samples.json", WEIGHTS / "measuring_neighbours.safetensors"
SAMPLES, BATCH, SEED, KEPT, NEAREST = 256, 64, 0, 64, 50
VPSDE = {"Euler-Maruyama": [], "Ancestral": [], "Probability flow": [], "A-DPM": ["cifar10_statistics.json"],
         "NPR-DPM": ["cifar10_heads.safetensors"], "SN-DPM": ["cifar10_heads.safetensors"]}  # and what each uses beside the network
METHODS = {"rk": rk.METHODS, "vpsde": tuple(VPSDE)}
ORDER = [("rk", 12), ("rk", 24), ("rk", 48), ("vpsde", 10), ("vpsde", 25), ("vpsde", 50), ("rk", 18), ("rk", 36), ("rk", 30), ("rk", 42),
         ("vpsde", 100)]  # what is wanted first comes first
CELLS = [(table, method, K) for table, K in ORDER for method in METHODS[table]]
SHOWN = ("rk", "DPM-Solver-3", 48)  # whose nearest training images are looked for


def path_of(folder, table, method, K):
    used = hashlib.sha256()
    for name in ["cifar10.safetensors", *VPSDE.get(method, [])]:
        used.update((WEIGHTS / name).read_bytes())
    return folder / f"{table}_{method.replace(' ', '_')}_{K}_{used.hexdigest()[:8]}.npy"


def vpsde(method, denoiser, x, K, generator):
    """K evaluations at times that are even from 1 to 1/1000, the last of which leads to the data."""
    grid, schedule = d.levels(denoiser.schedule, K, "time", to_zero=True), denoiser.schedule
    if method in ("Euler-Maruyama", "Probability flow"):
        zeta = 1.0 if method == "Euler-Maruyama" else 0.0
        *_, x = d.euler_maruyama(denoiser, x, grid[:-1], schedule, zeta, generator)
        return denoiser(x, grid[-2]).mean
    variance = d.n0i_variance(grid)
    if method == "A-DPM":
        variance = covariance.clip_last(statistics.load().variance(grid), grid)
    elif method != "Ancestral":
        kind = heads.residual if method == "NPR-DPM" else heads.squared_noise
        denoiser, variance = heads.clipped(kind(denoiser, heads.load("cifar10")), grid), None
    *_, x = d.ancestral(denoiser, x, grid, 1.0, variance, generator)
    return x


@torch.inference_mode()
def samples(table, method, K, count=SAMPLES):
    """Bytes (count, 3, 32, 32); fewer samples are the first of more, batch by batch."""
    denoiser, start, made = d.pretrained("cifar10"), torch.randn(SAMPLES, 3, 32, 32, generator=torch.Generator().manual_seed(SEED)), []
    for i, x in enumerate(start[:count].split(BATCH)):
        with torch.autocast("cpu", torch.bfloat16):
            g = torch.Generator().manual_seed(1000 * SEED + 1 + i)
            x = rk.solve(method, denoiser, denoiser.schedule, x, K) if table == "rk" else vpsde(method, denoiser, x, K, g)
        made.append(d.data.from_unit(x.float()))
    return torch.cat(made)


def sample(folder, part, of, count):
    folder.mkdir(parents=True, exist_ok=True)
    for cell in CELLS[part::of]:
        path = path_of(folder, *cell)
        if not path.exists():
            partial = path.with_name(f".{path.name}.{os.getpid()}.npy")
            np.save(partial, samples(*cell, count).numpy())
            partial.rename(path)  # there whole or not at all
            print(path.name, flush=True)


def nearest(found, mirrored, points):
    """Distances and indices (n, NEAREST) of the nearest points of each image or of its mirror image; + 50,000 marks the latter's."""
    pairs = [metrics.nearest_neighbours(x, points, NEAREST) for x in (found, mirrored)]
    distance, index = torch.cat([p[0] for p in pairs], 1), torch.cat([pairs[0][1], pairs[1][1] + len(points)], 1)
    best = distance.argsort(dim=1, stable=True)[:, :NEAREST]
    return distance.gather(1, best), index.gather(1, best)


def neighbours(folder, shown, nets):
    """Of the samples and of as many test images: distance of the nearest training image, mean of the 50 nearest, indices of three."""
    train, tensors = cifar10("train")[0], {"samples": shown[:KEPT]}
    points = {"pixels": to_unit(train).flatten(1), "features": real.kept(folder, "classifier", "train", len(train))}
    for name, images in (("sample", to_unit(shown)), ("test", to_unit(cifar10("test")[0][:len(shown)]))):
        for space, known in points.items():
            f = (lambda x: x.flatten(1)) if space == "pixels" else lambda x: real.extract(nets["classifier"], x)
            distance, index = nearest(f(images), f(images.flip(3)), known)
            tensors |= {f"{name}_{space}_first": distance[:, 0].float(), f"{name}_{space}_mean": distance.mean(1).float(),
                        f"{name}_{space}_index": index[:, :3].int()}
    return tensors


def with_parts(seen, truth):
    parts = metrics.jackknife(lambda keep: metrics.frechet_distance(seen[keep], truth), len(seen))
    return [float(f"{value:.6g}") for value in parts]


def measure(folder):
    nets, old = real.extractors(), json.loads(RESULT.read_text()) if RESULT.exists() else {"rows": []}
    truths = {name: metrics.Moments.of(real.kept(folder, name, "train", 2 * real.REFERENCE)[:real.REFERENCE]) for name in nets}
    test = real.extract(nets["classifier"], cifar10("test")[0][:1000])
    known, rows = {row["file"]: row for row in old["rows"]}, []
    for table, method, K in CELLS:
        path = path_of(folder, table, method, K)
        if not path.exists():
            continue
        images = torch.from_numpy(np.load(path))
        row = known.get(path.name)
        if row is None or row["samples"] != len(images):
            row = {"table": table, "method": method, "K": K, "samples": len(images), "file": path.name}
            for name, net in nets.items():
                seen = real.extract(net, images)
                row[name] = with_parts(seen, truths[name]) if name == "classifier" else real.apart(seen, truths[name])
                if name == "classifier":
                    row["precision"], row["recall"] = (round(v, 4) for v in metrics.precision_recall(test, seen))
        rows.append(row)
        print(path.name, round(row["classifier"][0], 2), flush=True)
    some = real.extract(nets["classifier"], cifar10("test")[0][1000:1000 + SAMPLES])
    note = {"command": "python benchmarks/measuring.py sample, then measure", "commit": provenance.commit(), "seed": SEED,
            "device": provenance.device(torch.device("cpu")), "torch": torch.__version__,
            "precision_of_network": "bfloat16 autocast, sampler in float32",
            "file": "the hash in a row's file name is that of the weights and statistics that its method uses",
            "reference": f"the first {real.REFERENCE} training images; precision and recall: the first 1000 test images, k = 3",
            "of_a_row": "Fréchet distance by extractor; for the classifier again without each eighth of the samples: metrics.jackknife",
            "network_sha256": hashlib.sha256((WEIGHTS / "cifar10.safetensors").read_bytes()).hexdigest(),
            "test_images": {"samples": SAMPLES, "frechet": metrics.frechet_distance(some, truths["classifier"]),
                            "precision_recall": metrics.precision_recall(test, some)},
            "shown": SHOWN, "rows": rows}
    text = json.dumps(note, indent=1)
    for row in rows:  # a row a line
        text = text.replace(json.dumps(row, indent=1).replace("\n", "\n  "), json.dumps(row))
    RESULT.write_text(text + "\n")
    path = path_of(folder, *SHOWN)
    if path.exists() and not (NEIGHBOURS.exists() and checkpoint.load(NEIGHBOURS)[1]["file"] == path.name):
        found = neighbours(folder, torch.from_numpy(np.load(path)), nets)
        checkpoint.save(NEIGHBOURS, found, command=note["command"], commit=note["commit"], seed=SEED, of=SHOWN, file=path.name,
                        nearest=NEAREST, mirrored="an index i of 50,000 or more: training image i − 50,000, next to the mirror image")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("sample", "measure"))
    parser.add_argument("--folder", type=Path, default=Path("runs/measuring"))
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--of", type=int, default=1)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "sample":
        sample(options.folder, options.part, options.of, options.samples)
    else:
        measure(options.folder)
