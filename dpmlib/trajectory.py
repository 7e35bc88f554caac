"""Which levels to visit: a shortest path through the chain (Watson et al. 2021; Bao et al. 2022a, §4).

With the optimal variance of DDPM's kernel the bound of a sub-chain is Σ J(s, t) + const, J(s, t) = ½ d log(1 − β_{t|s} Γ_t): the
least-cost path of K steps, found by dynamic programming without a single call of the network.
"""

import numpy as np
import torch

from .schedules import DiscreteVP


def _checked(N: int, K: int) -> None:
    if not 1 <= K <= N:
        raise ValueError(f"K, N = {K}, {N}: need 1 <= K <= N")


def even(N: int, K: int) -> list[int]:
    """K steps spread evenly over 1 … N: n_k = 1 + (N − 1)(k − 1)/(K − 1), rounded; [N] for K = 1. Increasing, ends at N."""
    _checked(N, K)
    return [N] if K == 1 else [round(1 + (N - 1) * k / (K - 1)) for k in range(K)]


def step_costs(gamma, chain: DiscreteVP) -> np.ndarray:
    """J(s, t) = log(1 − β_{t|s} Γ_t) for 1 ≤ s < t ≤ N at [s, t], ∞ elsewhere; (N+1, N+1). `gamma`: Γ_1 … Γ_N, (N,)."""
    value = np.asarray(gamma, dtype=np.float64)
    if value.shape != (chain.N,) or not (value >= 0).all():
        raise ValueError(f"gamma of shape {value.shape}: need {chain.N} entries, none negative, Γ_1 first")
    alpha_bar = np.exp(2 * chain._log_alphas.numpy())
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = np.log1p(-(1 - alpha_bar[None, 1:] / alpha_bar[:, None]) * value)
    cost = np.concatenate([np.full((chain.N + 1, 1), np.inf), cost], axis=1)
    cost[0] = np.inf
    cost[np.tril_indices(chain.N + 1)] = np.inf
    if np.isnan(cost).any():
        raise ValueError("gamma is too large: β_{t|s} Γ_t exceeds 1, which no distribution can do")
    return cost


def shortest_paths(cost: np.ndarray, most: int, block: int = 128) -> list[list[int]]:
    """The cheapest increasing paths from 1 to N that visit K = 1, …, `most` steps, given cost[s, t]; a list per K.

    A path of one step is [N]. Exact for any table, in O(most · N²); a step t is only ever reached from s < t, so `block`
    targets at a time look at the origins below them and at nothing else, and no array is allocated on the way.
    """
    N = len(cost) - 1
    _checked(N, most)
    targets = np.ascontiguousarray(cost.T)  # targets[t, s]: a target's origins lie side by side
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
    return shortest_paths(step_costs(gamma, chain), K)[K - 1]


def grid_of(path, chain: DiscreteVP):
    """The grid that visits the steps `path` (increasing, ends at N) of a chain and then the data; len(path) + 1 levels."""
    from .levels import with_data

    steps = torch.as_tensor(path, dtype=torch.float64)
    if steps.ndim != 1 or len(steps) < 1 or not bool((steps.diff() > 0).all()) or steps[0] < 1 or steps[-1] != chain.N:
        raise ValueError(f"path = {list(path)[:8]}: need increasing steps from 1 or later that end at N = {chain.N}")
    return with_data(chain.level(steps.flip(0) / chain.N))
