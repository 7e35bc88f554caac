"""Constants, outcomes and rubrics of assignment 2."""

from random import Random

CHAINS = ["torch.linspace({first}, {last}, N, dtype=torch.float64)",
          "torch.linspace({first} ** 0.5, {last} ** 0.5, N, dtype=torch.float64) ** 2",
          "{first} * ({last} / {first}) ** torch.linspace(0, 1, N, dtype=torch.float64)"]
TOYS = [([0.5, 0.3, 0.2], [[-1.0, 0.0], [1.0, 0.8], [0.8, -1.0]]),
        ([0.6, 0.4], [[-0.9, -0.5], [0.9, 0.6]]),
        ([0.25, 0.35, 0.4], [[0.0, 1.2], [-1.0, -0.6], [1.0, -0.6]])]

OUTCOMES = [
    "write down every Gaussian of a diffusion chain, forwards and backwards, for noise of any size",
    "derive the bound's terms as a weighted regression on the noise, constants included",
    "implement the training loss and the ancestral sampler without mistakes of index, root or last step",
    "compute the bound in closed form for Gaussian data and say what a wrong variance costs",
    "judge a trained network by its excess over the ideal error, not by its loss",
]

RUBRICS = {
    "q3_derivation": [
        (1, "the divergence between two isotropic Gaussians, stated with the dimension"),
        (1, "C_n from the posterior's variance with tau^2, and that it vanishes only where the variances agree"),
        (1, "the difference of the means is the factor of x_0 times the error of the guess of x_0"),
        (1, "that error expressed by the error of the noise, with s_n / a_n"),
        (1, "w_n, simplified; every step follows from the one before"),
    ],
    "q8_measure": [
        (1, "the printed table is reported, and it is of this variant"),
        (1, "the ideal error is named as the floor, and the excess (or excess times w_n) as the measure"),
        (1, "the comparison of the two variances agrees with the writer's numbers"),
        (1, "halved and doubled variances were measured; from the posterior's variance too narrow costs more in the bound, by C_n and w_n"),
        (1, "says that samples and bound need not agree, with a reason or with numbers"),
        (1, "variance rises by sigma_1^2, with the number for this chain beside a mode's variance, and a test that shows it"),
    ],
}


def constants(seed: int) -> dict[str, object]:
    """The value of every placeholder of the master; seed 0 is the book's version."""
    random = Random(seed)
    first = random.choice([0.01, 0.015, 0.02])
    last = random.choice([0.25, 0.3, 0.35])
    tau = 2.0 if seed == 0 else random.choice([0.5, 0.6, 0.7, 1.5, 1.8, 2.5, 3.0])
    weights, means = random.choice(TOYS)
    return {
        "tau": tau, "N": random.choice([24, 30, 36, 40]), "chain": random.choice(CHAINS).format(first=first, last=last),
        "m": random.choice([-0.8, 0.6, 1.2]) * tau, "S2": round(random.choice([0.3, 0.45, 1.6, 2.2]) * tau**2, 6),
        "weights": weights, "means": [[round(tau * x, 3) for x in mean] for mean in means], "modes": len(weights),
        "toy_var": round(0.02 * tau**2, 6), "last_noise": f"{tau**2 * first:.4g}",
        "k1": random.randrange(1, 1000), "k2": random.randrange(1000, 2000), "auto": 30, "hand": 11, "total": 41,
    }
