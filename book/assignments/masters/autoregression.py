"""Constants of the assignment on autoregressive models, its outcomes, and how its last question is marked."""
import math
import random

# name: value in torch, TeX of φ(a), derivative as code
ACTIVATIONS = [
    ("torch.sigmoid", r"\frac{1}{1 + e^{-a}}", "lambda a: torch.sigmoid(a) * torch.sigmoid(-a)"),
    ("torch.tanh", r"\tanh a", "lambda a: 1 - torch.tanh(a) ** 2"),
    ("torch.nn.functional.softsign", r"\frac{a}{1 + |a|}", "lambda a: 1 / (1 + a.abs()) ** 2"),
    ("torch.atan", r"\arctan a", "lambda a: 1 / (1 + a ** 2)"),
]
# what s is: TeX of σ_k, log σ as code, the s of σ = 2
SCALES = [
    (r"\sigma_k = e^{s_k}", "s", r"$\log 2$"),
    (r"\sigma_k^2 = e^{s_k}", "s / 2", r"$\log 4$"),
    (r"\sigma_k^{-1} = e^{s_k}", "-s", r"$-\log 2$"),
    (r"\sigma_k^{-2} = e^{s_k}", "-s / 2", r"$-\log 4$"),
]


def constants(seed: int) -> dict[str, object]:
    """The value of every placeholder; seed 0 is the book's version."""
    r = random.Random(seed)
    book = seed == 0
    low = 0 if book else r.choice([-1, 0])
    phi, phi_tex, dphi = ACTIVATIONS[1 if book else r.randrange(4)]
    by_rows = book or r.random() < 0.5                                   # W_j a row or a column
    s_tex, log_sigma, s_example = SCALES[0 if book else r.randrange(1, 4)]
    M = 256 if book else r.choice([16, 32, 64, 128])
    lo, hi = (-1, 1) if book else r.choice([(0, 1), (-1, 1), (0, 2), (-2, 2)])
    upper = not book and r.random() < 0.7
    spike_v = M // 2 if book else r.randrange(M // 4, 3 * M // 4)
    width = (hi - lo) / M
    return {
        "auto_points": 37,
        "low": low, "high": 1,
        "q1_start": 0.3 if book else r.choice([0.15, 0.2, 0.35, 0.7]),
        "q1_stay": 0.8 if book else r.choice([0.6, 0.65, 0.75, 0.9]),
        "q1_small": 0.01 if book else r.choice([0.003, 0.02, 0.04]),
        "phi": phi, "phi_tex": phi_tex, "dphi": dphi,
        "W_shape": "(D, L)" if by_rows else "(L, D)", "W_plot": "D, L" if by_rows else "L, D",
        "W_slice_j": "W[j]" if by_rows else "W[:, j]", "W_i": "W[i]" if by_rows else "W[:, i]",
        "gW_i": "gW[i]" if by_rows else "gW[:, i]", "W_pass": "W" if by_rows else "W.T",
        "plot_seed": seed,
        "s_tex": s_tex, "log_sigma": log_sigma, "s_example": s_example,
        "q5_value": round(-1 / 8 - math.log(2) - 0.5 * math.log(2 * math.pi), 4),
        "M": M, "M_last": M - 1, "M_third": M // 3, "lo": lo, "hi": hi, "width": width, "log2M": int(math.log2(M)), "span": hi - lo,
        "y_tex": (f"{lo} + " if lo else "") + rf"\frac{{{hi - lo}}}{{{M}}}\,(v + u)",
        "y_code": (f"{lo} + " if lo else "") + f"{hi - lo} / {M} * z",
        "triangle": "upper" if upper else "lower", "tri": "(lambda A: A.triu(1))" if upper else "(lambda A: A.tril(-1))",
        "before_words": "after it" if upper else "before it", "j_range": "j > i" if upper else "j < i",
        "first_var": "x_D" if upper else "x_1",
        "before_slice": "list(range(i + 1, D))" if upper else "list(range(i))",
        "before_test": "list(range(i + 1, D))" if upper else "list(range(i))",
        "q7_seed": 3 + seed, "patch_seed": seed, "spike_v": spike_v,
    }


OUTCOMES = [
    "Factorise a joint distribution into conditionals and show by enumeration that any conditionals make a normalised model.",
    "Implement NADE's log-likelihood, sampling and gradient in O(DL), and verify the cost.",
    "Compute mixture log-densities with log-sum-exp and say where the naive form fails.",
    "Report bits per dimension of discrete data from a density: cell width, Jensen's bound, its tightening.",
    "Fit a linear autoregressive model in closed form; explain when the order of variables matters.",
]

RUBRICS = {
    "q8_explain": [
        (1, "(a) Evaluation can be done for all i at once because every x_<i is given; names the masked product or blocks and its price."),
        (1, "(a) Sampling is sequential because x_i must exist before h_{i+1}; 3072 evaluations of 10 ms are about 30 s per picture."),
        (1, "(b) A component collapses onto a repeated value, so the density is unbounded; a check that shows it (smallest σ, tiny noise, "
            "mass of a cell)."),
        (1, "(b) Uniform noise and the cell's width; Jensen's inequality in the right direction makes the result an upper bound."),
        (1, "(c) The family is all Gaussians in every order, so the maximum is over the same set; the log s_i redistribute a fixed sum."),
        (1, "(c) An example with bits and a restricted family (logistic regressions on four bits, a Markov chain) in which the set of "
            "distributions depends on the order."),
    ],
}
