"""How near to the exact solution each solver comes, by evaluations, with the trained network on CIFAR-10.

    OMP_NUM_THREADS=1 python benchmarks/solver_quality.py dpmlib/weights/solver_quality.json

All solvers start from the same sixteen noises and end at the same level, t = 1/1000, so that what is compared is the solver alone.
The reference is order 3 at 200 evaluations, uniform in λ; how far it is from another solver at 200 evaluations is recorded with it.
"""

import json
import platform
import subprocess
import sys
import time

import torch

import dpmlib as d
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

    def record(solver, grid, n, solve):
        before = time.process_time()
        found = errors(solve(), exact)
        rows.append({"solver": solver, "grid": grid, "evaluations": n, **found, "cpu_seconds": time.process_time() - before})
        print(*rows[-1].values(), flush=True)

    for name, (intervals, solve) in SOLVERS.items():
        for spacing, grid in GRIDS.items():
            for n in BUDGETS + ((80, 160) if name == "DDIM" and spacing == "time" else ()):
                counted = d.CountCalls(network)
                record(name, spacing, n, lambda: last(solve(counted, x, grid(schedule, intervals(n)))))
                assert counted.calls == n, (name, n, counted.calls)
    for clock in ("t", "lam"):
        for n in BUDGETS:
            record(f"RK2 ({clock})", {"t": "time"}.get(clock, clock), n, lambda: black_box(network, x, schedule, clock, n))
    second = last(d.unipc(network, x, GRIDS["lam"](schedule, REFERENCE), 2))
    return rows, errors(second, exact)["rmse"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    rows, doubt = table()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    result = {
        "command": f"OMP_NUM_THREADS=1 python benchmarks/solver_quality.py {sys.argv[1]}", "commit": commit, "seed": SEED,
        "device": f"{platform.machine()} CPU, 1 thread", "torch": torch.__version__, "network": "cifar10", "images": IMAGES,
        "t_end": 1 / 1000, "reference": f"ode_multistep, order 3, rule taylor, {REFERENCE} evaluations uniform in lam",
        "reference_against_unipc": doubt, "rows": rows}
    with open(sys.argv[1], "w") as file:
        file.write(json.dumps(result, indent=0) + "\n")
