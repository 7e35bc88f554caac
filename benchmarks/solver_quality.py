"""How near to the exact solution each solver comes, by evaluations, with the trained network on CIFAR-10.

    OMP_NUM_THREADS=1 python benchmarks/solver_quality.py dpmlib/weights/solver_quality.json
    OMP_NUM_THREADS=1 python benchmarks/solver_quality.py dpmlib/weights/solver_quality.json empirical
    OMP_NUM_THREADS=1 python benchmarks/solver_quality.py dpmlib/weights/solver_quality.json spectrum

All solvers start from the same sixteen noises and end at the same level, t = 1/1000, so that what is compared is the solver alone.
The reference is order 3 at 200 evaluations, uniform in λ; how far it is from another solver at 200 evaluations is recorded with it.
The second command does the same under the exact denoiser of two thousand training images, where it also counts how many noises end at
the image where the exact solution ends. The third writes the eigenvalues of the covariance of the first ten thousand training images.
"""

import json
import platform
import sys
import time
from pathlib import Path

import torch

import dpmlib as d
from dpmlib import provenance
from dpmlib.rivals import karras

IMAGES, SEED, REFERENCE, BUDGETS = 16, 0, 200, (6, 10, 20, 40)

GRIDS = {
    "time": lambda schedule, n: d.levels(schedule, n),
    "lam": lambda schedule, n: d.levels(schedule, n, "lam"),
    "karras": karras,
}

# name: (intervals of the grid for a budget of n evaluations, solver on that grid)
SOLVERS = {
    "DDIM": (lambda n: n, lambda f, x, g: d.ode_multistep(f, x, g, 1)),
    "Heun": (lambda n: n // 2, d.heun),
    "PNDM": (lambda n: n - 1, d.pndm),
    "DEIS-2": (lambda n: n, lambda f, x, g: d.deis(f, x, g, 2)),
    "DEIS-3": (lambda n: n, lambda f, x, g: d.deis(f, x, g, 3)),
    "DPM-Solver-2": (lambda n: n, lambda f, x, g: d.ode_singlestep(f, x, g, 2)),
    "DPM-Solver-3": (lambda n: n, lambda f, x, g: d.ode_singlestep(f, x, g, 3)),
    "DPM-Solver++(2M)": (lambda n: n, lambda f, x, g: d.ode_multistep(f, x, g, 2)),
    "DPM-Solver++(3M)": (lambda n: n, lambda f, x, g: d.ode_multistep(f, x, g, 3)),
    "DPM-Solver++(3M), as published": (lambda n: n, lambda f, x, g: d.ode_multistep(f, x, g, 3, rule="published")),
    "UniPC-2": (lambda n: n, lambda f, x, g: d.unipc(f, x, g, 2)),
    "UniPC-3": (lambda n: n, lambda f, x, g: d.unipc(f, x, g, 3)),
}


def last(states):
    *_, x = states
    return x


def solved(solve, f, x, grid):
    return last(solve(f, x, grid))


def black_box(f, x, schedule, clock, n, order=2):
    """Runge–Kutta with n evaluations in all, steps even in `clock`."""
    ends = (schedule.t_max, schedule.t_end)
    ends = ends if clock == "t" else tuple(schedule.lam(t).item() for t in ends)
    return last(d.runge_kutta(d.probability_flow(f, schedule, clock), x, torch.linspace(*ends, n // order + 1, dtype=torch.float64), order))


def start(images=IMAGES):
    return torch.randn(images, 3, 32, 32, generator=torch.Generator().manual_seed(SEED))


def reference(f, x, schedule):
    return last(d.ode_multistep(f, x, GRIDS["lam"](schedule, REFERENCE), 3, rule="taylor"))


def errors(x, exact):
    """RMSE over all images, and of the first alone, which is quick to compute again."""
    square = (x - exact).double().square().flatten(1).mean(1)
    return {"rmse": square.mean().sqrt().item(), "first": square[0].sqrt().item()}


@torch.no_grad()
def table():
    network = d.pretrained("cifar10")
    schedule, x = network.schedule, start()
    exact = reference(network, x, schedule)
    rows = []

    def record(solver, grid, n, solve, *given):
        before = time.process_time()
        found = errors(solve(*given), exact)
        rows.append({"solver": solver, "grid": grid, "evaluations": n, **found, "cpu_seconds": time.process_time() - before})
        print(*rows[-1].values(), flush=True)

    for name, (intervals, solve) in SOLVERS.items():
        for spacing, grid in GRIDS.items():
            for n in BUDGETS + ((80, 160) if name == "DDIM" and spacing == "time" else ()):
                counted = d.CountCalls(network)
                record(name, spacing, n, solved, solve, counted, x, grid(schedule, intervals(n)))
                assert counted.calls == n, (name, n, counted.calls)
    for clock in ("t", "lam"):
        for n in BUDGETS:
            record(f"RK2 ({clock})", {"t": "time"}.get(clock, clock), n, black_box, network, x, schedule, clock, n)
    second = last(d.unipc(network, x, GRIDS["lam"](schedule, REFERENCE), 2))
    return rows, errors(second, exact)["rmse"]


def origin(words):
    return {"command": " ".join(["OMP_NUM_THREADS=1 python benchmarks/solver_quality.py", *words]),
            "commit": provenance.commit(), "seed": SEED,
            "device": f"{platform.machine()} CPU, 1 thread", "torch": torch.__version__}


def network_table():
    rows, doubt = table()
    return {"network": "cifar10", "images": IMAGES, "t_end": 1 / 1000, "reference_against_unipc": doubt, "rows": rows,
            "reference": f"ode_multistep, order 3, rule taylor, {REFERENCE} evaluations uniform in lam"}


def empirical_table(training=2000, noises=48):
    """RMSE and the share of noises that end at the right training image, for LinearVP from t = 1 to 1e-3."""
    images = d.data.cifar10("train")[0][:training].float() / 127.5 - 1
    denoiser, schedule = d.Empirical(images).denoiser(), d.LinearVP()
    x = start(noises)
    exact = reference(denoiser, x, schedule)
    home, rows = d.metrics.nearest_neighbours(exact, images)[1], []
    for name, (intervals, solve) in SOLVERS.items():
        for spacing in ("time", "lam"):
            for n in BUDGETS + ((80, 160) if name == "DDIM" and spacing == "time" else ()):
                end = last(solve(denoiser, x, GRIDS[spacing](schedule, intervals(n))))
                right = (d.metrics.nearest_neighbours(end, images)[1] == home).double().mean().item()
                rows.append({"solver": name, "grid": spacing, "evaluations": n, "rmse": errors(end, exact)["rmse"], "right": right})
                print(*rows[-1].values(), flush=True)
    return {"training_images": training, "noises": noises, "rows": rows}


def spectrum(training=10_000):
    """Eigenvalues, ascending, of the covariance of the first `training` images in [-1, 1]."""
    x = d.data.cifar10("train")[0][:training].flatten(1).double() / 127.5 - 1
    x = x - x.mean(0)
    return {"images": training, "values": [float(f"{v:.7g}") for v in torch.linalg.eigvalsh(x.T @ x / len(x)).tolist()]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    path, part = Path(sys.argv[1]), (sys.argv[2:] or ["network"])[0]
    what = {"network": network_table, "empirical": empirical_table, "spectrum": spectrum}[part]
    found = {**origin(sys.argv[1:]), **what()}
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, part: found}, indent=0) + "\n")
