"""Table 1 of Lu et al. 2022 asked in another way: Runge–Kutta in t and in λ, and DPM-Solver, by their distance to the exact ODE.

On CIFAR-10 under the exact optimal denoiser of the first 4000 training images, and under the trained U-Net.

    python benchmarks/rk_vs_dpm_solver.py     writes dpmlib/weights/rk_vs_dpm_solver.json
"""

import json
import platform
from pathlib import Path

import torch

import dpmlib as d
from dpmlib import provenance

ROOT = Path(__file__).resolve().parents[1]
BUDGETS = (12, 18, 24, 30, 36, 42, 48)
METHODS = ("RK2 (t)", "RK2 (lambda)", "DPM-Solver-2", "RK3 (t)", "RK3 (lambda)", "DPM-Solver-3")
T_END, IMAGES, CHECKED = 1e-3, 4000, 8


def solve(name, denoiser, schedule, x, evaluations):
    """The state at T_END after `evaluations` evaluations: steps uniform in t for RK (t), in λ for the others."""
    order = int(name.split()[0][-1])
    if name.startswith("DPM"):
        grid = d.levels(schedule, evaluations, "lam", t_end=T_END)
        *_, x = d.ode_singlestep(denoiser, x, grid, [order] * (evaluations // order))
        return x
    clock = "t" if name.endswith("(t)") else "lam"
    start, end = (schedule.t_max, T_END) if clock == "t" else (schedule.lam(schedule.t_max), schedule.lam(T_END))
    knots = torch.linspace(float(start), float(end), evaluations // order + 1, dtype=torch.float64)
    *_, x = d.runge_kutta(d.probability_flow(denoiser, schedule, clock), x, knots, order)
    return x


def rms(x):
    return x.double().flatten(1).square().mean(1).sqrt()


def start(count, seed=0):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def measure(denoiser, schedule, count, fine):
    x = start(count)
    exact, nearly = (solve("DPM-Solver-3", denoiser, schedule, x, n) for n in (fine, fine // 2))
    end = schedule.level(T_END)
    left = lambda y: rms(y - denoiser(y, end).mean).mean().item()  # noise that the state still holds
    out = {"samples": count, "reference": f"DPM-Solver-3, {fine} evaluations", "reference_error": rms(nearly - exact).median().item(),
           "left_exact": round(left(exact), 5),
           "rmse": {}, "median": {}, "same": {}, "left": {}}
    for name in METHODS:
        ends = [solve(name, denoiser, schedule, x, n) for n in BUDGETS]
        errors = torch.stack([rms(y - exact) for y in ends])
        out["left"][name] = [round(left(y), 5) for y in ends]
        out["rmse"][name] = [round(v, 5) for v in errors.square().mean(1).sqrt().tolist()]
        out["median"][name] = [round(v, 5) for v in errors.median(1).values.tolist()]
        out["same"][name] = [round(v, 4) for v in (errors < 0.1).double().mean(1).tolist()]
        print(name, out["rmse"][name], out["left"][name], flush=True)
    return out


if __name__ == "__main__":
    images = d.data.cifar10("train")[0][:IMAGES]
    oracle, net, vp = d.Empirical(d.data.to_unit(images)).denoiser(), d.pretrained("cifar10"), d.LinearVP()
    result = {"command": "python benchmarks/rk_vs_dpm_solver.py", "commit": provenance.commit(), "seed": 0,
              "device": f"{platform.machine()} CPU",
              "torch": torch.__version__, "budgets": BUDGETS, "t_end": T_END, "images": IMAGES}
    with torch.no_grad():
        ends = {name: solve(name, oracle, vp, start(CHECKED), 12) for name in METHODS}
        result["check"] = {name: round(rms(x - ends["DPM-Solver-2"]).mean().item(), 4) for name, x in ends.items()}
        result["empirical"] = measure(oracle, vp, 32, 480)
        result["unet"] = measure(net, net.schedule, 16, 192)
    (ROOT / "dpmlib/weights/rk_vs_dpm_solver.json").write_text(json.dumps(result, indent=1) + "\n")
