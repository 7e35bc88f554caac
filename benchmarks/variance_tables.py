"""Bits per dimension by steps K for every choice of variance, each section from one network evaluation per image and level.

    python benchmarks/variance_tables.py linear cifar10              DDPM's chain and the network trained on it
    python benchmarks/variance_tables.py cosine cifar10              the cosine chain, the same network asked at the level of equal λ
    python benchmarks/variance_tables.py cosine cifar10_cosine       and the network trained on it

Each writes its rows into dpmlib/weights/variance_tables.json. At about 200 of the 1000 levels the network and its heads answer for 64
training images (Γ, and what the optimal trajectories are found from) and for 64 test images (the bound). A step's term needs nothing else:
with u = (σ_t²/α_t²)(e^{2λ_s} − e^{2λ_t}), r = (ε − ε̂)² and g = c α_t²/σ_t² it is ½ [u (r − g)/(1 + u g) + log(1 + u g)] per coordinate.
Between measured levels terms and Γ are interpolated along log n. Images and noises are those of `dpmlib.statistics`.
"""

import json
import math
import platform
import sys

import numpy as np
import torch

import dpmlib as d
from dpmlib import heads as H
from dpmlib import provenance, statistics
from dpmlib.likelihood import log_bin
from dpmlib.statistics import WEIGHTS
from dpmlib.trajectory import bound_table, even, monotone_gamma, shortest_paths, step_costs

RESULT, BUDGETS, IMAGES = WEIGHTS / "variance_tables.json", (10, 25, 50, 100, 200, 400, 1000), 64
CHAINS = {"linear": d.DiscreteVP.linear(1000), "cosine": d.DiscreteVP.cosine(1000)}
FLOOR = 1e-6  # of c in the last term: std 1e-3, an eighth of a bin; SN cuts at 0, where a bin would have no probability


def measured():
    """The steps of the chain at which the network is asked."""
    return sorted({*range(1, 33), *statistics.visited(), *even(1000, 50)})


class Answers:
    """What a network and its heads say at a level of `chain`, in the units of ε: r = (ε − ε̂)², and g of NPR and of SN."""

    def __init__(self, chain, network):
        self.chain, self.sighted = CHAINS[chain], H.Sighted(d.pretrained(network), H.load(network))
        self.own = self.sighted.denoiser.schedule
        self.low, self.high = self.own.lam(self.own.t_max), self.own.lam(self.own.t_end)

    def __call__(self, x0, noise, level):
        """(ε̂², r, g of NPR, g of SN, x̂_0), each of the shape of x0."""
        parts = []
        for image, eps in zip(x0.split(32), noise.split(32)):
            x = d.diffuse(image, level, eps)
            own = self.own.level(self.own.t_of_lam(level.lam.clamp(self.low, self.high)).clamp(self.own.t_end, self.own.t_max))
            said, h, g = self.sighted.both(x, own)
            at = level if level.lam > self.high else own  # as `heads.matched` does
            mean = (x - at.sigma * said) / at.alpha
            spread = [((at.sigma / at.alpha) ** 2 * v).clamp(0, 1) for v in (g, h - said**2)]  # c
            said = (x - level.alpha * mean) / level.sigma
            parts.append([said**2, (eps - said) ** 2, *((level.alpha / level.sigma) ** 2 * c for c in spread), mean])
        return [torch.cat(p) for p in zip(*parts)]


def term(u, r, g):
    return 0.5 * (u * (r - g) / (1 + u * g) + torch.log1p(u * g))


def snr(chain):
    """e^{2λ_n}, n = 1 … N, float64 (N,)."""
    return (2 * chain.level(torch.arange(1, 1001, dtype=torch.float64) / 1000).lam).exp()


def neighbours(steps, n):
    """The measured steps around n and their weights along log n: [(index, weight)]."""
    i = int(np.searchsorted(steps, n))
    if steps[i] == n:
        return [(i, 1.0)]
    w = math.log(n / steps[i - 1]) / math.log(steps[i] / steps[i - 1])
    return [(i - 1, 1 - w), (i, w)]


def spread(steps, values):
    """`values` at `steps`, (L, …), at all n = 1 … 1000."""
    return statistics.between(torch.tensor(steps, dtype=torch.float64), values, range(1, 1001))


def section(chain_name, network):
    chain, answers, steps = CHAINS[chain_name], Answers(chain_name, network), measured()
    grid, e = chain.level(torch.tensor(steps, dtype=torch.float64) / 1000), snr(chain)
    level_of = [grid[i] for i in range(len(steps))]

    # training images: Γ, and errors for the trajectories of the whole table
    size, seen = torch.zeros(2, len(steps), dtype=torch.float64)
    if chain_name == "linear":  # the same table as in the chapter on Γ
        stats = statistics.load()
        size = stats.at(stats.size, steps).mean(1)
    x0, noise = statistics.images("train", IMAGES)
    for i, level in enumerate(level_of):
        square, r, *_ = answers(x0, noise, level)
        seen[i] = r.double().mean()
        if chain_name != "linear":
            size[i] = square.double().mean()
    gammas, errors = spread(steps, size), spread(steps, seen)
    sigma2 = 1 / (1 + e)
    # at the noisy end the Monte Carlo error of 1 − σ²Γ can be larger than it: there c is cut to [0, 1], as posterior_variance does
    g_of = {"DDPM beta_tilde": 0 * e, "DDPM beta": e * sigma2, "Analytic-DDPM": (1 - gammas).clamp(torch.zeros_like(e), e)}
    lasting = torch.from_numpy(monotone_gamma(gammas / sigma2, chain))
    raw = (gammas / sigma2).clamp(max=(1 - 1e-9) / sigma2)  # a trajectory's cost needs β Γ < 1
    g_of |= {"Analytic-DDPM raw": g_of["Analytic-DDPM"], "Analytic-DDPM monotone": 1 - sigma2 * lasting}
    paths = {("even", K): even(1000, K) for K in BUDGETS}
    costs = {"optimal": step_costs(lasting, chain), "Analytic-DDPM raw": step_costs(raw, chain)}
    costs |= {name: bound_table(errors, chain, g_of[name] / e) for name in ("DDPM beta_tilde", "DDPM beta")}
    for name, cost in costs.items():
        found = shortest_paths(cost, 400)
        paths |= {(name, K): found[K - 1] if K < 1000 else even(1000, 1000) for K in BUDGETS}

    # test images: the terms. For each measured level, the u at which it is wanted
    wanted = {i: set() for i in range(len(steps))}
    for key, path in paths.items():
        if key[0] in ("even", "optimal"):
            for s, t in zip(path, path[1:]):
                for i, _ in neighbours(steps, t):
                    wanted[i].add((s, t))
    x0, noise = statistics.images("test", IMAGES)
    error, terms, notes = torch.zeros(len(steps), IMAGES, dtype=torch.float64), {"NPR-DDPM": {}, "SN-DDPM": {}}, []
    for i, level in enumerate(level_of):
        _, r, npr, sn, mean = answers(x0, noise, level)
        error[i] = r.double().flatten(1).mean(1)
        for s, t in wanted[i]:
            u = float((e[s - 1] - e[t - 1]) / e[t - 1])
            for name, g in (("NPR-DDPM", npr), ("SN-DDPM", sn)):
                terms[name][i, s, t] = term(u, r, g).flatten(1).mean(1).double()
        cut = npr.clamp(min=1e-12)
        notes.append([steps[i], error[i].mean().item(), npr.mean().item(), sn.mean().item(), (sn == 0).float().mean().item(),
                      (0.5 * (error[i].mean().log() + 1) - 0.5 * (cut.log() + r / cut).mean()).item()])
        if steps[i] == 1:
            wide, two = (level.sigma / level.alpha) ** 2, chain.level(0.002)
            cs = {"DDPM beta": level.sigma**2, "DDPM beta_tilde": (level.sigma / two.sigma) ** 2 * (1 - (two.alpha / level.alpha) ** 2),
                  "Analytic-DDPM": wide * g_of["Analytic-DDPM"][0], "NPR-DDPM": (wide * npr).clamp(min=FLOOR),
                  "SN-DDPM": (wide * sn).clamp(min=FLOOR)}
            cs |= {name: cs["Analytic-DDPM"] for name in ("Analytic-DDPM raw", "Analytic-DDPM monotone")}
            last = {name: log_bin(x0, mean, c).flatten(1).mean(1) for name, c in cs.items()}
    prior = 0.5 * e[-1] * x0.double().square().flatten(1).mean(1)
    error = spread(steps, error)

    def bits(method, path):
        total = prior - last[method]
        for s, t in zip(path, path[1:]):
            if method in terms:
                total = total + sum(w * terms[method][i, s, t] for i, w in neighbours(steps, t))
            else:
                total = total + term((e[s - 1] - e[t - 1]) / e[t - 1], error[t - 1], g_of[method][t - 1])
        return total / math.log(2)

    rows = []
    for trajectory in ("even", "optimal"):
        for method in ("DDPM beta_tilde", "DDPM beta", "Analytic-DDPM raw", "Analytic-DDPM", "NPR-DDPM", "SN-DDPM"):
            if trajectory == "even" and method == "Analytic-DDPM raw":
                continue  # there it is the next one
            for K in BUDGETS:
                kind = method + " monotone" if trajectory == "optimal" and method == "Analytic-DDPM" else method
                path = paths[method if trajectory == "optimal" and method in costs else trajectory, K]
                value = bits(kind, path)
                plain = bits("Analytic-DDPM" if trajectory == "even" else "Analytic-DDPM monotone", paths[trajectory, K])
                apart = value - plain
                rows.append({"chain": chain_name, "network": network, "trajectory": trajectory, "method": method, "K": K,
                             **rounded(bits_per_dim=value.mean(), standard_error=value.std() / math.sqrt(IMAGES),
                                       minus_analytic=apart.mean(), minus_analytic_error=apart.std() / math.sqrt(IMAGES))})
    found = {f"{'Analytic-DDPM' if name == 'optimal' else name} {K}": path for (name, K), path in paths.items()
             if name != "even" and K <= 100}
    columns = ("step", "error", "npr", "sn", "sn_cut", "npr_nats")
    levels = {c: [float(f"{row[j]:.4g}") for row in notes] for j, c in enumerate(columns)}
    gamma = {"steps": steps, "size": [float(f"{v:.6g}") for v in size]}
    return rows, {"chain": chain_name, "network": network, "paths": found, "levels": levels}, gamma


def rounded(**values):
    return {name: float(f"{float(v):.4f}") for name, v in values.items()}


def main(chain, network):
    rows, details, gamma = section(chain, network)
    file = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    others = [row for row in file.get("rows", []) if (row["chain"], row["network"]) != (chain, network)]
    result = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/variance_tables.py CHAIN NETWORK, for each chain and network below",
        "commit": provenance.commit(), "device": f"{platform.machine()} CPU, {torch.get_num_threads()} thread", "torch": torch.__version__,
        "seeds": statistics.SEEDS, "images": IMAGES, "condition": None, "precision": "float32",
        "unit": f"bits per dimension of the first {IMAGES} test images; the standard error is over images",
        "minus_analytic": "the difference to Analytic-DDPM on the same trajectory name and images, and its standard error",
        "trajectories": "even; optimal: of the least Σ log(1 − β Γ) with trajectory.monotone_gamma, whose c Analytic-DDPM then uses; 'raw' "
                        "with Γ as estimated; for beta and beta_tilde of the whole table of their own terms (training images)",
        "matched": "network cifar10 on the cosine chain is asked at the linear chain's level of equal λ, or at its nearer end, as by "
                   "heads.matched",
        "gamma": file.get("gamma", {}), "rows": [*others, *rows]}
    if not (chain == "cosine" and network == "cifar10"):
        result["gamma"][network] = gamma
    about = ("per measured level on test images: mean (ε − ε̂)², mean g of NPR and h − ε̂² of SN (c at most 1), share of SN cut at 0, and "
             "the nats per dimension by which N(ε̂, g) is likelier than N(ε̂, mean of (ε − ε̂)²)")
    others = [part for part in file.get("sections", []) if (part["chain"], part["network"]) != (chain, network)]
    result |= {"about_levels": about, "sections": [*others, details]}
    text = json.dumps(result, indent=0).replace(",\n", ", ").replace("[\n", "[").replace("\n]", "]").replace("{\n", "{").replace("\n}", "}")
    RESULT.write_text(text.replace("}, {", "},\n{").replace('], "', '],\n"').replace(', "rows"', ',\n"rows"') + "\n")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    main(*sys.argv[1:])
