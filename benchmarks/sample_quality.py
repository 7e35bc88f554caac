"""How good the trained network's samples are, by evaluations: distances of distributions, where solver_quality.py has that of states.

    python benchmarks/sample_quality.py      writes dpmlib/weights/sample_quality.json; two processes of one thread

All solvers start from the same noises, without labels, and end at t = 1/1000. Their samples, clipped to [−1, 1], are compared with test
images: by the energy distance of whole images, and by the Fréchet distance of the 48 numbers of an image averaged to 4 × 4 pixels.
"""

import json
import platform
from pathlib import Path

import torch
from torch.nn.functional import avg_pool2d

import dpmlib as d
from dpmlib import provenance

COUNT, SEED = 512, 0
SOLVERS = {
    "DDIM": ("time", lambda f, x, g: d.ode_multistep(f, x, g, 1)),
    "DPM-Solver++(2M)": ("lam", lambda f, x, g: d.ode_multistep(f, x, g, 2)),
    "SDE-DPM-Solver++(2M)": ("lam", lambda f, x, g: d.sde_multistep(f, x, g, 2, generator=torch.Generator().manual_seed(SEED + 1))),
}
RUNS = [("DDIM", 40), ("DDIM", 20), ("DPM-Solver++(2M)", 20), ("SDE-DPM-Solver++(2M)", 20), ("DDIM", 10), ("DPM-Solver++(2M)", 10),
        ("SDE-DPM-Solver++(2M)", 10), ("DDIM", 5), ("DPM-Solver++(2M)", 5)]


@torch.inference_mode()
def samples(solver, n, count=COUNT):
    torch.set_num_threads(1)
    denoiser, x = d.pretrained("cifar10"), torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(SEED))
    spacing, solve = SOLVERS[solver]
    *_, x = solve(denoiser, x, d.levels(denoiser.schedule, n, spacing))
    return x.clamp(-1, 1)


def pooled(images):
    return avg_pool2d(images, 8).flatten(1)


def scores(images, real):
    """Energy distance of whole images, its jackknife error over eighths of the samples, and the Fréchet distance of the pooled images."""
    flat, truth = images.flatten(1), real.flatten(1)
    energy = d.metrics.jackknife(lambda keep: d.metrics.energy_distance(flat[keep], truth), len(flat))
    return {"energy": float(energy[0]), "energy_error": d.metrics.jackknife_error(energy),
            "frechet_pooled": float(d.metrics.frechet_distance(pooled(images), pooled(real)))}


def main():
    test = d.data.to_unit(d.data.cifar10("test")[0])
    real, other = test[:1000], test[1000:]
    with torch.multiprocessing.get_context("spawn").Pool(2) as pool:
        made = pool.starmap(samples, RUNS, chunksize=1)
    rows = [{"solver": solver, "evaluations": n, **scores(images, real)} for (solver, n), images in zip(RUNS, made)]
    floor = scores(other[:COUNT], real)
    here = Path(__file__).resolve().parents[1]
    notes = dict(command="python benchmarks/sample_quality.py", commit=provenance.commit(), seed=SEED, samples=COUNT,
                 torch=torch.__version__,
                 device=f"{platform.machine()} CPU, 2 processes of 1 thread", real="the first 1000 test images",
                 test_images=floor, rows=rows)
    (here / "dpmlib" / "weights" / "sample_quality.json").write_text(json.dumps(notes, indent=1) + "\n")
    print(json.dumps(notes, indent=1))


if __name__ == "__main__":
    main()
