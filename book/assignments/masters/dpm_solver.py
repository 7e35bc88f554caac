"""What varies from year to year in the assignment on DPM-Solver, and how its written answer is marked."""

import math
import random

OUTCOMES = [
    "compute λ, σ and their inverse of a schedule to full precision at both ends",
    "solve the probability-flow ODE of a Gaussian in closed form, and use it as a truth for solvers",
    "write DDIM as the exponential integrator of order one, up to a grid that ends at the data",
    "compute the φ functions at every step size",
    "derive a second-order singlestep rule for a node of one's own, and the multistep rule for uneven steps",
    "measure orders of convergence, and say what an order promises and what it does not",
]

RUBRICS = {
    "q8_asymptotic": [
        (1, "an order is a statement about h → 0: error ≈ C hᵖ with a constant that depends on derivatives of x̂_0 along the path"),
        (1, "computes h at 5 steps and compares it with the scale of λ on which x̂_0 changes (one to three units around λ = 0): "
            "h is not small, the expansion's remainder is not smaller than its terms"),
        (1, "third order extrapolates: a parabola through three past values, of which the farthest is two long steps back, is used a "
            "step ahead; its weights are large and alternate in sign"),
        (1, "says how to compare at few steps: equal numbers of evaluations, at the budget in question, several data, the quantity one "
            "cares about; not slopes"),
        (1, "a prediction that follows, with a reason: a sharper change of x̂_0 (narrower modes, guidance, larger scale) moves the "
            "crossing to more steps"),
    ],
}


def constants(seed: int) -> dict[str, object]:
    """The placeholders of the master; seed 0 is the book's version."""
    rng = random.Random(7919 * seed + 5)
    B, p = rng.choice([4.5, 5.0, 5.5, 6.0]), rng.choice([1.5, 2.5, 3.0])
    t = rng.choice([0.2, 0.3, 0.4, 0.6])
    log_alpha = -B * t**p
    lam = log_alpha - 0.5 * math.log(-math.expm1(2 * log_alpha))

    r1 = rng.choice([0.2, 0.25, 0.4, 0.6, 0.75, 0.8])
    a, mu = rng.choice([0.2, 0.25, 0.3, 0.4]), rng.choice([-0.7, -0.5, 0.6, 0.8])
    ell, s_s, s_t, x = rng.choice([0.36, 0.49, 1.44, 2.25]), rng.choice([0.8, 0.9]), rng.choice([0.2, 0.4]), rng.choice([1.2, 1.5, 2.0])
    a_s, a_t = (1 - s_s**2) ** 0.5, (1 - s_t**2) ** 0.5
    moved = ((a_t**2 * ell + s_t**2) / (a_s**2 * ell + s_s**2)) ** 0.5 * x
    h = rng.choice([-0.5, 0.5, 0.8])
    phi_1 = math.expm1(h) / h
    return {
        "B": f"{B:g}", "p": f"{p:g}", "ex_t": t, "ex_lam": f"{lam:.5f}", "r1": r1, "a": a, "mu": mu,
        "ex_ell": ell, "ex_as": f"{a_s:.4g}", "ex_ss": s_s, "ex_at": f"{a_t:.4g}", "ex_st": s_t, "ex_x": x, "ex_moved": f"{moved:.4f}",
        "kmax": rng.choice([4, 5]), "ex_h": h, "ex_phi1": f"{phi_1:.6f}", "ex_phi2": f"{(phi_1 - 1) / h:.6f}",
        "ratio": rng.choice([3, 4, 5]), "lam_0": rng.choice([-3.0, -2.5, -2.0]), "lam_1": rng.choice([2.0, 2.5, 3.0]),
        "mixture": rng.choice(["grid8", "petals", "twopeaks"]),
    }
