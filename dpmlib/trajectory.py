"""Which levels to visit: a shortest path through the chain (Watson et al. 2021; Bao et al. 2022a, §4).

The bound of a sub-chain is a sum over its steps, so the best K steps are a path of least cost, found by dynamic programming without a
single call of the network. With the optimal variance of DDPM's kernel the step from t to s costs ½ log(1 + (S_s − S_t) c_t) nats per
dimension, S = α²/σ²; but for a constant, Σ of it is ½ Σ J(s, t), J(s, t) = log(1 − β_{t|s} Γ_t). For any other variance there is the table
of the bound's terms, `bound_table`.

A path is a list of steps, increasing, from 1 to N; the last step, from 1 to the data, is the same for all and costs nothing here. The
path of K = 1 steps is [N]: one jump from the noise to the data, with which the others cannot be compared.
"""

import numpy as np
import torch

from .schedules import DiscreteVP


def _checked(N: int, K: int) -> None:
    if not 1 <= K <= N:
        raise ValueError(f"K, N = {K}, {N}: need 1 <= K <= N")


def _per_level(name: str, values, N: int) -> np.ndarray:
    table = np.asarray(values, dtype=np.float64)
    if table.shape != (N,) or not ((table >= 0) & (table < np.inf)).all():
        raise ValueError(f"{name} of shape {table.shape}: need {N} finite entries, none negative, that of n = 1 first")
    return table


def even(N: int, K: int) -> list[int]:
    """K steps spread evenly over 1 … N: n_k = 1 + (N − 1)(k − 1)/(K − 1), rounded; [N] for K = 1. Increasing, ends at N."""
    _checked(N, K)
    return [N] if K == 1 else [round(1 + (N - 1) * k / (K - 1)) for k in range(K)]


def _upper(values: np.ndarray) -> np.ndarray:
    """A table (N, N) of the pairs 1 … N as (N+1, N+1) with [s, t] for 1 ≤ s < t and ∞ elsewhere."""
    table = np.full((len(values) + 1, len(values) + 1), np.inf)
    s, t = np.triu_indices(len(values), 1)
    table[s + 1, t + 1] = values[s, t]
    return table


def step_costs(gamma, chain: DiscreteVP) -> np.ndarray:
    """J(s, t) = log(1 − β_{t|s} Γ_t) for 1 ≤ s < t ≤ N at [s, t], ∞ elsewhere; (N+1, N+1). `gamma`: Γ_1 … Γ_N, (N,).

    J is twice the nats per dimension of the step, less 2 (λ_s − λ_t), which telescopes. Raises ValueError for a Γ of the wrong length,
    negative, or larger than 1/β_{t|s}, as an estimate may be.
    """
    value = _per_level("gamma", gamma, chain.N)
    log_alpha = chain._log_alphas.numpy()[1:]
    between = -np.expm1(2 * (log_alpha[None] - log_alpha[:, None]))  # β_{t|s} at [s, t]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        cost = _upper(np.log1p(-between * value))
    if np.isnan(cost).any() or cost.min() == -np.inf:
        raise ValueError("gamma is too large: β_{t|s} Γ_t reaches 1, which no distribution can do; clamp σ² Γ to at most 1")
    return cost


def monotone_gamma(gamma, chain: DiscreteVP, most: float = 1.0) -> np.ndarray:
    """Γ_1 … Γ_N made possible, (N,): a_n = (1/Γ_n − σ²)/α² is put between 0 and `most` and made to grow with n.

    a_n is the variance of the round Gaussian with the same Γ_n. For any data 1/c_s ≥ 1/c_t + S_s − S_t, which says that a grows with
    the noise, towards tr Cov[x_0]/d (at most 1 for data in [−1, 1]). A network's Γ, too large at the noisy end, makes c = 0 there
    and a jump to the data free; then no path is what it seems. An exact Γ stays as it is. ValueError as in `step_costs`, or most ≤ 0.
    """
    value = _per_level("gamma", gamma, chain.N)
    if not 0 < most < np.inf:
        raise ValueError(f"most = {most}: a variance, positive and finite")
    level = chain.level(torch.arange(1, chain.N + 1, dtype=torch.float64) / chain.N)
    alpha2, sigma2 = level.alpha.numpy() ** 2, level.sigma.numpy() ** 2
    with np.errstate(divide="ignore"):
        a = np.maximum.accumulate(np.clip((1 / value - sigma2) / alpha2, 0, most))
    return 1 / (a * alpha2 + sigma2)


def bound_table(errors, chain: DiscreteVP, variance) -> np.ndarray:
    """The KL term of the bound of every step t → s, nats per dimension, at [s, t] as in `step_costs`; (N+1, N+1).

    `errors` (N,): E‖ε − ε̂‖²/d at n = 1 … N; `variance` (N,): c with which the kernel N(·, ω² + γ² c) is run from there, σ²/(α² + σ²) for
    β, 0 for β̃. With S = α²/σ² and D = S_s − S_t the term is ½ [D (e/S_t − c)/(1 + D c) + log(1 + D c)], as in
    `statistics.step_terms`; so N numbers make the table that Watson et al. 2021 optimise over. ValueError for other lengths, or
    negative entries.
    """
    error, c = _per_level("errors", errors, chain.N), _per_level("variance", variance, chain.N)
    lam = chain.lam(torch.arange(1, chain.N + 1, dtype=torch.float64) / chain.N).numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        growth = np.expm1(2 * (lam[:, None] - lam[None]))  # S_s/S_t − 1 at [s, t]
        excess = growth * np.exp(2 * lam) * c
        return _upper(0.5 * ((growth * error - excess) / (1 + excess) + np.log1p(excess)))


def path_cost(cost: np.ndarray, path) -> float:
    """Σ cost[s, t] over the steps of a path of at least two levels. ValueError unless it increases, from 1 or later, within the table."""
    path = np.asarray(path)
    if path.ndim != 1 or len(path) < 2 or not (np.diff(path) > 0).all() or path[0] < 1 or path[-1] >= len(cost):
        raise ValueError(f"path = {path.tolist()[:8]}: need at least two increasing steps within 1 … {len(cost) - 1}")
    return float(cost[path[:-1], path[1:]].sum())


def shortest_paths(cost: np.ndarray, most: int, block: int = 128) -> list[list[int]]:
    """The cheapest increasing paths from 1 to N that visit K = 1, …, `most` steps, given cost[s, t]; a list per K.

    A path of one step is [N]. Exact for any table, in O(most · N²); a step t is only ever reached from s < t, so `block`
    targets at a time look at the origins below them and at nothing else, and no array is allocated on the way.
    Entries with s ≥ t are never used. Raises ValueError for a table that is not square or holds NaN, and for `most` outside 1 … N.
    """
    cost = np.asarray(cost, dtype=np.float64)
    if cost.ndim != 2 or cost.shape[0] != cost.shape[1] or np.isnan(cost).any() or block < 1:
        raise ValueError(f"cost of shape {cost.shape}, block = {block}: need a square table without NaN, and block >= 1")
    N = len(cost) - 1
    _checked(N, most)
    targets = np.where(np.tri(N + 1, k=-1, dtype=bool), cost.T, np.inf)  # targets[t, s]: a target's origins lie side by side
    best, reached, origins = np.full(N + 1, np.inf), np.full(N + 1, np.inf), []
    best[1] = 0.0
    room = np.empty((block, N + 1))
    paths, ends = [[N]], np.arange(N + 1)
    for _ in range(2, most + 1):
        origin = np.zeros(N + 1, dtype=np.int64)
        for low in range(0, N + 1, block):
            high = min(low + block, N + 1)
            through = np.add(targets[low:high, :high], best[:high], out=room[: high - low, :high])
            origin[low:high] = through.argmin(1)
        np.add(targets[ends, origin], best[origin], out=reached)
        best, reached = reached, best
        origins.append(origin)
        path = [N]
        for back in reversed(origins):
            path.append(int(back[path[-1]]))
        paths.append(path[::-1])
    return paths


def optimal(gamma, chain: DiscreteVP, K: int) -> list[int]:
    """The K steps that make the bound with the optimal variance greatest, increasing, from 1 to N ([N] for K = 1)."""
    _checked(chain.N, K)
    return shortest_paths(step_costs(gamma, chain), K)[K - 1]


def grid_of(path, chain: DiscreteVP):
    """The grid that visits the steps `path` (increasing, ends at N) of a chain and then the data; len(path) + 1 levels."""
    from .levels import with_data

    steps = torch.as_tensor(path, dtype=torch.float64)
    if steps.ndim != 1 or len(steps) < 1 or not bool((steps.diff() > 0).all()) or steps[0] < 1 or steps[-1] != chain.N:
        raise ValueError(f"path = {list(path)[:8]}: need increasing steps from 1 or later that end at N = {chain.N}")
    return with_data(chain.level(steps.flip(0) / chain.N))
