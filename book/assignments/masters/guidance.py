"""Constants, outcomes and rubrics of assignment 6."""

from random import Random

CONVENTIONS = {
    "w": {"formula": r"(1+w)\,\hat\varepsilon_c - w\,\hat\varepsilon_\varnothing", "s": "(1 + w)", "neutral": "0.0",
          "head_s": r"Below, $s=1+w$ is the weight of $\hat\varepsilon_c$.", "with_s": ", with $s=1+w$",
          "neutral_tex": "0", "other": "w", "shift": 1.0},
    "s": {"formula": r"\hat\varepsilon_\varnothing + s\,(\hat\varepsilon_c - \hat\varepsilon_\varnothing)", "s": "s",
          "head_s": r"So $s$ is the weight of $\hat\varepsilon_c$.", "with_s": "",
          "neutral": "1.0", "neutral_tex": "1", "other": "(1 + s)", "shift": 0.0},
}

# what the network of question 1 predicts: by how much a push of the score changes it, and the same with usual mistakes
LANGUAGES = {
    "x0": {"lang_tex": r"\hat x_0", "say": "x0", "q1_factor": "s**2 / a", "q1_power": "s / a", "q1_bare": "s**2"},
    "eps": {"lang_tex": r"\hat\varepsilon", "say": "eps", "q1_factor": "-s", "q1_power": "-s**2", "q1_bare": "-1"},
    "v": {"lang_tex": r"\hat v=\alpha\hat\varepsilon-\sigma\hat x_0", "say": "a * eps - s * x0", "q1_factor": "-s / a",
          "q1_power": "-s**2 / a", "q1_bare": "-s"},
}

# in which quantity the interval of questions 2 and 5 is given
MEASURES = {
    "lam": {"measure": "math.log(alpha / sigma)", "measure_text": r"$\lambda=\log(\alpha/\sigma)$", "measure_plain": "lambda",
            "measure_wrong": "2 * math.log(alpha / sigma)", "measure_other": "sigma / alpha", "A_of_m": "1 / (1 + math.exp(-2 * m))",
            "A_wrong": "1 / (1 + math.exp(-m))", "clean": "high", "noisy": "low", "everywhere": "-math.inf, math.inf",
            "floor": "-math.inf", "noise_of_m": "math.exp(-m)", "ends_text": r"$-\infty$ and $\infty$", "lam_shift": "0.3",
            "lam_range": "low, high"},
    "noise": {"measure": "sigma / alpha", "measure_text": r"the noise-to-signal ratio $\sigma/\alpha$", "measure_plain": "sigma/alpha",
              "measure_wrong": "sigma", "measure_other": "math.log(alpha / sigma)", "A_of_m": "1 / (1 + m * m)",
              "A_wrong": "1 / (1 + m)", "clean": "low", "noisy": "high", "everywhere": "0.0, math.inf",
              "floor": "0.0", "noise_of_m": "m", "ends_text": r"0 and $\infty$", "lam_shift": "0.0",
              "lam_range": "-math.log(high) if high < math.inf else -math.inf, -math.log(low) if low > 0 else math.inf"},
}


def constants(seed: int) -> dict[str, object]:
    """The value of every placeholder of the master; seed 0 is the book's version."""
    random = Random(seed)

    def pick(*options):
        chosen = random.choice(options)
        return options[0] if seed == 0 else chosen

    letter = pick("w", "s")
    convention = CONVENTIONS[letter]
    language = pick("x0", "eps", "v")
    measure = pick("lam", "noise")
    interval = pick((-1.2, 0.8), (-1.5, 0.6), (-0.9, 1.1)) if measure == "lam" else pick((0.3, 2.5), (0.4, 3.0), (0.25, 2.0))
    V, v = pick((1.6, 0.4), (1.4, 0.3), (1.8, 0.5), (2.2, 0.6))
    s = pick(3.0, 2.5, 3.5, 4.0)
    strength = s - convention["shift"]
    return {
        "letter": letter, **{key: value for key, value in convention.items() if key != "shift"}, "strength": strength,
        **LANGUAGES[language], **MEASURES[measure], "low": interval[0], "high": interval[1],
        "V": V, "v": v, "s_value": s, "q5_value": round(V ** (1 - s) * v**s, 5),
        "m0": pick(0.5, -0.4, 0.3, -0.7), "mu1": pick(0.8, 1.1, -0.9, 0.6), "mu2": pick(-0.4, 0.7, 0.5, -0.6),
        "L": pick(1.0, 0.5, 2.0, 1.5), "quantile": pick(0.9, 0.85, 0.95, 0.8),
        "k1": random.randrange(1, 1000), "k2": random.randrange(1000, 2000),
        "turn": pick(0.3, 0.9, 1.7, 2.4), "radius": pick(1.3, 1.2, 1.4), "wide": pick(0.35, 0.32, 0.38), "narrow": pick(0.15, 0.13),
        "minor": pick(0.3, 0.25, 0.35), "wanted": pick(0, 1, 2),
    }


OUTCOMES = [
    "derive guidance with and without a classifier from Bayes' rule, and write both in any prediction type and convention",
    "compute what a guided ODE draws from Gaussians, and show that it is not p(x) p(c|x)^s",
    "restrict guidance to an interval of noise and say what that costs and saves",
    "threshold a guided prediction so that mean and noise stay consistent",
    "write DPM-Solver++(2M) for unequal steps and verify its order",
    "design, carry out and report a small experiment with errors",
]

RUBRICS = {
    "q4_derivation": [
        (1, "part 1: the unguided ODE is shown to be linear with half the logarithmic derivative of the variance, from either hint"),
        (1, "part 2: the guided drift is recognised as the combination of two drifts with weights 1 − s and s, the ODE is solved, the "
            "factor squared for the variance"),
        (1, "part 3: V^(1−s) v^s with the start inserted (½), and a complete proof of the inequality, by Bernoulli, convexity or "
            "weighted means (½)"),
        (1, "part 4: names the missing step: each guided score belongs to some density, but these are not the diffusions of one"),
    ],
    "q8_project": [
        (1, "a hypothesis that could turn out false, with a reason from questions 4 and 5 or the chapter"),
        (2, "at least three schedules against the constant one, each with a strength that varies, compared as curves at equal fidelity "
            "(1 point if single points are compared)"),
        (2, "at least five seeds with errors shown; equal steps; calls counted (1 point if one of the three is missing)"),
        (1, "a fourth measure that report does not contain, with a reason for it"),
        (1, "conclusions no stronger than the figure: differences are compared with their errors, limits are named"),
        (1, "a figure that can be read alone (axes, units, caption), a report within 300 words that another student could repeat"),
    ],
}
