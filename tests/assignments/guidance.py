"""Wrong and right answers to assignment 6: every wrong one must lose points, every right one must get them all."""

from frame import each_with


def _variants(base: str, **changes: tuple[str, str]) -> dict[str, str]:
    return each_with(base, {label.replace("_", " "): change for label, change in changes.items()})


CLASSIFIER = '''
def classifier_guided(out, x, alpha, sigma, log_prob, scale):
    with torch.enable_grad():
        at = x.detach().clone().requires_grad_()
        push = torch.autograd.grad(log_prob(at).sum(), at)[0]
    shape = (-1,) + (1,) * (x.ndim - 1)
    a, s = alpha.reshape(shape), sigma.reshape(shape)
    return out + scale * ({{q1_factor}}) * push
'''
INTERVAL = '''
def guided(model, {{letter}}, low, high):
    def call(x, alpha, sigma, y):
        told = model(x, alpha, sigma, y)
        if low < {{measure}} < high:
            plain = model(x, alpha, sigma, None)
            return {{s}} * told + (1 - {{s}}) * plain
        return told
    return call
'''
ORDERS = '''
def two_orders(prior, cond, {{letter}}, alpha, sigma):
    (m0, V), (m1, v) = prior, cond
    s = {{s}}
    P = (1 - s) / V + s / v
    mean = ((1 - s) * m0 / V + s * m1 / v) / P
    first = alpha * mean, alpha**2 / P + sigma**2
    V, v = alpha**2 * V + sigma**2, alpha**2 * v + sigma**2
    Q = (1 - s) / V + s / v
    second = ((1 - s) * alpha * m0 / V + s * alpha * m1 / v) / Q, 1 / Q
    return first, second
'''
VARIANCE = '''
def guided_variance(V, v, {{letter}}, low, high):
    def at(m):
        A = {{A_of_m}}
        return A * V + 1 - A, A * v + 1 - A
    (Va, va), (Vb, vb) = at({{noisy}}), at({{clean}})
    s = {{s}}
    factor = (Vb / Va) ** (1 - s) * (vb / va) ** s
    return va * factor * v / vb
'''
THRESHOLD = '''
def threshold(eps, x, alpha, sigma, quantile):
    x0 = (x - sigma * eps) / alpha
    b = torch.quantile(x0.abs().flatten(1), quantile, dim=1)
    b = b.clamp(min={{L}}).reshape((-1,) + (1,) * (x.ndim - 1))
    x0 = torch.maximum(torch.minimum(x0, b), -b) * {{L}} / b
    new = (x - alpha * x0) / sigma
    return x0, new
'''
TWO_M = '''
def solve_2m(model, x, alphas, sigmas):
    lam = torch.log(alphas / sigmas)
    old = None
    for i in range(len(alphas) - 1):
        f = model(x, alphas[i], sigmas[i])
        if sigmas[i + 1] == 0:
            x = float(alphas[i + 1]) * f
            continue
        h = float(lam[i + 1] - lam[i])
        D = f
        if old is not None:
            r = float(lam[i] - lam[i - 1]) / h
            D = (1 + 1 / (2 * r)) * f - 1 / (2 * r) * old
        x = float(sigmas[i + 1] / sigmas[i]) * x - float(alphas[i + 1]) * math.expm1(-h) * D
        old = f
    return x
'''

WRONG = {
    "q1_classifier": _variants(
        CLASSIFIER,
        wrong_sign=("out + scale", "out - scale"),
        another_power_of_sigma=("{{q1_factor}}", "{{q1_power}}"),
        a_factor_left_out=("{{q1_factor}}", "{{q1_bare}}"),
        ignores_the_scale=("out + scale *", "out +"),
        scale_plus_one=("out + scale", "out + (1 + scale)"),
        scale_of_the_whole=("out + scale * ({{q1_factor}}) * push", "out + scale * (({{q1_factor}}) * push + out)"),
        mean_over_the_batch=(".sum(), at", ".mean(), at"),
        gradient_of_the_probability=("log_prob(at).sum()", "log_prob(at).exp().sum()"),
        swaps_alpha_and_sigma=("a, s = alpha.reshape(shape), sigma.reshape(shape)", "s, a = alpha.reshape(shape), sigma.reshape(shape)"),
        fails_under_no_grad=("    with torch.enable_grad():\n        at = x.detach().clone().requires_grad_()\n"
                             "        push = torch.autograd.grad(log_prob(at).sum(), at)[0]",
                             "    at = x.detach().clone().requires_grad_()\n    push = torch.autograd.grad(log_prob(at).sum(), at)[0]"),
        changes_x=("at = x.detach().clone().requires_grad_()", "at = x.requires_grad_()"),
        points_only=("(-1,) + (1,) * (x.ndim - 1)", "(-1, 1)"),
        level_of_the_first_sample=("alpha.reshape(shape), sigma.reshape(shape)", "alpha[0], sigma[0]"),
    ),
    "q2_interval": _variants(
        INTERVAL,
        the_other_convention=("{{s}} * told + (1 - {{s}}) * plain", "{{other}} * told + (1 - {{other}}) * plain"),
        roles_swapped=("{{s}} * told + (1 - {{s}}) * plain", "{{s}} * plain + (1 - {{s}}) * told"),
        weights_that_do_not_sum_to_one=("{{s}} * told + (1 - {{s}}) * plain", "{{s}} * told - {{s}} * plain"),
        plus_for_minus=("(1 - {{s}}) * plain", "({{s}} - 1) * plain"),
        unconditional_outside=("        return told\n", "        return model(x, alpha, sigma, None)\n"),
        no_interval=("if low < {{measure}} < high:", "if True:"),
        outside_for_inside=("if low < {{measure}} < high:", "if not low < {{measure}} < high:"),
        another_clock=("{{measure}}", "{{measure_wrong}}"),
        a_clock_that_runs_backwards=("{{measure}}", "{{measure_other}}"),
        only_the_upper_end=("low < {{measure}} < high", "{{measure}} < high"),
        only_the_lower_end=("low < {{measure}} < high", "low < {{measure}}"),
        strength_cut_at_zero=("        told = model",
                              "        nonlocal {{letter}}\n        {{letter}} = max({{letter}}, 0.0)\n        told = model"),
        always_two_calls=("        if low", "        plain = model(x, alpha, sigma, None)\n        if low"),
        label_fixed=("told = model(x, alpha, sigma, y)", "told = model(x, alpha, sigma, 1)"),
    ),
    "q3_two_orders": _variants(
        ORDERS,
        the_pairs_swapped=("return first, second", "return second, first"),
        one_order_twice=("return first, second", "return first, first"),
        the_other_order_twice=("return first, second", "return second, second"),
        the_other_convention=("s = {{s}}", "s = {{other}}"),
        tilt_by_s_without_1_minus_s=("P = (1 - s) / V + s / v", "P = 1 / V + s / v"),
        means_not_divided_by_variance=("((1 - s) * m0 / V + s * m1 / v) / P", "(1 - s) * m0 + s * m1"),
        variances_mixed_linearly=("alpha**2 / P + sigma**2", "alpha**2 * ((1 - s) * V + s * v) + sigma**2"),
        standard_deviation=("1 / Q\n", "1 / Q**0.5\n"),
        alpha_not_squared=("alpha**2 / P", "alpha / P"),
        sigma_not_squared=("alpha**2 / P + sigma**2", "alpha**2 / P + sigma"),
        no_noise_added=("alpha**2 / P + sigma**2", "alpha**2 / P"),
        means_without_alpha=("((1 - s) * alpha * m0 / V + s * alpha * m1 / v) / Q", "((1 - s) * m0 / V + s * m1 / v) / Q"),
        prior_mean_taken_as_zero=("(1 - s) * m0 / V + s * m1 / v", "s * m1 / v"),
        assumes_a_variance_preserving_path=("V, v = alpha**2 * V + sigma**2, alpha**2 * v + sigma**2",
                                            "V, v = alpha**2 * V + 1 - alpha**2, alpha**2 * v + 1 - alpha**2"),
    ),
    "q5_variance": _variants(
        VARIANCE,
        the_other_convention=("s = {{s}}", "s = {{other}}"),
        standard_deviation_for_variance=("(Vb / Va) ** (1 - s) * (vb / va) ** s", "((Vb / Va) ** (1 - s) * (vb / va) ** s) ** 0.5"),
        variance_squared=("(Vb / Va) ** (1 - s) * (vb / va) ** s", "((Vb / Va) ** (1 - s) * (vb / va) ** s) ** 2"),
        the_tilted_density=("    return va * factor * v / vb", "    return 1 / ((1 - s) / V + s / v)"),
        only_the_class=("(Vb / Va) ** (1 - s) * (vb / va) ** s", "(vb / va) ** s"),
        ends_swapped=("at({{noisy}}), at({{clean}})", "at({{clean}}), at({{noisy}})"),
        unconditional_outside=("va * factor * v / vb", "Va * factor * V / Vb"),
        nothing_outside=("va * factor * v / vb", "factor"),
        starts_as_the_class_ends_in_the_interval=("va * factor * v / vb", "va * factor"),
        ignores_the_interval=("at({{noisy}}), at({{clean}})", "(1.0, 1.0), (V, v)"),
        a_wrong_clock=("{{A_of_m}}", "{{A_wrong}}"),
        classes_swapped=("return A * V + 1 - A, A * v + 1 - A", "return A * v + 1 - A, A * V + 1 - A"),
        alpha_for_its_square=("A * V + 1 - A, A * v + 1 - A", "A**0.5 * V + 1 - A**0.5, A**0.5 * v + 1 - A**0.5"),
    ),
    "q6_threshold": _variants(
        THRESHOLD,
        noise_of_before=("return x0, new", "return x0, eps"),
        clips_without_scaling=(" * {{L}} / b", ""),
        scales_without_clipping=("torch.maximum(torch.minimum(x0, b), -b)", "x0"),
        static_clipping=("torch.maximum(torch.minimum(x0, b), -b) * {{L}} / b", "x0.clamp(-{{L}}, {{L}})"),
        no_least_threshold=(".clamp(min={{L}})", ""),
        quantile_without_size=("x0.abs().flatten(1)", "x0.flatten(1)"),
        quantile_of_the_batch=("torch.quantile(x0.abs().flatten(1), quantile, dim=1)",
                               "torch.quantile(x0.abs().flatten(), quantile).expand(len(x))"),
        largest_for_the_quantile=("torch.quantile(x0.abs().flatten(1), quantile, dim=1)", "x0.abs().flatten(1).max(1).values"),
        another_quantile=("x0.abs().flatten(1), quantile", "x0.abs().flatten(1), 0.995"),
        swaps_alpha_and_sigma=("x0 = (x - sigma * eps) / alpha", "x0 = (x - alpha * eps) / sigma"),
        thresholds_the_state=("x0 = (x - sigma * eps) / alpha", "x0 = x"),
        twice_the_range=("* {{L}} / b", "* 2 * {{L}} / b"),
        per_channel=("torch.quantile(x0.abs().flatten(1), quantile, dim=1)\n"
                     "    b = b.clamp(min={{L}}).reshape((-1,) + (1,) * (x.ndim - 1))",
                     "torch.quantile(x0.abs().flatten(2) if x.ndim > 2 else x0.abs(), quantile, dim=-1, keepdim=True)\n"
                     "    b = b.clamp(min={{L}}).reshape(x.shape[:2] + (1,) * (x.ndim - 2)) if x.ndim > 2 else b.clamp(min={{L}})"),
        double_precision_always=("x0 = (x - sigma * eps) / alpha", "x0 = (x.double() - sigma * eps.double()) / alpha"),
        writes_into_x=("x0 = (x - sigma * eps) / alpha", "x0 = x.sub_(sigma * eps).div_(alpha)"),
    ),
    "q7_two_m": _variants(
        TWO_M,
        order_1=("D = (1 + 1 / (2 * r)) * f - 1 / (2 * r) * old", "D = f"),
        r_upside_down=("r = float(lam[i] - lam[i - 1]) / h", "r = h / float(lam[i] - lam[i - 1])"),
        equal_steps_assumed=("r = float(lam[i] - lam[i - 1]) / h", "r = 1.0"),
        correction_backwards=("(1 + 1 / (2 * r)) * f - 1 / (2 * r) * old", "(1 - 1 / (2 * r)) * f + 1 / (2 * r) * old"),
        half_left_out=("(1 + 1 / (2 * r)) * f - 1 / (2 * r) * old", "(1 + 1 / r) * f - 1 / r * old"),
        sign_of_the_exponent=("math.expm1(-h)", "math.expm1(h)"),
        sign_of_the_second_term=("* x - float(alphas[i + 1])", "* x + float(alphas[i + 1])"),
        alpha_of_the_start=("float(alphas[i + 1]) * math.expm1", "float(alphas[i]) * math.expm1"),
        sigma_for_alpha=("float(alphas[i + 1]) * math.expm1", "float(sigmas[i + 1]) * math.expm1"),
        ratio_of_alphas=("float(sigmas[i + 1] / sigmas[i]) * x", "float(alphas[i + 1] / alphas[i]) * x"),
        whole_log_snr=("lam = torch.log(alphas / sigmas)", "lam = 2 * torch.log(alphas / sigmas)"),
        last_step_left_out=("range(len(alphas) - 1)", "range(len(alphas) - 2)"),
        nan_at_the_data=("if sigmas[i + 1] == 0:", "if False:"),
        no_step_to_the_data=("x = float(alphas[i + 1]) * f\n", "\n"),
        asks_at_the_end_of_the_step=("f = model(x, alphas[i], sigmas[i])", "f = model(x, alphas[i + 1], sigmas[i + 1])"),
        the_past_never_moves_on=("        old = f\n", "        old = f if old is None else old\n"),
        sde_weights=("math.expm1(-h)", "math.expm1(-2 * h)"),
        two_calls_a_step=("        D = f\n", "        D = 0.5 * (f + model(x, alphas[i], sigmas[i]))\n"),
    ),
}

RIGHT = {
    "q1_classifier": {
        "broadcast from behind": '''
def classifier_guided(out, x, alpha, sigma, log_prob, scale):
    z = x.detach().clone()
    with torch.enable_grad():
        z.requires_grad_(True)
        log_prob(z).sum().backward()
    a, s = alpha, sigma
    change = ({{q1_factor}}) * z.grad.movedim(0, -1)
    return out + (scale * change).movedim(-1, 0)
''',
        "by way of the score": '''
def classifier_guided(out, x, alpha, sigma, log_prob, scale):
    one = [len(x)] + [1] * (x.dim() - 1)
    a, s = alpha.view(one), sigma.view(one)
    with torch.enable_grad():
        z = torch.clone(x).detach().requires_grad_(True)
        g, = torch.autograd.grad(torch.sum(log_prob(z)), z)
    eps = -s * scale * g
    x0 = -s / a * eps
    return (out + ({{say}})).detach()
''',
        "sample by sample": '''
def classifier_guided(out, x, alpha, sigma, log_prob, scale):
    with torch.set_grad_enabled(True):
        z = torch.tensor(x.detach().numpy().copy(), requires_grad=True)
        g = torch.autograd.grad(log_prob(z).sum(), z)[0]
    rows = []
    for o, push, a, s in zip(out, g, alpha, sigma):
        rows.append(o + push * scale * ({{q1_factor}}))
    return torch.stack(rows).detach()
''',
    },
    "q2_interval": {
        "weights": INTERVAL,
        "lerp": '''
def guided(model, {{letter}}, low, high):
    def call(x, alpha, sigma, y):
        eps = model(x, alpha, sigma, y)
        m = {{measure}}
        if m > low and m < high:
            eps = torch.lerp(model(x, alpha, sigma, None), eps, float({{s}}))
        return eps
    return call
''',
        "a class with a call": '''
class guided:
    def __init__(self, model, {{letter}}, low, high):
        self.model, self.s, self.ends = model, {{s}}, (low, high)

    def __call__(self, x, alpha, sigma, y):
        m = {{measure}}
        if m <= self.ends[0] or m >= self.ends[1]:
            return self.model(x, alpha, sigma, y)
        told, plain = (self.model(x, alpha, sigma, c) for c in (y, None))
        return plain + self.s * (told - plain)
''',
    },
    "q3_two_orders": {
        "in one go": ORDERS,
        "natural parameters": '''
def two_orders(prior, cond, {{letter}}, alpha, sigma):
    import numpy as np
    s = {{s}}

    def natural(m, c):
        return np.array([m / c, 1 / c])

    def moments(n):
        return n[0] / n[1], 1 / n[1]

    def noised(pair):
        return alpha * pair[0], alpha**2 * pair[1] + sigma**2

    tilted = moments((1 - s) * natural(*prior) + s * natural(*cond))
    second = moments((1 - s) * natural(*noised(prior)) + s * natural(*noised(cond)))
    return noised(tilted), second
''',
        "a line for the score, tensors": '''
def two_orders(prior, cond, {{letter}}, alpha, sigma):
    def from_score(a, b):
        # the guided score at 0 and its slope
        f = lambda x: -(1 - {{s}}) * (x - a[0]) / a[1] - {{s}} * (x - b[0]) / b[1]
        slope = f(1.0) - f(0.0)
        return torch.tensor(-f(0.0) / slope, dtype=torch.float64), torch.tensor(-1 / slope, dtype=torch.float64)

    def wider(g):
        return g[0] * alpha, g[1] * alpha * alpha + sigma * sigma

    return wider(from_score(prior, cond)), from_score(wider(prior), wider(cond))
''',
    },
    "q5_variance": {
        "both ends": VARIANCE,
        "logarithms": '''
def guided_variance(V, v, {{letter}}, low, high):
    def log_gap(m):
        A = {{A_of_m}}
        return math.log1p(A * (v - 1)) - math.log1p(A * (V - 1))
    return math.exp(math.log(v) + ({{s}} - 1) * (log_gap({{clean}}) - log_gap({{noisy}})))
''',
        "three stretches": '''
def guided_variance(V, v, {{letter}}, low, high):
    import numpy as np
    A = np.array([0.0] + [{{A_of_m}} for m in ({{noisy}}, {{clean}})] + [1.0])
    logs = np.diff(np.log(A * V + 1 - A)), np.diff(np.log(A * v + 1 - A))
    s = np.array([1.0, {{s}}, 1.0])
    return float(np.exp(((1 - s) * logs[0] + s * logs[1]).sum()))
''',
    },
    "q6_threshold": {
        "maximum and minimum": THRESHOLD,
        "numpy, sample by sample": '''
def threshold(eps, x, alpha, sigma, quantile):
    import numpy as np
    means = []
    for e, y in zip(eps.numpy().astype(np.float64), x.numpy().astype(np.float64)):
        m = (y - sigma * e) / alpha
        b = max(np.quantile(np.abs(m), quantile), {{L}})
        means.append(np.clip(m, -b, b) / b * {{L}})
    mean = np.stack(means)
    noise = (x.numpy() - alpha * mean) / sigma
    return torch.from_numpy(mean).to(x.dtype), torch.from_numpy(noise).to(x.dtype)
''',
        "moves the noise by the mean's shift": '''
def threshold(eps, x, alpha, sigma, quantile):
    mean = (x - sigma * eps) / alpha
    flat = mean.reshape(len(x), -1)
    b = torch.stack([torch.quantile(row.abs(), quantile) for row in flat])
    b = torch.maximum(b, torch.full_like(b, {{L}})).unsqueeze(1)
    new = ((flat / b).clamp(-1, 1) * {{L}}).reshape(x.shape)
    return new, eps + alpha / sigma * (mean - new)
''',
    },
    "q7_two_m": {
        "the paper's box": TWO_M,
        "the line integrated exactly": '''
def solve_2m(model, x, alphas, sigmas):
    previous = None
    for a, s, b, t in zip(alphas[:-1].tolist(), sigmas[:-1].tolist(), alphas[1:].tolist(), sigmas[1:].tolist()):
        f = model(x, a, s)
        here = math.log(a / s)
        if t == 0:
            x = b * f
            continue
        h = math.log(b / t) - here
        m0 = 1 - math.exp(-h)
        total = m0 * f
        if previous is not None:
            total = total + (h - m0) * (f - previous[0]) / (here - previous[1])
        x = t / s * x + b * total
        previous = f, here
    return x
''',
        "in y = x / sigma": '''
def solve_2m(model, x, alphas, sigmas):
    snr = alphas / sigmas  # e^lambda
    history = []
    for i in range(len(snr) - 1):
        history.append((model(x, alphas[i], sigmas[i]), snr[i].log().item()))
        mean, at = history[-1]
        if not torch.isfinite(snr[i + 1]):
            x = mean
            break
        if i:
            older, before = history[-2]
            middle = (snr[i + 1].log().item() - at) / 2
            mean = mean + (mean - older) * (middle / (at - before))
        x = (x / sigmas[i].item() + (snr[i + 1] - snr[i]).item() * mean) * sigmas[i + 1].item()
    return x
''',
    },
}
