"""What varies from year to year in the assignment on the optimal variance, and how its written answers are marked."""

import math
import random

OUTCOMES = [
    "derive the posterior mean and covariance from the score and its derivative, and compute them by automatic differentiation",
    "estimate Γ in one pass over the data, with an honest standard error",
    "derive the optimal variance of a step for any noise ω² and any sub-chain, with the law of total variance",
    "bound that variance without knowing the data, and say which data attain the bounds",
    "compute the variational bound of a sub-chain and prove the code right by a case in which the bound is exact",
    "find the best sub-chain of K steps by dynamic programming",
    "say what a wrong variance costs, and why Analytic-DDIM draws noise",
]

RUBRICS = {
    "q7_noise": [
        (2, "names the source: given x_t, x_0 is uncertain; x_s = γ x_0 + κ x_t inherits γ² Cov[x_0 | x_t] although nothing is drawn "
            "(law of total variance)"),
        (1, "says what fails without it: the step puts a mean in the place of a draw, so samples are too narrow, most with few steps"),
        (1, "data that are a single point, since only there Cov[x_0 | x_t] = 0 at every level"),
        (1, "γ → 0 like the step's length, so each σ*² is of second order and the sum vanishes as K grows: the ODE; "
            "with η = 1 every ω² is of first order and the sum stays"),
    ],
    "q8_price": [
        (2, "derives the price d/2 (r − 1 − log r) from the cross-entropy, linear in v*/v plus log v"),
        (1, "expands it to d δ²/4"),
        (1, "computes the bits per dimension of the example: dimension drops out, divides by ln 2"),
        (1, "noisy end: 1 − σ²Γ is a small difference of nearly equal numbers, so a small relative error of Γ is a large one of c "
            "(or even a negative c); names a remedy: subtract ‖ε‖² of the same draws, clamp c, or estimate c from ‖ε − ε̂‖²"),
    ],
}


def constants(seed: int) -> dict[str, object]:
    """The placeholders of the master; seed 0 is the book's version."""
    rng = random.Random(7919 * seed + 4)
    N = rng.choice([200, 250, 400, 500])
    first, last = 0.1 / N, rng.choice([15, 16, 18, 20]) / N
    if rng.random() < 0.5:
        betas = f"torch.linspace({first:.2g}, {last:.5g}, N, dtype=float64)"
    else:
        betas = f"torch.linspace({first**0.5:.4f}, {(1.3 * last) ** 0.5:.4f}, N, dtype=float64) ** 2"

    count, turn, radius = rng.choice([3, 4, 5]), rng.uniform(0, 2), rng.choice([0.9, 1.0, 1.1, 1.2])
    means, covs = [], []
    for k in range(count):
        angle = turn + 2 * math.pi * k / count
        means.append([round(radius * math.cos(angle), 2), round(radius * math.sin(angle), 2)])
        long, short = rng.choice([0.12, 0.16, 0.2]), rng.choice([0.01, 0.02, 0.03])
        along, across = math.cos(angle), math.sin(angle)
        off = round((long - short) * along * across, 3)
        covs.append([[round(long * along**2 + short * across**2 + 0.005, 3), off],
                     [off, round(long * across**2 + short * along**2 + 0.005, 3)]])
    weights = [rng.choice([1, 2, 3]) for _ in range(count)]

    low, high = rng.choice([(0, 1), (-2, 2), (0, 4), (-0.5, 0.5), (-1, 2), (0, 5)])
    a, alpha = rng.choice([1.5, 2.0, 2.5]), rng.choice([0.6, 0.8])  # the example of question 1
    variance = alpha**2 * a**2 + 1 - alpha**2
    abar_t, abar_s = rng.choice([0.3, 0.4, 0.5]), rng.choice([0.7, 0.8, 0.9])  # and of question 3
    omega2, gamma = rng.choice([0.02, 0.04, 0.05]), rng.choice([0.7, 0.9, 1.1])
    bbar_t, bbar_s = 1 - abar_t, 1 - abar_s
    price_K, delta = rng.choice([20, 25, 50, 100]), rng.choice([5, 10, 20])
    step = abar_s**0.5 - ((bbar_s - omega2) / bbar_t) ** 0.5 * abar_t**0.5
    return {
        "N": N, "betas": betas, "weights": [float(w) for w in weights], "means": means, "covs": "[" + ",\n     ".join(map(str, covs)) + "]",
        "low": low, "high": high,
        "ex_a2": f"{a * a:g}", "ex_alpha": f"{alpha:g}", "ex_sigma": f"{(1 - alpha**2) ** 0.5:g}", "ex_v": f"{variance:g}",
        "ex_slope": f"{alpha * a * a / variance:.4f}", "ex_cov": f"{a * a * (1 - alpha**2) / variance:.4f}",
        "ex_abar_t": abar_t, "ex_abar_s": abar_s, "ex_omega2": omega2, "ex_gamma": gamma,
        "ex_star": f"{omega2 + step**2 * bbar_t / abar_t * (1 - bbar_t * gamma):.5f}",
        "batch": rng.choice([64, 96, 100, 128]), "mu": rng.choice([-0.4, 0.3, 0.5, 0.7]), "a": rng.choice([0.4, 0.6, 0.7, 1.3]),
        "eta": rng.choice([0.3, 0.4, 0.6, 0.7]), "K": rng.choice([8, 10, 12]),
        "price_K": price_K, "delta": delta,
        "price": f"{price_K * (delta / 100) ** 2 / 4 / math.log(2):.2g}",
    }
