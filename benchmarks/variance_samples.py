"""Samples of the trained network by steps K, for every choice of variance: DDPM, DDIM and their A-, NPR- and SN- versions.

    python benchmarks/variance_samples.py sample --folder runs/variance     hours of one core; give it again to go on
    python benchmarks/variance_samples.py measure --folder runs/variance       writes dpmlib/weights/variance_samples.json

All runs start from the same noises, draw the same noise later, have no labels, visit even steps of a chain of 1000, and end with a step to
the data. A, NPR and SN: c at most 1, and the last noisy step clipped as in Bao et al. 2022a, appendix A.2. Samples are kept as bytes, so
that other measures can be taken later. The network computes in bfloat16 (autocast), the sampler in float32. `measure` also computes, in
closed form and without any sample, what each of these samplers makes of N(0, I) if the data are a Gaussian with the moments of CIFAR-10.
"""

import argparse
import json
import platform
from pathlib import Path

import numpy as np
import torch

import dpmlib as d
from dpmlib import covariance, features, heads, metrics, provenance, statistics
from dpmlib.statistics import WEIGHTS
from dpmlib.trajectory import even, grid_of

RESULT, TABLES = WEIGHTS / "variance_samples.json", WEIGHTS / "variance_tables.json"
SEED, BATCH = 0, 64
COUNTS = {10: 256, 25: 256, 50: 256, 100: 128, 200: 64, 400: 64, 1000: 64}  # samples by K: what an evening allows
BUDGETS = (10, 25, 50, 100, 200, 400, 1000)
METHODS = {"DDPM beta_tilde": (1.0, "beta_tilde"), "DDPM beta": (1.0, "beta"), "Analytic-DDPM": (1.0, "analytic"), "NPR-DDPM": (1.0, "npr"),
           "SN-DDPM": (1.0, "sn"), "DDIM": (0.0, "beta_tilde"), "Analytic-DDIM": (0.0, "analytic"), "NPR-DDIM": (0.0, "npr"),
           "SN-DDIM": (0.0, "sn")}
CHAINS = {"linear": d.DiscreteVP.linear(1000), "cosine": d.DiscreteVP.cosine(1000)}
NETWORKS = {"linear": "cifar10", "cosine": "cifar10_cosine"}
ORDER = [*[("linear", K) for K in (10, 25, 50)], *[("cosine", K) for K in (10, 25)], ("linear", 100), ("linear", 200), ("cosine", 50),
         ("linear", 400), ("linear", 1000), ("cosine", 100), ("cosine", 200),
         ("cosine", 400), ("cosine", 1000)]


def pixels_of(chain, eta):
    return 2.0 if eta == 1 and chain == "linear" else 1.0


def analytic(chain, path):
    """c of theorem 1 at each step, from Γ of training images as `variance_tables.py` or `dpmlib.statistics` measured it."""
    if chain == "linear":
        stats = statistics.load()
        steps, size = stats.steps, stats.size.mean(1)
    else:
        rows = json.loads(TABLES.read_text())["gamma"][NETWORKS[chain]]
        steps, size = (torch.tensor(rows[k], dtype=torch.float64) for k in ("steps", "size"))
    grid = grid_of(path, CHAINS[chain])
    return d.posterior_variance(statistics.between(steps, size, path).flip(0) / grid.sigma[:-1] ** 2, grid)


def sampler(chain, method, K):
    """(denoiser, grid, η, variance): what `dpmlib.ancestral` takes."""
    eta, kind = METHODS[method]
    path = even(1000, K)
    grid, network = grid_of(path, CHAINS[chain]), d.pretrained(NETWORKS[chain])
    if kind in ("npr", "sn"):
        informed = {"npr": heads.residual, "sn": heads.squared_noise}[kind](network, heads.load(NETWORKS[chain]))
        return heads.clipped(informed, grid, eta, pixels_of(chain, eta)), grid, eta, None
    if kind == "analytic":
        return network, grid, eta, covariance.clip_last(analytic(chain, path), grid, eta, pixels_of(chain, eta))
    return network, grid, eta, torch.zeros(K) if kind == "beta_tilde" else d.n0i_variance(grid)


@torch.inference_mode()
def samples(chain, method, K):
    """COUNTS[K] samples as bytes, (count, 3, 32, 32); fewer samples are the first of more."""
    denoiser, grid, eta, variance = sampler(chain, method, K)
    start = torch.randn(max(COUNTS.values()), 3, 32, 32, generator=torch.Generator().manual_seed(SEED))
    made = []
    for i, x in enumerate(start[:COUNTS[K]].split(BATCH)):
        with torch.autocast("cpu", torch.bfloat16):
            *_, x = d.ancestral(denoiser, x, grid, eta, variance, torch.Generator().manual_seed(1000 * SEED + 1 + i))
        made.append(d.data.from_unit(x))
    return torch.cat(made).numpy()


def sample(folder):
    """Every run whose file is not there yet, small K first; several processes may share a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        for chain, K, method in [(c, K, m) for c, K in ORDER for m in METHODS]:
            path = folder / f"{chain}_{method.replace(' ', '_')}_{K}.npy"
            if not path.exists():
                try:
                    path.with_suffix(".claim").touch(exist_ok=False)
                except FileExistsError:
                    continue
                np.save(path, samples(chain, method, K))
                path.with_suffix(".claim").unlink()
                print(path.name, flush=True)
                break
        else:
            return


# --- measures -----------------------------------------------------------------------------------------------------

def scores(images, real, within, truth, net, plain=None):
    """Energy distance to the images `real`, whose mean distance is `within`, and Fréchet distance of features to the `Moments` truth.

    As `metrics.energy_distance` and `frechet_distance`; errors by jackknife. A Fréchet distance of fewer samples is larger, so to compare
    with rows of fewer samples there are the means over disjoint groups of 128 and of 64. `plain`: the jackknives of another method's
    samples from the same noises, to be subtracted. Returns the row and both jackknives.
    """
    flat, seen = images.flatten(1).double(), net(images)
    across, own = torch.cdist(flat, real).mean(1), torch.cdist(flat, flat)

    def energy(keep):
        return float((2 * across[keep].mean() - own[keep][:, keep].mean() - within).clamp(min=0).sqrt())

    def frechet(keep):
        return metrics.frechet_distance(seen[keep], truth)

    row, both = {"samples": len(images)}, [metrics.jackknife(measure, len(seen)) for measure in (frechet, energy)]
    for i, name in enumerate(("frechet", "energy")):
        row[name], row[name + "_error"] = float(both[i][0]), metrics.jackknife_error(both[i])
        if plain is not None:
            apart = both[i] - plain[i]
            row[name + "_minus_plain"], row[name + "_minus_plain_error"] = float(apart[0]), metrics.jackknife_error(apart)
    for size in (128, 64):
        if len(seen) >= size:
            groups = [frechet(part) for part in torch.arange(len(seen)).split(size)]
            row[f"frechet_{size}"] = sum(groups) / len(groups)
    return {name: float(f"{value:.5g}") if isinstance(value, float) else value for name, value in row.items()}, both


def closed_form(chain, method, K, variances, mean, eta=None, clip=True):
    """Fréchet distance (per pixel value) to N(mean, variances), in its eigenbasis, of what the sampler makes of N(0, I): exact.

    Every coordinate is multiplied by a number and gets noise at each step, so the recursion is one of variances.
    """
    eta, kind = METHODS.get(method, (eta, "full"))
    grid = grid_of(even(1000, K), CHAINS[chain])
    k, t = d.kernel(grid, eta), grid[:-1]
    gain = t.alpha[:, None] * variances / (t.alpha[:, None] ** 2 * variances + t.sigma[:, None] ** 2)
    known = (t.sigma / t.alpha)[:, None] ** 2 * (gain * t.alpha[:, None])  # Var[x_0 | x_t] in each direction
    c = {"beta_tilde": 0 * known, "beta": d.n0i_variance(grid)[:, None], "full": known}.get(kind)
    if c is None:
        table = known.mean(1)
        c = (covariance.clip_last(table, grid, eta, pixels_of(chain, eta)) if clip else table)[:, None]
    v, m = torch.ones_like(variances), -grid.alpha[0] * mean  # of x_t − α_t mean
    for i in range(K):
        a = k.kappa[i] + k.gamma[i] * gain[i]
        v, m = a**2 * v, a * m
        if grid.sigma[i + 1] > 0:
            v = v + k.omega2[i] + k.gamma[i] ** 2 * c[i]
    return float((m.square() + (v.sqrt() - variances.sqrt()).square()).mean())


def closed_forms():
    """The rows of `closed_form`, for the mean and covariance of CIFAR-10's training images."""
    images = d.data.to_unit(d.data.cifar10("train")[0]).flatten(1)
    mean = images.mean(0, dtype=torch.float64)
    centred = images - mean.float()
    variances, basis = torch.linalg.eigh((centred.T @ centred).double() / len(images))
    variances, mean = variances.clamp(min=0), basis.T @ mean
    rows = []
    for chain in CHAINS:
        for K in BUDGETS:
            wanted = [(m, None, "Analytic" in m) for m in METHODS if "NPR" not in m and "SN" not in m]
            wanted += [("Analytic-DDPM", None, False), ("Analytic-DDIM", None, False), ("full DDPM", 1.0, False), ("full DDIM", 0.0, False)]
            for method, eta, clip in wanted:
                value = closed_form(chain, method, K, variances, mean, eta, clip)
                rows.append({"chain": chain, "trajectory": "even", "method": method, "K": K, "clipped": clip,
                             "frechet_per_pixel": float(f"{value:.5g}")})
    return rows


@torch.inference_mode()
def measure(folder, references=10_000):
    net = features.classifier()
    train, test = (d.data.to_unit(d.data.cifar10(split)[0]) for split in ("train", "test"))
    truth, real = features.moments(net, train[:references]), test[:1000].flatten(1).double()
    within = torch.cdist(real, real).mean()
    old = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    notes = dict(command="python benchmarks/variance_samples.py sample, then measure", commit=provenance.commit(), seed=SEED,
                 samples=COUNTS,
                 precision="network in bfloat16 autocast, sampler in float32", torch=torch.__version__,
                 device=f"{platform.machine()} CPU, 1 thread", errors="jackknife over eighths of the samples",
                 frechet=f"squared distance of Gaussians in the last features of dpmlib.classifier, to the first {references} training "
                         "images; few samples bias it up",
                 minus_plain="the difference to DDPM beta_tilde, or to DDIM, of the same chain and K, and its error: same starting noises",
                 frechet_128="mean over disjoint groups of 128 samples, and frechet_64 of 64: for rows of fewer samples",
                 energy="of whole images, to the first 1000 test images",
                 clipping="A, NPR, SN: c at most 1, and the last noisy step, 2 pixels for DDPM on the linear chain, else 1",
                 networks=NETWORKS, test_images=scores(test[1000:1256], real, within, truth, net)[0], rows=[],
                 closed_form="squared Fréchet distance / 3072 in pixels in [-1, 1], data N(mean, covariance) of CIFAR-10, exact denoiser",
                 closed_form_rows=old.get("closed_form_rows") or closed_forms())
    for chain, K in sorted(ORDER, key=lambda item: (item[0] == "cosine", item[1])):
        known = [row for row in old.get("rows", []) if (row["chain"], row["K"]) == (chain, K) and old["frechet"] == notes["frechet"]]
        if len(known) == len(METHODS):  # measured before
            notes["rows"] += known
            continue
        plain = {}
        for method, (eta, _) in METHODS.items():
            path = folder / f"{chain}_{method.replace(' ', '_')}_{K}.npy"
            if path.exists():
                images = d.data.to_unit(torch.from_numpy(np.load(path)))
                row, both = scores(images, real, within, truth, net, plain.get(eta))
                if method in ("DDPM beta_tilde", "DDIM"):
                    plain[eta] = both
                notes["rows"].append({"chain": chain, "trajectory": "even", "method": method, "K": K, **row})
    text = json.dumps(notes, indent=1)
    for row in [*notes["rows"], *notes["closed_form_rows"]]:  # a row a line
        text = text.replace(json.dumps(row, indent=1).replace("\n", "\n  "), json.dumps(row))
    RESULT.write_text(text + "\n")
    print(f"{len(notes['rows'])} rows")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("sample", "measure"))
    parser.add_argument("--folder", type=Path, default=Path("runs/variance"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    {"sample": sample, "measure": measure}[options.what](options.folder)
