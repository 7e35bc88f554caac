"""Constants of the assignment on scores and SDEs, its outcomes, and how its last question is marked."""
import random

# what s is: TeX of the relation, words, v as code, s as code
SPREADS = [
    ("v_k = s_k^2", "standard deviations", "s ** 2", "v ** 0.5"),
    ("v_k = s_k", "variances", "s", "v"),
    ("v_k = 1 / s_k", "precisions", "1 / s", "1 / v"),
    ("v_k = e^{s_k}", "log-variances", "s.exp()", "v.log()"),
]
# what F is: TeX, words; score of F, Hessian of J (c = σ, (B, 1)); F of score, J of Hessian
FIELDS = [
    (r"-\sigma\, \nabla \log q_t(x)", "a prediction of the noise",
     "-F / c", "-J / c[..., None]", "-c * score", "-c[..., None] * hessian"),
    (r"\nabla \log q_t(x)", "the score itself", "F", "J", "score", "hessian"),
    (r"-\nabla \log q_t(x)", "the gradient of an energy", "-F", "-J", "-score", "-hessian"),
    (r"\sigma^2\, \nabla \log q_t(x)", "the way to the denoised point",
     "F / c ** 2", "J / c[..., None] ** 2", "c ** 2 * score", "c[..., None] ** 2 * hessian"),
]
WEIGHTS = [(r"\sigma^2", "sigma ** 2"), (r"\sigma", "sigma"), (r"\sigma^3", "sigma ** 3"), (r"4\sigma^2", "4 * sigma ** 2")]


def constants(seed: int) -> dict[str, object]:
    """The value of every placeholder; seed 0 is the book's version."""
    r = random.Random(seed)
    book = seed == 0
    pick = lambda options: options[0] if book else r.choice(options[1:])
    var_tex, var_words, var, s_of_v = pick(SPREADS)
    field_tex, field_words, score_of_F, hessian_of_J, F_of_score, J_of_hessian = pick(FIELDS)
    weight_tex, weight = pick(WEIGHTS)
    squared = book or r.random() < 0.5                                   # the function is g², else g
    kappa = not book and r.random() < 0.6                                # the parameter is κ = ζ², else ζ
    bits = not book and r.random() < 0.6
    order = pick([3, 3, 4])
    beta_min, beta_max = pick([(0.1, 20.0), (0.2, 16.0), (0.3, 12.0), (0.1, 18.0), (0.5, 14.0)])
    return {
        "auto_points": 35,
        "var_tex": var_tex, "var_words": var_words, "var": var, "s_of_v": s_of_v,
        "q1_v": pick([0.5, 0.3, 1.7, 2.5]),
        "field_tex": field_tex, "field_words": field_words, "score_of_F": score_of_F, "hessian_of_J": hessian_of_J,
        "F_of_score": F_of_score, "J_of_hessian": J_of_hessian, "q2_sigma": pick([0.1, 0.2, 0.3, 2.0]),
        "weight_tex": weight_tex, "weight": weight, "q3_c": pick([0.05, 0.2, 0.6, 4.0]),
        "gname": "g2" if squared else "g", "g_tex": "g(t)^2" if squared else "g(t)",
        "g2_of": "g2" if squared else "(lambda t: g(t) ** 2)", "g_pass": "g2" if squared else "(lambda t: g2(t) ** 0.5)",
        "beta_g": "beta" if squared else "(lambda t: beta(t) ** 0.5)",
        "q4_g2": pick([1.5, 0.8, 2.5, 3.0]), "beta_min": beta_min, "beta_max": beta_max,
        "zeta": "kappa" if kappa else "zeta", "zeta_tex": r"\kappa" if kappa else r"\zeta",
        "one_plus": r"1 + \kappa" if kappa else r"1 + \zeta^2", "zeta_g": r"\sqrt{\kappa}\, g(t)" if kappa else r"\zeta\, g(t)",
        "zeta2": "kappa" if kappa else "zeta ** 2", "zeta2_tex": r"\kappa" if kappa else r"\zeta^2",
        "zeta_pass": "zeta ** 2" if kappa else "zeta",
        "zeta_letter": "κ" if kappa else "ζ",
        "q5_v0": pick([0.25, 0.3, 2.0, 3.0]), "order": order, "q6_m": pick([1.5, 1.2, 1.8]),
        "q7_a": pick([-0.3, 0.2, -0.6]),
        "unit_words": "the bits per dimension $-\\log_2 p(x) / d$" if bits else "the log-density $\\log p(x)$ in nats",
        "unit_doc": "Bits per dimension −log₂ p / d" if bits else "log-density in nats",
        "unit": "-log_p / (x.shape[1] * math.log(2))" if bits else "log_p",
        "unit_test": "-log_p / (x.shape[1] * 0.6931471805599453)" if bits else "log_p",
    }


OUTCOMES = [
    "Derive and implement the score of a noised Gaussian mixture, stably.",
    "Use Tweedie's formulas for mean and covariance, in whatever parameterisation a network has.",
    "Implement denoising score matching; derive the constant by which it differs from explicit score matching.",
    "Compute the transition of a linear SDE from its coefficients; run the family of reverse SDEs by Euler–Maruyama and predict its error.",
    "Solve the probability-flow ODE with a method of given order; compute likelihoods by the instantaneous change of variables, "
    "traces by Hutchinson's estimator.",
]

RUBRICS = {
    "q8_explain": [
        (1, "(a) The loss is explicit loss plus a floor that depends on data, level and weight; hence no comparison across levels."),
        (1, "(a) Right report: differences at the same level on the same held-out data; a loss below the floor means memorised noise "
            "or a fault."),
        (1, "(b) Two true differences (deterministic invertible map / rough paths, joint law, encoding and likelihood, solver order, "
            "memory of the start)."),
        (1, "(b) With a wrong start the SDE ends nearer: KL falls for zeta > 0 and is constant for the ODE, with the reason."),
        (1, "(c) Slopes -1 and -order read off; noise terms of order √Δ have mean zero, one step errs by Δ², there are 1/Δ steps."),
        (1, "(c) Compares at equal numbers of evaluations, stages counted, and says that order pays only with enough of them."),
    ],
}
